//! [`upload`]: cuts what [`super::encode`] yields into segments and stores them.

use std::time::Duration;

use camino::Utf8PathBuf;

use super::Progress;
use crate::error::{Error, Result};
use crate::model::RequestContext;
use crate::op::Op;
use crate::strategies::storage::{ByteStream, ObjectName, Segment, Storage};

/// How often, and how patiently, a failed transfer is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all without progress between them.
    pub attempts: u32,
    /// Pause after the first failure; it doubles with each.
    pub first_pause: Duration,
    /// The pause grows no longer than this.
    pub longest_pause: Duration,
    /// A transfer in which nothing moves for this long has failed.
    pub stall: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Retry { attempts: 6, first_pause: seconds(1), longest_pause: seconds(30), stall: seconds(120) }
    }
}

/// Bounds of an upload.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `backup_segment_max_size`: bytes in one segment.
    pub segment_max_size: u64,
    /// `backup_spool_dir`: where a segment is kept until it is stored. Without one, or without space in it, segments are small and kept in memory.
    pub spool_dir: Option<Utf8PathBuf>,
    /// Retries of each segment.
    pub retry: Retry,
}

/// The stored segments of a backup that has no manifest yet.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// In order; at least one.
    pub segments: Vec<Segment>,
    /// All bytes.
    pub size: u64,
}

impl Uploaded {
    /// Compares the checksum [`Storage::put_manifest`] returned with what was sent.
    ///
    /// # Errors
    /// They differ: what is stored is not the backup.
    pub fn verify(&self, stored: &str) -> Result<()> {
        Err(Error::guest(stored))
    }
}

/// Stores `encoded` as segments of `name`, and nothing else: the manifest is the caller's, once the tool's verdict is known. After an error, and
/// after any failure up to the manifest, the caller must [`discard`].
///
/// # Errors
/// The stream's own error; [`Error::Cancelled`]; a segment that could not be stored within [`Retry`].
pub async fn upload(
    op: &Op,
    storage: &dyn Storage,
    name: &ObjectName,
    encoded: ByteStream,
    limits: &Limits,
    progress: &Progress,
) -> Result<Uploaded> {
    drop((op, storage, name, encoded, limits, progress));
    Err(Error::guest("not yet"))
}

/// Deletes what there is of a failed backup. Has a deadline and an operation of its own: the backup's may be cancelled.
///
/// # Errors
/// Something is still there.
pub async fn discard(storage: &dyn Storage, name: &ObjectName, context: RequestContext) -> Result<()> {
    drop((storage, name, context));
    Err(Error::guest("not yet"))
}
