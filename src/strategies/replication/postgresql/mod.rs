//! Replication of PostgreSQL: streaming, with a slot for each replica at its source.

mod account;
mod attach;
mod conninfo;
mod detach;
mod host;
mod memory;
mod place;
mod slots;
mod source;
mod strategy;
mod tls;

pub use conninfo::Conninfo;
pub use host::{Host, Role, RoleOptions};
pub use strategy::PostgreSqlReplication;
