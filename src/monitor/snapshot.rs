//! [`Snapshot`]: what the socket says. Additions are compatible; names stay.

use serde::{Deserialize, Serialize};

use crate::model::MemberRole;
use crate::progress::ProgressSnapshot;
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
    /// The instance's part in replication or in a cluster, as its server says; `None` when it is not in service, or does not say.
    #[serde(default)]
    pub role: Option<MemberRole>,
    /// The last heartbeat that the broker has confirmed.
    #[serde(default)]
    pub last_heartbeat: Option<HeartbeatView>,
    /// The last backup this guest has made.
    #[serde(default)]
    pub last_backup: Option<BackupView>,
    /// Operations under way, the oldest first.
    pub operations: Vec<OperationView>,
}

/// A heartbeat that has left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatView {
    /// When, in seconds since 1970.
    pub at: f64,
    /// What it said, in the controller's words.
    pub status: String,
}

/// The end of a backup, as the conductor was told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupView {
    /// The controller's id.
    pub id: String,
    /// When it ended, in seconds since 1970.
    pub ended: f64,
    /// `COMPLETED` or `FAILED`.
    pub state: String,
    /// Its type, in the controller's words.
    pub kind: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// What went wrong.
    pub note: Option<String>,
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

/// How far a backup or restore is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgressView {
    /// Bytes the database's tool has written or read.
    pub content: u64,
    /// Bytes of that in storage, or read from there.
    pub stored: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Seconds since it began.
    pub elapsed: f64,
    /// Bytes of content a second since then.
    pub rate: f64,
    /// The part that is done, 0 to 1, as far as that can be told.
    pub fraction: Option<f64>,
    /// Seconds it will still take, likewise.
    pub remaining: Option<f64>,
    /// All of it in words.
    pub words: String,
}

impl From<ProgressSnapshot> for ProgressView {
    fn from(now: ProgressSnapshot) -> Self {
        ProgressView {
            content: now.content,
            stored: now.stored,
            retries: now.retries,
            elapsed: now.elapsed.as_secs_f64(),
            rate: now.rate(),
            fraction: now.fraction(),
            remaining: now.remaining.map(|remaining| remaining.as_secs_f64()),
            words: now.to_string(),
        }
    }
}
