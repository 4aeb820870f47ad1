//! [`Retry`]: how often, and how patiently, a failed transfer is tried again.

use std::time::Duration;

use crate::error::{Error, Result, ResultExt};
use crate::op::Op;

/// Bounds of retrying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all; a read that has got further begins to count anew.
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

/// The failures of one transfer so far.
#[derive(Debug)]
pub(crate) struct Failures {
    retry: Retry,
    count: u32,
}

impl Failures {
    pub(crate) fn new(retry: Retry) -> Self {
        Failures { retry, count: 0 }
    }

    /// There was progress.
    pub(crate) fn forget(&mut self) {
        self.count = 0;
    }

    /// Waits before the next attempt, if there is to be one.
    ///
    /// # Errors
    /// `error` itself, with `action`, when it is permanent or was the last one allowed; [`Error::Cancelled`].
    pub(crate) async fn pause(&mut self, op: &Op, action: &str, error: Error) -> Result<()> {
        self.count += 1;
        if !error.is_transient() {
            return Err(error).action(action);
        }
        if self.count >= self.retry.attempts {
            return Err(error).action(format!("{action}, tried {} times", self.count));
        }
        let doubled = self.retry.first_pause.saturating_mul(1 << (self.count - 1).min(16));
        let pause = doubled.min(self.retry.longest_pause);
        tracing::warn!(attempt = self.count, ?pause, "failed to {action}, trying again: {error}");
        op.until_cancelled(action, tokio::time::sleep(pause)).await
    }
}

/// Fails transiently when nothing moves for `stall`.
pub(super) async fn moving<T>(stall: Duration, action: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(stall, future).await.map_err(|_| stalled(stall, action))
}

/// Nothing moved for `stall`.
pub(super) fn stalled(stall: Duration, action: &str) -> Error {
    Error::Storage { action: action.to_owned(), reason: format!("nothing moved for {} s", stall.as_secs_f32()), transient: true }
}
