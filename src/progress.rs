//! [`Progress`]: how far an operation is that moves bytes. Counting costs an atomic addition; whoever shows it asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A counter of bytes, and how many there will be. Cheap to clone: all clones are the same counter.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    began: std::sync::OnceLock<Instant>,
    bytes: AtomicU64,
    /// Zero is unknown.
    expected: AtomicU64,
}

/// How far it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Bytes so far.
    pub bytes: u64,
    /// How many there will be, as far as can be told beforehand.
    pub expected: Option<u64>,
    /// Since the first byte was waited for.
    pub elapsed: Duration,
}

impl Progress {
    /// Says that bytes begin to move, `expected` of them if that is known.
    pub fn begin(&self, expected: Option<u64>) {
        self.0.began.get_or_init(Instant::now);
        self.0.expected.store(expected.unwrap_or(0), Ordering::Relaxed);
    }

    /// So many more have moved.
    pub fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How far it is; nothing before [`Self::begin`].
    pub fn read(&self) -> Option<Reading> {
        let began = self.0.began.get()?;
        let expected = Some(self.0.expected.load(Ordering::Relaxed)).filter(|&expected| expected > 0);
        Some(Reading { bytes: self.0.bytes.load(Ordering::Relaxed), expected, elapsed: began.elapsed() })
    }
}

impl Reading {
    /// Bytes a second since it began.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }

    /// How long the rest takes at that rate, when both are known.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.expected?.saturating_sub(self.bytes);
        Duration::try_from_secs_f64(left as f64 / self.rate()).ok()
    }
}

impl std::fmt::Display for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        write!(f, "{:.1} MiB", mib(self.bytes as f64))?;
        if let Some(expected) = self.expected {
            write!(f, " of about {:.1} MiB", mib(expected as f64))?;
        }
        write!(f, " in {} s, {:.1} MiB/s", self.elapsed.as_secs(), mib(self.rate()))?;
        match self.remaining() {
            Some(remaining) => write!(f, ", about {} s to go", remaining.as_secs()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_says_how_far_and_how_long() {
        let progress = Progress::default();
        assert_eq!(progress.read(), None);
        progress.begin(Some(4 << 20));
        progress.clone().add(1 << 20);
        let reading = Reading { elapsed: Duration::from_secs(2), ..progress.read().unwrap() };
        assert_eq!(reading.to_string(), "1.0 MiB of about 4.0 MiB in 2 s, 0.5 MiB/s, about 6 s to go");
        progress.begin(None);
        assert_eq!(progress.read().unwrap().expected, None);
    }
}
