//! Datastore managers: what a guest can do, whatever runs on it.
//!
//! A datastore is a folder: a static [`Descriptor`] and small facets. What it has no facet for is answered with
//! `DatastoreOperationNotSupported` by the dispatcher.

pub mod backup;
pub mod configuration;
pub mod data_directory;
mod descriptor;
pub mod drill;
mod facet;
pub mod lifecycle;
pub mod logs;
mod manager;
pub mod modules;
pub mod mongodb;
pub mod mysql;
mod owner;
mod paging;
pub mod postgresql;
pub mod prepare;
pub mod private;
pub mod redis;
pub mod registry;
pub mod replication;
mod reserved;
pub mod restore;
pub mod restoring;
mod snapshot;
pub mod tls;
pub mod upgrade;

pub use descriptor::Descriptor;
pub use facet::Facet;
pub use manager::{
    Backups, ConfigGroups, DatabaseAdmin, DatastoreManager, Deps, MongoDbCluster, RedisCluster, RestoreTarget, RootAccess, StatusProbe,
    UserAdmin,
};
pub use owner::Owner;
pub use reserved::Reserved;
pub use snapshot::VolumeSnapshots;
pub use upgrade::Upgrades;
