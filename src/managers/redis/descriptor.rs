//! Fixed facts of Redis and Valkey.

use crate::managers::{Descriptor, Facet};

/// Redis, and Valkey in its place.
pub static REDIS: Descriptor = Descriptor {
    name: "redis",
    port: 6379,
    services: &["redis-server", "redis", "valkey-server", "valkey"],
    packages: &["redis-server"],
    owners: &["redis", "valkey"],
    mount_point: "/var/lib/redis",
    ignore_users: &[],
    ignore_dbs: &[],
    exposed_logs: &[],
    absent: &[&[Facet::SelfUpdate, Facet::GaleraCluster, Facet::MongoDbCluster, Facet::CassandraCluster, Facet::VerticaCluster]],
};
