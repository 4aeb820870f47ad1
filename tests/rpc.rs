//! Black box: the real binary, a real RabbitMQ and the real oslo.messaging. See `tests/rpc/support.rs` for what must be there.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on has failed; the harness starts programs of its own"
)]

#[path = "rpc/backup.rs"]
mod backup;
#[path = "rpc/bad_input.rs"]
mod bad_input;
#[path = "rpc/brokers.rs"]
mod brokers;
#[path = "rpc/calls.rs"]
mod calls;
#[path = "rpc/certificates.rs"]
mod certificates;
#[path = "rpc/crash.rs"]
mod crash;
#[path = "rpc/crash_points.rs"]
mod crash_points;
#[path = "rpc/crash_points_of_mongodb.rs"]
mod crash_points_of_mongodb;
#[path = "rpc/crash_points_of_postgresql.rs"]
mod crash_points_of_postgresql;
#[path = "rpc/crash_points_of_redis.rs"]
mod crash_points_of_redis;
#[path = "rpc/crash_points_of_servers.rs"]
mod crash_points_of_servers;
#[path = "rpc/database.rs"]
mod database;
#[path = "rpc/doctor.rs"]
mod doctor;
#[path = "rpc/faults.rs"]
mod faults;
#[path = "rpc/limits.rs"]
mod limits;
#[path = "rpc/logs.rs"]
mod logs;
#[path = "rpc/metrics.rs"]
mod metrics;
#[path = "rpc/mongodb_backup.rs"]
mod mongodb_backup;
#[path = "rpc/oslo.rs"]
mod oslo;
#[path = "datastore/ports.rs"]
mod ports;
#[path = "datastore/preload.rs"]
mod preload;
#[path = "rpc/proxy.rs"]
mod proxy;
#[path = "rpc/rabbit.rs"]
mod rabbit;
#[path = "rpc/recovery.rs"]
mod recovery;
#[path = "rpc/rotation.rs"]
mod rotation;
#[path = "rpc/secure.rs"]
mod secure;
#[path = "rpc/sql.rs"]
mod sql;
#[path = "rpc/status.rs"]
mod status;
#[path = "rpc/support.rs"]
mod support;
#[path = "rpc/sweeps.rs"]
mod sweeps;
#[path = "rpc/tls.rs"]
mod tls;
#[path = "rpc/topology.rs"]
mod topology;
