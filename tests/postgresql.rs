//! PostgreSQL against real servers: this machine's, controlled as `service_control = process` does.

#![expect(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "datastore/harness.rs"]
mod harness;
#[path = "datastore/hostile.rs"]
mod hostile;
#[path = "mysql/identity.rs"]
mod identity;
#[path = "datastore/ports.rs"]
mod ports;
#[path = "postgresql/support.rs"]
mod support;

#[path = "postgresql/backup.rs"]
mod backup;
#[path = "postgresql/client_tls.rs"]
mod client_tls;
#[path = "postgresql/configuration.rs"]
mod configuration;
#[path = "postgresql/databases.rs"]
mod databases;
#[path = "postgresql/incremental.rs"]
mod incremental;
#[path = "postgresql/logs.rs"]
mod logs;
#[path = "postgresql/prepare.rs"]
mod prepare;
#[path = "postgresql/quoting.rs"]
mod quoting;
#[path = "postgresql/replication.rs"]
mod replication;
#[path = "postgresql/replication_tls.rs"]
mod replication_tls;
#[path = "postgresql/upgrade.rs"]
mod upgrade;
#[path = "postgresql/users.rs"]
mod users;
