//! Replication of MySQL's family: by GTID (MySQL's or MariaDB's) or by place in the binary log.

mod attach;
mod context;
mod coordinates;
mod detach;
mod dialect;
mod gtid_position;
mod gtid_set;
mod host;
mod memory;
mod progress;
mod server;
mod snapshot_place;
mod start;
mod status;
mod strategy;
mod tls;
mod user;

pub use host::{Host, Role, RoleOptions};
pub use snapshot_place::SnapshotPlace;
pub use strategy::{MySqlReplication, Positioning};
