//! MongoDB against real servers: the mongod that dev/test puts on this machine, controlled as `service_control = process` does.

#![expect(clippy::unwrap_used, reason = "a test ends where an expectation fails")]
#![expect(clippy::disallowed_methods, reason = "the agent does not run the compiler and the tar of tests")]

#[path = "datastore/harness.rs"]
mod harness;
#[path = "datastore/ports.rs"]
mod ports;
#[path = "datastore/preload.rs"]
mod preload;
#[path = "mongodb/support.rs"]
mod support;

#[path = "mongodb/accounts.rs"]
mod accounts;
#[path = "mongodb/backup.rs"]
mod backup;
#[path = "mongodb/clocks.rs"]
mod clocks;
#[path = "mongodb/cluster.rs"]
mod cluster;
#[path = "mongodb/cluster_faults.rs"]
mod cluster_faults;
#[path = "mongodb/configuration.rs"]
mod configuration;
#[path = "mongodb/prepare.rs"]
mod prepare;
#[path = "mongodb/router.rs"]
mod router;
#[path = "mongodb/upgrade.rs"]
mod upgrade;
