//! PostgreSQL.

mod access;
mod accounts;
mod admin;
mod backups;
mod base_restore;
mod configuration;
mod copied;
mod databases;
mod descriptor;
mod examine;
mod following;
mod groups;
mod host_rules;
mod layout;
mod load;
mod logs;
mod manager;
mod names;
mod new_major;
mod private_server;
mod program;
mod reload;
mod roles;
mod root;
mod server;
mod tables;
mod tls;
mod upgrading;

pub use descriptor::POSTGRESQL;
pub use layout::Layout;
pub use manager::PostgreSqlManager;
pub use program::Version;
