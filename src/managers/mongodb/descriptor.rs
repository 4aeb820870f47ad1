//! Fixed facts of MongoDB.

use crate::managers::{Descriptor, Facet};

/// MongoDB, and Percona Server for MongoDB in its place.
pub static MONGODB: Descriptor = Descriptor {
    name: "mongodb",
    port: 27017,
    services: &["mongod", "mongodb"],
    packages: &["mongodb-org"],
    owners: &["mongodb", "mongod"],
    mount_point: "/var/lib/mongodb",
    // Train's (trove/common/cfg.py).
    ignore_users: &["admin.os_admin", "admin.root"],
    ignore_dbs: &["admin", "local", "config"],
    exposed_logs: &[],
    absent: &[&[Facet::SelfUpdate, Facet::GaleraCluster, Facet::RedisCluster, Facet::CassandraCluster, Facet::VerticaCluster]],
};
