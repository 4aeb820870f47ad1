//! Redis against real servers: this machine's redis-server, controlled as `service_control = process` does.

#![expect(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "datastore/harness.rs"]
mod harness;
#[path = "mysql/identity.rs"]
mod identity;
#[path = "datastore/ports.rs"]
mod ports;
#[path = "redis/support.rs"]
mod support;

#[path = "redis/backup.rs"]
mod backup;
#[path = "redis/client_tls.rs"]
mod client_tls;
#[path = "redis/cluster.rs"]
mod cluster;
#[path = "redis/configuration.rs"]
mod configuration;
#[path = "redis/prepare.rs"]
mod prepare;
#[path = "redis/replication.rs"]
mod replication;
#[path = "redis/root.rs"]
mod root;
#[path = "redis/upgrade.rs"]
mod upgrade;
