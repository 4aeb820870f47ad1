//! [`Op`]: the one context argument. First parameter of everything that may block.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use crate::error::{Error, Result};
use crate::model::RequestContext;
use crate::progress::ProgressSlot;

/// One operation in progress: who asked for it, and how to stop it.
#[derive(Debug, Clone)]
pub struct Op {
    /// Cancelled when the operation must stop (agent shutdown). Every wait selects on it.
    pub cancel: CancellationToken,
    /// The request's context: tenant, token, request id.
    pub context: RequestContext,
    /// How far it is, while it moves bytes.
    pub progress: ProgressSlot,
    /// When its caller gives up, if it is known.
    pub deadline: Option<Instant>,
}

/// Like `tokio::spawn`, for a part of an operation: what it logs has the request's ids, too.
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work.in_current_span())
}

/// Like `tokio::task::spawn_blocking`, likewise.
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let span = Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
}

/// Kept back of a caller's patience, so that the answer still finds it waiting.
const TO_ANSWER: Duration = Duration::from_secs(2);

impl Op {
    /// An operation on behalf of a request.
    pub fn new(cancel: CancellationToken, context: RequestContext) -> Self {
        Op { cancel, context, progress: ProgressSlot::default(), deadline: None }
    }

    /// An operation the agent starts by itself: boot, heartbeat probes, recovery.
    pub fn internal(cancel: CancellationToken) -> Self {
        Op::new(cancel, RequestContext::default())
    }

    /// The same operation for a caller that waits only so long.
    #[must_use]
    pub fn for_at_most(mut self, patience: Option<Duration>) -> Self {
        self.deadline = patience.map(|patience| Instant::now() + patience);
        self
    }

    /// The same operation for a part that must not be left in its middle: it goes on when the operation is cancelled.
    #[must_use]
    pub fn to_its_end(&self) -> Self {
        Op { cancel: CancellationToken::new(), ..self.clone() }
    }

    /// How long a wait may take: `at_most`, and not so long that the caller is gone when the answer comes.
    pub fn patience(&self, at_most: Duration) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now()).saturating_sub(TO_ANSWER);
        self.deadline.map_or(at_most, |deadline| at_most.min(left(deadline)))
    }

    /// Waits for `future`, for at most so long, not longer than the caller waits, and not after cancellation. When the caller is gone already, what is
    /// left to do, or to undo, takes the time it needs.
    ///
    /// # Errors
    /// [`Error::Timeout`] or [`Error::Cancelled`] with `action`; the future is dropped.
    pub async fn in_time<T>(&self, action: &str, at_most: Duration, future: impl Future<Output = T>) -> Result<T> {
        let after = Some(self.patience(at_most)).filter(|left| !left.is_zero()).unwrap_or(at_most);
        let output = self.until_cancelled(action, tokio::time::timeout(after, future)).await?;
        output.map_err(|_| Error::Timeout { action: action.to_owned(), after, detail: String::new() })
    }

    /// Waits for `future`, or for cancellation.
    ///
    /// # Errors
    /// [`Error::Cancelled`] with `action` when the operation is cancelled first; the future is dropped.
    pub async fn until_cancelled<T>(&self, action: &str, future: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            // Cancel-safe: the caller hands over a future whose drop undoes nothing it must keep.
            output = future => Ok(output),
            () = self.cancel.cancelled() => Err(Error::Cancelled { action: action.to_owned() }),
        }
    }
}
