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
#[path = "rpc/database.rs"]
mod database;
#[path = "rpc/recovery.rs"]
mod recovery;
#[path = "rpc/secure.rs"]
mod secure;
#[path = "rpc/support.rs"]
mod support;
