//! Replication: how instances of a datastore follow each other ([`ReplicationStrategy`]). The flow around a strategy is the same for all
//! (`managers::replication`).

pub mod mysql;
mod strategy;

pub use strategy::ReplicationStrategy;
