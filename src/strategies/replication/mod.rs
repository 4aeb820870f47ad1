//! Replication: how instances of a datastore follow each other ([`ReplicationStrategy`]). The flow around a strategy is the same for all
//! (`managers::replication`).

pub mod mysql;
pub mod postgresql;
pub mod redis;
mod remembered;
mod source_tls;
mod strategy;

pub use source_tls::Trust;
pub use strategy::ReplicationStrategy;
