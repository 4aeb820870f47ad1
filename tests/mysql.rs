//! The MySQL family against real servers: MariaDB 10.11 and MySQL 9.7, every test on both; replication on MariaDB 11.8, too.
//!
//! `TROVE_TEST_ROOTS` names a directory with the root file systems `mariadb-10.11`, `mariadb-11.8` and `mysql-9.7`; the servers run from there in
//! mount namespaces of their own, as root of this machine, and end with the test program.

#![expect(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "datastore/harness.rs"]
mod harness;
#[path = "datastore/hostile.rs"]
mod hostile;
#[path = "mysql/identity.rs"]
mod identity;
#[path = "datastore/ports.rs"]
mod ports;
#[path = "mysql/support.rs"]
mod support;

#[path = "mysql/backup_tools.rs"]
mod backup_tools;
#[path = "mysql/client_tls.rs"]
mod client_tls;
#[path = "mysql/configuration.rs"]
mod configuration;
#[path = "mysql/databases.rs"]
mod databases;
#[path = "mysql/drill.rs"]
mod drill;
#[path = "mysql/health.rs"]
mod health;
#[path = "mysql/logs.rs"]
mod logs;
#[path = "mysql/prepare.rs"]
mod prepare;
#[path = "mysql/quoting.rs"]
mod quoting;
#[path = "mysql/replica_set.rs"]
mod replica_set;
#[path = "mysql/replication.rs"]
mod replication;
#[path = "mysql/replication_kills.rs"]
mod replication_kills;
#[path = "mysql/replication_tls.rs"]
mod replication_tls;
#[path = "mysql/root.rs"]
mod root;
#[path = "mysql/snapshots.rs"]
mod snapshots;
#[path = "mysql/users.rs"]
mod users;
