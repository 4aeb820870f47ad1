//! [`upload`]: cuts what [`super::encode`] yields into segments and stores them.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use camino::Utf8PathBuf;
use tokio_util::sync::CancellationToken;

use super::keep::{Keeper, Kept, plan};
use super::retry::{Failures, moving, stalled};
use super::{Progress, Retry};
use crate::config::BackupSettings;
use crate::error::{Error, Result, ResultExt};
use crate::model::RequestContext;
use crate::op::Op;
use crate::strategies::storage::{ByteSender, ByteStream, ObjectName, Segment, SegmentBody, Storage, byte_stream};

/// Buffers of a segment on their way to storage.
const BODY: usize = 4;
/// What [`discard`] may take in all.
const DISCARD: Duration = Duration::from_secs(300);

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

impl Limits {
    /// What the configuration says.
    pub fn new(settings: &BackupSettings) -> Self {
        Limits { segment_max_size: settings.segment_max_size, spool_dir: settings.spool_dir.clone(), retry: Retry::default() }
    }
}

/// The stored segments of a backup that has no manifest yet.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// In order; at least one.
    pub segments: Vec<Segment>,
    /// All bytes.
    pub size: u64,
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
    let upload = Upload { op, storage, limits, progress };
    let mut source = Source { stream: encoded, rest: Bytes::new() };
    let mut segments = Vec::new();
    // Only a backup of nothing has an empty segment.
    while source.has_more(op).await? || segments.is_empty() {
        segments.push(upload.segment(name.segment(segments.len()), segments.len(), &mut source).await?);
        progress.add_segment();
    }
    let size = segments.iter().map(|segment| segment.size).sum();
    Ok(Uploaded { segments, size })
}

/// Deletes what there is of a failed backup. Has a deadline and an operation of its own: the backup's may be cancelled.
///
/// # Errors
/// Something is still there.
pub async fn discard(storage: &dyn Storage, name: &ObjectName, context: RequestContext) -> Result<()> {
    let op = Op::new(CancellationToken::new(), context);
    let action = format!("delete what was stored of {name}");
    let attempts = async {
        let mut failures = Failures::new(Retry::default());
        while let Err(error) = storage.delete(&op, name).await {
            failures.pause(&op, &action, error).await?;
        }
        Ok(())
    };
    let timeout = |_| Error::Timeout { action: action.clone(), after: DISCARD, detail: String::new() };
    tokio::time::timeout(DISCARD, attempts).await.map_err(timeout)?
}

/// A stream that can be taken in pieces of any size.
struct Source {
    stream: ByteStream,
    /// Received, not taken.
    rest: Bytes,
}

impl Source {
    /// Whether there is another byte. Waits for it.
    async fn has_more(&mut self, op: &Op) -> Result<bool> {
        while self.rest.is_empty() {
            match op.until_cancelled("upload the backup", self.stream.recv()).await? {
                Some(bytes) => self.rest = bytes?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// At most `most` bytes; `None` at the end.
    async fn take(&mut self, op: &Op, most: u64) -> Result<Option<Bytes>> {
        if !self.has_more(op).await? {
            return Ok(None);
        }
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        Ok(Some(self.rest.split_to(length)))
    }
}

struct Upload<'a> {
    op: &'a Op,
    storage: &'a dyn Storage,
    limits: &'a Limits,
    progress: &'a Progress,
}

impl Upload<'_> {
    /// Cuts a segment off the source and stores it, sending it again as often as it takes.
    async fn segment(&self, name: ObjectName, index: usize, source: &mut Source) -> Result<Segment> {
        let (size, store) = plan(index, self.limits.segment_max_size, self.limits.spool_dir.as_deref());
        let keeper = Keeper::start(store)?;
        let mut answer = self.transfer(&name, None, Feed { source, left: size, keeper: Some(&keeper) }).await?;
        let kept = keeper.finish().await?;
        let action = format!("store segment {name}");
        let mut failures = Failures::new(self.limits.retry);
        while let Err(error) = confirmed(&name, &kept, answer) {
            let Some(again) = kept.replay()? else {
                return Err(error).action(format!("{action}, of which there is no copy to send again"));
            };
            failures.pause(self.op, &action, error).await?;
            self.progress.add_retry();
            let mut again = Source { stream: again, rest: Bytes::new() };
            answer = self.transfer(&name, Some(kept.size), Feed { source: &mut again, left: kept.size, keeper: None }).await?;
        }
        Ok(Segment { name, size: kept.size, md5: kept.md5 })
    }

    /// One attempt. The inner result is the store's, the outer one is for what no other attempt can mend. With a keeper, it gets the whole segment
    /// even if the store does not.
    async fn transfer(&self, name: &ObjectName, size: Option<u64>, mut feed: Feed<'_>) -> Result<Result<String>> {
        let action = "send a segment of the backup";
        let stall = self.limits.retry.stall;
        let stuck = Cell::new(false);
        let last_chance = feed.keeper.is_none();
        // Dropped last: a body that ends without an error is whole to the store.
        let (body, bytes) = byte_stream(BODY);
        let mut put = self.storage.put_segment(self.op, name, SegmentBody { bytes, size });
        let mut answer = None;
        {
            let mut feeding = pin!(feed.run(self, &body, &stuck));
            loop {
                tokio::select! {
                    // Both are polled again until they are done: nothing is lost.
                    fed = &mut feeding => break fed?,
                    stored = &mut put, if answer.is_none() => {
                        if last_chance || matches!(&stored, Err(error) if !error.is_transient()) {
                            return Ok(stored);
                        }
                        answer = Some(stored);
                    }
                }
            }
        }
        match answer {
            Some(answer) => Ok(answer),
            None if stuck.get() => Ok(Err(stalled(stall, action))),
            None => {
                drop(body);
                let stored = self.op.until_cancelled(action, moving(stall, action, put)).await?;
                Ok(stored.and_then(|answer| answer))
            }
        }
    }
}

/// A segment on its way.
struct Feed<'a> {
    source: &'a mut Source,
    /// Bytes until its end.
    left: u64,
    keeper: Option<&'a Keeper>,
}

impl Feed<'_> {
    async fn run(&mut self, upload: &Upload<'_>, body: &ByteSender, stuck: &Cell<bool>) -> Result<()> {
        let mut sending = true;
        while self.left > 0 {
            let Some(piece) = self.source.take(upload.op, self.left).await? else { break };
            self.left -= piece.len() as u64;
            if let Some(keeper) = self.keeper {
                upload.progress.add_stored(piece.len());
                upload.op.until_cancelled("keep a segment of the backup", keeper.keep(piece.clone())).await??;
            }
            if sending {
                let sent = moving(upload.limits.retry.stall, "send a segment of the backup", body.send(Ok(piece)));
                match upload.op.until_cancelled("send a segment of the backup", sent).await? {
                    Ok(Ok(())) => {}
                    // The store has given its answer already.
                    Ok(Err(_)) => sending = false,
                    Err(_) => {
                        stuck.set(true);
                        sending = false;
                    }
                }
                if !sending && self.keeper.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// The store's answer compared with what was sent.
fn confirmed(name: &ObjectName, kept: &Kept, answer: Result<String>) -> Result<()> {
    let stored = answer?;
    if stored == kept.md5 {
        return Ok(());
    }
    let reason = format!("it has MD5 {stored} there, but {} was sent", kept.md5);
    Err(Error::Storage { action: format!("store segment {name}"), reason, transient: true })
}
