//! [`Progress`]: how far a backup or restore has come. Counters that cost nothing to keep, read by the log and by whoever else holds the handle.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

/// Counters of one backup or restore. "Content" is what the tool writes or reads; "stored" is what storage holds of it.
#[derive(Debug)]
pub struct Progress {
    what: String,
    started: Instant,
    /// Bytes of content to expect; 0 when that is not known.
    expected_content: AtomicU64,
    /// Stored bytes to expect; 0 when that is not known.
    expected_stored: AtomicU64,
    content: AtomicU64,
    stored: AtomicU64,
    segments: AtomicU64,
    retries: AtomicU64,
}

/// Where an operation puts its [`Progress`] when bytes begin to move. All clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct ProgressSlot(Arc<Mutex<Option<Arc<Progress>>>>);

impl ProgressSlot {
    /// From now on this one is read.
    pub fn set(&self, progress: &Arc<Progress>) {
        *self.0.lock().expect("never poisoned: no panics while held") = Some(Arc::clone(progress));
    }

    /// How far it is, if bytes move.
    pub fn read(&self) -> Option<ProgressSnapshot> {
        self.0.lock().expect("never poisoned: no panics while held").as_ref().map(|progress| progress.snapshot())
    }
}

/// What [`Progress`] said at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// Bytes of content so far.
    pub content: u64,
    /// Stored bytes so far: sent by a backup, received by a restore.
    pub stored: u64,
    /// Segments (of a restore: parts) that are through and checked.
    pub segments: u64,
    /// Attempts beyond the first, of whatever segment.
    pub retries: u64,
    /// Since the beginning.
    pub elapsed: Duration,
    /// Time to go at the rate so far; `None` when the size is not known or nothing has come yet.
    pub remaining: Option<Duration>,
}

impl Progress {
    /// A handle for `what`, such as `backup 4f0c...`; the clock starts now.
    pub fn new(what: impl Into<String>) -> Arc<Self> {
        Arc::new(Progress {
            what: what.into(),
            started: Instant::now(),
            expected_content: AtomicU64::new(0),
            expected_stored: AtomicU64::new(0),
            content: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        })
    }

    /// Tells how many bytes of content to expect: for a backup the used space of the data volume, which is more than a dump of it.
    pub fn expect_content(&self, bytes: u64) {
        self.expected_content.store(bytes, Ordering::Relaxed);
    }

    /// Tells how many stored bytes to expect: for a restore, the sizes of the objects.
    pub fn expect_stored(&self, bytes: u64) {
        self.expected_stored.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes more of content.
    pub fn add_content(&self, bytes: usize) {
        self.content.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many more are stored, or read from storage.
    pub fn add_stored(&self, bytes: usize) {
        self.stored.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Another segment is through.
    pub fn add_segment(&self) {
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    /// Another attempt is needed.
    pub fn add_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The state of things now.
    pub fn snapshot(&self) -> ProgressSnapshot {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (content, stored, elapsed) = (load(&self.content), load(&self.stored), self.started.elapsed());
        let remaining = match (load(&self.expected_stored), load(&self.expected_content)) {
            (0, 0) => None,
            (0, expected) => estimate(content, expected, elapsed),
            (expected, _) => estimate(stored, expected, elapsed),
        };
        ProgressSnapshot { content, stored, segments: load(&self.segments), retries: load(&self.retries), elapsed, remaining }
    }

    /// Writes a line to the log every `interval` until the handle is dropped.
    pub fn log_every(self: &Arc<Self>, interval: Duration) -> AbortOnDropHandle<()> {
        let progress = Arc::clone(self);
        AbortOnDropHandle::new(crate::op::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                tracing::info!("{}: {}", progress.what, progress.snapshot());
            }
        }))
    }
}

/// Time to go when `done` of `expected` took `elapsed`.
fn estimate(done: u64, expected: u64, elapsed: Duration) -> Option<Duration> {
    if done == 0 {
        return None;
    }
    let nanoseconds = elapsed.as_nanos().saturating_mul(u128::from(expected.saturating_sub(done))) / u128::from(done);
    Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
}

impl ProgressSnapshot {
    /// The part that is done, 0 to 1, as far as that can be told.
    pub fn fraction(&self) -> Option<f64> {
        let (elapsed, remaining) = (self.elapsed.as_secs_f64(), self.remaining?.as_secs_f64());
        (elapsed + remaining > 0.0).then(|| elapsed / (elapsed + remaining))
    }

    /// Bytes of content per second since the beginning.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.content as f64 / seconds } else { 0.0 }
    }
}

impl fmt::Display for ProgressSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(f, "{:.1} MB of content, {:.1} MB stored", megabytes(self.content), megabytes(self.stored))?;
        write!(f, ", {:.1} MB/s, {} s elapsed", self.rate() / 1e6, self.elapsed.as_secs())?;
        if let Some(remaining) = self.remaining {
            write!(f, ", about {} s to go", remaining.as_secs())?;
        }
        if self.retries > 0 {
            write!(f, ", {} retries", self.retries)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_is_proportional() {
        let second = Duration::from_secs(1);
        assert_eq!(estimate(25, 100, second), Some(3 * second));
        assert_eq!(estimate(0, 100, second), None);
        assert_eq!(estimate(150, 100, second), Some(Duration::ZERO), "a dump may be larger than expected");
        assert_eq!(estimate(1, u64::MAX, Duration::from_secs(u64::MAX)), Some(Duration::from_nanos(u64::MAX)));
    }

    #[test]
    fn a_line_has_bytes_rate_elapsed_and_estimate() {
        let (elapsed, remaining) = (Duration::from_secs(4), Some(Duration::from_secs(9)));
        let snapshot = ProgressSnapshot { content: 8_000_000, stored: 2_000_000, segments: 1, retries: 2, elapsed, remaining };
        let line = "8.0 MB of content, 2.0 MB stored, 2.0 MB/s, 4 s elapsed, about 9 s to go, 2 retries";
        assert_eq!(snapshot.to_string(), line);
    }
}
