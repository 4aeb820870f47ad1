//! Fixed facts of the family's three datastores.

use crate::managers::{Descriptor, Facet};

const IGNORE_USERS: &[&str] = &["os_admin", "root"];

// Trove's list for mysql, and what Kilo had for a data directory that is the volume itself. `sys` came to MariaDB after Trove's lists.
const IGNORE_DBS: &[&str] = &["mysql", "information_schema", "performance_schema", "sys", "lost+found", "#mysql50#lost+found"];

const FOREIGN: &[Facet] = &[Facet::SelfUpdate, Facet::MongoDbCluster, Facet::RedisCluster, Facet::CassandraCluster, Facet::VerticaCluster];

const BASE: Descriptor = Descriptor {
    name: "mysql",
    port: 3306,
    services: &["mysql", "mysqld", "mysql-server"],
    packages: &["mysql-server"],
    owners: &["mysql"],
    mount_point: "/var/lib/mysql",
    ignore_users: IGNORE_USERS,
    ignore_dbs: IGNORE_DBS,
    exposed_logs: &["general", "slow_query"],
    absent: &[FOREIGN, &[Facet::GaleraCluster]],
};

/// MySQL.
pub static MYSQL: Descriptor = BASE;

/// Percona Server.
pub static PERCONA: Descriptor = Descriptor { name: "percona", packages: &["percona-server-server"], ..BASE };

/// MariaDB.
pub static MARIADB: Descriptor = Descriptor {
    name: "mariadb",
    services: &["mariadb", "mysql", "mysqld", "mysql-server"],
    packages: &["mariadb-server"],
    absent: &[FOREIGN],
    ..BASE
};
