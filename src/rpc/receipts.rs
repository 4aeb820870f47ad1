//! Acknowledgements of messages that change nothing: many in one frame.

use futures_util::FutureExt;
use lapin::Acker;
use lapin::options::BasicAckOptions;

/// So many messages at most are told of at once. Well below the prefetch count: the broker never waits for an acknowledgement before it sends more.
const MOST: usize = 32;

/// Messages that are taken, and of which the broker is not told yet.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    last: Option<Acker>,
    count: usize,
}

impl Receipts {
    /// One more. [`Self::send`] before a message that comes later stays unacknowledged, or before waiting.
    pub(super) fn put_off(&mut self, acker: Acker) {
        self.last = Some(acker);
        self.count += 1;
    }

    /// Whether the broker has been told of everything.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Whether the broker must be told before more are taken.
    pub(super) fn are_due(&self) -> bool {
        self.count >= MOST
    }

    /// Acknowledges everything that was put off, and with it whatever came before the last of it.
    pub(super) fn send(&mut self) {
        let multiple = std::mem::take(&mut self.count) > 1;
        if let Some(acker) = self.last.take() {
            // The first poll puts the frame on its way. Nothing depends on when it leaves: if the connection ends first, the messages come
            // again, and are dropped as duplicates.
            drop(acker.ack(BasicAckOptions { multiple }).now_or_never());
        }
    }
}
