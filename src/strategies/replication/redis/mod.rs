//! Replication of Redis and Valkey.

mod host;
mod state;
mod strategy;

pub use host::{Host, Role};
pub use strategy::RedisSyncReplication;
