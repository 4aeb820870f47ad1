//! PostgreSQL.

mod access;
mod accounts;
mod admin;
mod configuration;
mod databases;
mod descriptor;
mod groups;
mod host_rules;
mod layout;
mod manager;
mod names;
mod program;
mod root;
mod server;
mod tables;

pub use descriptor::POSTGRESQL;
pub use layout::Layout;
pub use manager::PostgreSqlManager;
pub use program::Version;
