//! [`Wait`]: waiting for something that can only be looked at, bounded, and saying how far it came.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::error::{Error, Result};
use crate::op::Op;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// A wait that looks again and again, until its deadline.
#[derive(Debug)]
pub(crate) struct Wait {
    action: &'static str,
    patience: Duration,
    deadline: Instant,
    ticks: Interval,
}

impl Wait {
    /// For at most so long, and not longer than the caller waits.
    pub(crate) fn new(op: &Op, action: &'static str, at_most: Duration) -> Wait {
        let patience = op.patience(at_most);
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Wait { action, patience, deadline: Instant::now() + patience, ticks }
    }

    /// It gets on: the time counts from now.
    pub(crate) fn renew(&mut self) {
        self.deadline = Instant::now() + self.patience;
    }

    /// Until the next look. `missing` is what the last one found missing, in words.
    ///
    /// # Errors
    /// [`Error::Timeout`] with what is missing.
    pub(crate) async fn next(&mut self, op: &Op, missing: String) -> Result<()> {
        if Instant::now() >= self.deadline {
            return Err(Error::Timeout { action: self.action.to_owned(), after: self.patience, detail: missing });
        }
        op.until_cancelled(self.action, self.ticks.tick()).await.map(drop)
    }
}
