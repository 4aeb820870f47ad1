//! What is still to be sent: answers to calls and casts that tell of an operation's end.
//!
//! Sending waits for nobody: the lane an operation ran on is free as soon as its letters are in the journal. A letter leaves the journal
//! when the broker has it, or when there is nobody left to read it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::publisher::Publisher;
use crate::error::{Error, Result};
use crate::journal::{Letter, Ticket};

/// Between attempts to reach a reply queue that is not there (oslo_messaging/_drivers/amqpdriver.py).
const MISSING_QUEUE_RETRY: Duration = Duration::from_millis(250);
/// How long a queue that stayed away is not tried again, and how many such queues are remembered.
const DEAD_QUEUE_MEMORY: Duration = Duration::from_secs(60);
const DEAD_QUEUES: usize = 200;
/// How long letters may still take when the agent ends. Those of the journal are sent at the next start.
const LAST_POST: Duration = Duration::from_secs(5);

/// Sends letters.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    publisher: Publisher,
    /// `kombu_missing_consumer_retry_timeout`.
    patience: Duration,
    dead: Arc<Mutex<VecDeque<(String, Instant)>>>,
    tracker: TaskTracker,
}

impl Outbox {
    pub(super) fn new(publisher: Publisher, patience: Duration) -> Self {
        Outbox { publisher, patience, dead: Arc::default(), tracker: TaskTracker::new() }
    }

    /// Sends letters in their order, and closes the journal entry they belong to. Returns at once; the handle ends when they are with the broker.
    pub(super) fn post(&self, letters: Vec<Letter>, ticket: Option<Ticket>) -> Option<JoinHandle<()>> {
        if letters.is_empty() {
            finish(ticket);
            return None;
        }
        let outbox = self.clone();
        let letters: Vec<_> = letters.into_iter().map(Arc::new).collect();
        let mut sending = Box::pin(async move { outbox.send(&letters, ticket).await }.in_current_span());
        // Begun here and not in its task: the first letter is on its way at once, where it would wait for a thread to wake up.
        if sending.as_mut().now_or_never().is_some() {
            return None;
        }
        Some(self.tracker.spawn(sending))
    }

    /// Notes in the journal that the operation has ended, then does what [`Self::post`] does.
    pub(super) fn end(&self, letters: Vec<Letter>, mut ticket: Option<Ticket>) -> Option<JoinHandle<()>> {
        if !letters.is_empty()
            && let Some(Err(error)) = ticket.as_mut().map(|ticket| ticket.end(&letters))
        {
            tracing::error!(%error, "failed to note the end of an operation; it may be reported as cut short if the agent ends now");
        }
        self.post(letters, ticket)
    }

    /// Sends one letter that is worth nothing later.
    pub(super) async fn keep_alive(&self, letter: &Arc<Letter>) -> Result<()> {
        if self.publisher.publish(letter).await? { Ok(()) } else { Err(gone(&letter.key)) }
    }

    /// Waits, not for long, for what is on its way.
    pub(super) async fn close(&self) {
        self.tracker.close();
        if tokio::time::timeout(LAST_POST, self.tracker.wait()).await.is_err() {
            tracing::warn!(
                messages = self.tracker.len(),
                "the broker did not take all messages; those of the journal are sent at the next start"
            );
        }
    }

    async fn send(&self, letters: &[Arc<Letter>], ticket: Option<Ticket>) {
        for letter in letters {
            match self.deliver(letter).await {
                Ok(()) => {}
                // The agent is ending: what is journalled is sent by its next life.
                Err(Error::Cancelled { .. }) => return,
                Err(error) => tracing::warn!(%error, "failed to deliver a message"),
            }
        }
        finish(ticket);
    }

    async fn deliver(&self, letter: &Arc<Letter>) -> Result<()> {
        if self.is_dead(&letter.key) {
            return Err(gone(&letter.key));
        }
        // From the first time that a broker had no such queue: while there is no broker, its clients have none either.
        let mut deadline = None;
        while !self.publisher.publish(letter).await? {
            let now = tokio::time::Instant::now();
            if now >= *deadline.get_or_insert(now + self.patience) {
                self.bury(&letter.key);
                return Err(gone(&letter.key));
            }
            tokio::time::sleep(MISSING_QUEUE_RETRY).await;
        }
        Ok(())
    }

    fn is_dead(&self, queue: &str) -> bool {
        let mut dead = self.dead.lock().expect("never poisoned: no panics while held");
        dead.retain(|(_, since)| since.elapsed() < DEAD_QUEUE_MEMORY);
        dead.iter().any(|(name, _)| name == queue)
    }

    fn bury(&self, queue: &str) {
        let mut dead = self.dead.lock().expect("never poisoned: no panics while held");
        if dead.len() == DEAD_QUEUES {
            dead.pop_front();
        }
        dead.push_back((queue.to_owned(), Instant::now()));
    }
}

fn finish(ticket: Option<Ticket>) {
    if let Some(Err(error)) = ticket.map(Ticket::finish) {
        tracing::error!(%error, "failed to close a journal entry; the operation may be taken up again at the next start");
    }
}

fn gone(queue: &str) -> Error {
    Error::guest(format!("the reply queue {queue} is gone: the caller has given up or ended"))
}
