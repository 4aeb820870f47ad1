//! Redis, and Valkey, which answers to the same manager. What differs between them is asked of the installed program.

mod backups;
mod cluster;
mod configuration;
mod descriptor;
mod directives;
mod groups;
mod layout;
mod logs;
mod manager;
mod program;
mod roles;
mod root;
mod running;
mod server;
mod tls;
mod upgrading;

pub use descriptor::REDIS;
pub use layout::Layout;
pub use manager::RedisManager;
