//! Storage of backups and logs: one contract for Swift (static and dynamic manifests) and a folder, faults, tokens, and python-swiftclient at the other end.
//!
//! `TROVE_TEST_SWIFT` describes a running Swift with Keystone (`python -m bench.with_services keystone -- cargo test --test storage`);
//! `TROVE_TEST_PYTHON` names a Python that has `swiftclient`.

#![expect(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "storage/support.rs"]
mod support;

#[expect(dead_code, reason = "the broker's tests use more of it")]
#[path = "rpc/certificates.rs"]
mod certificates;
#[path = "storage/contract.rs"]
mod contract;
#[path = "storage/doctor.rs"]
mod doctor;
#[path = "storage/faults.rs"]
mod faults;
#[path = "storage/keystone.rs"]
mod keystone;
#[path = "storage/logs.rs"]
mod logs;
#[path = "storage/manifests.rs"]
mod manifests;
#[path = "storage/python.rs"]
mod python;
#[path = "storage/stream.rs"]
mod stream;
#[path = "storage/tls.rs"]
mod tls;
#[path = "backup/tools.rs"]
mod tools;
