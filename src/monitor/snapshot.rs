//! [`Snapshot`]: what the socket says. Additions are compatible; names stay.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::progress::Reading;
use crate::status::Phase;

/// The agent at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of the agent.
    pub version: String,
    /// The instance's id.
    pub guest_id: String,
    /// `datastore_manager`.
    pub datastore_manager: String,
    /// The agent's process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started: f64,
    /// How far the guest is as an instance.
    #[serde(flatten)]
    pub phase: Phase,
    /// Operations under way, the oldest first.
    pub operations: Vec<OperationView>,
}

/// One operation under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationView {
    /// RPC method.
    pub method: String,
    /// `request_id` of its context.
    pub request_id: Option<String>,
    /// Seconds since it began.
    pub elapsed: f64,
    /// How far it is, when it moves bytes.
    pub progress: Option<ProgressView>,
}

/// How far an operation is that moves bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgressView {
    /// Bytes read from the database's tool, or handed to it.
    pub bytes: u64,
    /// How many there will be, as far as can be told beforehand.
    pub expected: Option<u64>,
    /// Seconds since bytes began to move.
    pub elapsed: f64,
    /// Bytes a second since then.
    pub rate: f64,
    /// Seconds it will still take at that rate.
    pub remaining: Option<f64>,
}

impl std::fmt::Display for ProgressView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let elapsed = Duration::try_from_secs_f64(self.elapsed).unwrap_or_default();
        Reading { bytes: self.bytes, expected: self.expected, elapsed }.fmt(f)
    }
}

impl From<Reading> for ProgressView {
    fn from(reading: Reading) -> Self {
        ProgressView {
            bytes: reading.bytes,
            expected: reading.expected,
            elapsed: reading.elapsed.as_secs_f64(),
            rate: reading.rate(),
            remaining: reading.remaining().map(|remaining| remaining.as_secs_f64()),
        }
    }
}
