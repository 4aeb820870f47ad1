//! Fixed facts of PostgreSQL.

use crate::managers::{Descriptor, Facet};

/// PostgreSQL.
pub static POSTGRESQL: Descriptor = Descriptor {
    name: "postgresql",
    port: 5432,
    // Names of units have the version in them: see [`super::Layout::units`].
    services: &["postgresql"],
    packages: &["postgresql"],
    owners: &["postgres"],
    mount_point: "/var/lib/postgresql",
    // Train's, and what its replication logs in as.
    ignore_users: &["os_admin", "postgres", "root", "replicator"],
    ignore_dbs: &["os_admin", "postgres", "template0", "template1"],
    // Trove's (trove/common/cfg.py).
    exposed_logs: &["general"],
    absent: &[&[
        Facet::SelfUpdate,
        Facet::GaleraCluster,
        Facet::MongoDbCluster,
        Facet::RedisCluster,
        Facet::CassandraCluster,
        Facet::VerticaCluster,
    ]],
};
