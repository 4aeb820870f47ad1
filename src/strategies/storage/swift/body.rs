//! Bodies on their way: what is sent, watched for standstill, and what is received.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::Response;
use tokio::time::Instant;

use super::refusal;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::strategies::storage::{ByteSender, ByteStream, byte_stream};

/// Buffers between the network and the reader.
const BUFFERS: usize = 4;

/// Whose turn it is in an upload: a dump may take its time, the server may not.
#[derive(Debug)]
pub(super) struct Turn {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Since when the server has something to do.
    server_since: Option<Instant>,
    /// The stream's own error.
    failed: Option<Error>,
    /// What went out.
    sent: u64,
}

impl Turn {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // The state is whole between any two statements.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends when the server has done nothing for `idle`.
    pub(super) async fn standstill(&self, idle: Duration) {
        loop {
            let seen = self.with(|state| state.server_since);
            let until = seen.unwrap_or_else(Instant::now) + idle;
            tokio::time::sleep_until(until).await;
            if seen.is_some() && self.with(|state| state.server_since) == seen {
                return;
            }
        }
    }

    /// The error that ended the stream, if one did.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.with(|state| state.failed.take())
    }

    /// Bytes handed to the connection.
    pub(super) fn sent(&self) -> u64 {
        self.with(|state| state.sent)
    }
}

/// The body of an upload.
pub(super) struct Upload {
    bytes: ByteStream,
    turn: Arc<Turn>,
}

impl Upload {
    pub(super) fn new(bytes: ByteStream) -> (Self, Arc<Turn>) {
        let state = State { server_since: Some(Instant::now()), failed: None, sent: 0 };
        let turn = Arc::new(Turn { state: Mutex::new(state) });
        (Upload { bytes, turn: Arc::clone(&turn) }, turn)
    }
}

impl Stream for Upload {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.bytes.poll_recv(context);
        self.turn.with(|state| {
            state.server_since = if polled.is_pending() { None } else { Some(Instant::now()) };
            match polled {
                Poll::Pending => Poll::Pending,
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Ready(Some(Ok(bytes))) => {
                    state.sent += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    Poll::Ready(Some(Ok(bytes)))
                }
                Poll::Ready(Some(Err(error))) => {
                    state.failed = Some(error);
                    // Breaks the request off, so that what was sent is not taken for whole.
                    Poll::Ready(Some(Err(std::io::Error::other("the data ended with an error"))))
                }
            }
        })
    }
}

/// Passes the body of an answer on, `expected` bytes of it.
pub(super) fn download(op: &Op, action: String, response: Response, expected: u64, idle: Duration) -> ByteStream {
    let (sender, stream) = byte_stream(BUFFERS);
    let op = op.clone();
    crate::op::spawn(async move {
        if let Err(error) = pass_on(&op, &action, response, expected, idle, &sender).await {
            // A reader that has gone needs no error.
            drop(sender.send(Err(error)).await);
        }
    });
    stream
}

async fn pass_on(op: &Op, action: &str, mut response: Response, expected: u64, idle: Duration, sender: &ByteSender) -> Result<()> {
    let mut received = 0_u64;
    loop {
        let chunk = next_chunk(op, action, &mut response, idle);
        let chunk = tokio::select! {
            chunk = chunk => chunk?,
            // Cancel-safe: the answer is dropped, and with it the connection.
            () = sender.closed() => return Ok(()),
        };
        let Some(chunk) = chunk else { break };
        received += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if op.until_cancelled(action, sender.send(Ok(chunk))).await?.is_err() {
            return Ok(());
        }
    }
    if received == expected {
        return Ok(());
    }
    Err(refusal::failed(action, format!("{received} bytes came, and not {expected}"), true))
}

/// The next bytes of an answer; `None` at its end.
pub(super) async fn next_chunk(op: &Op, action: &str, response: &mut Response, idle: Duration) -> Result<Option<Bytes>> {
    match op.until_cancelled(action, tokio::time::timeout(idle, response.chunk())).await? {
        Ok(chunk) => chunk.map_err(|error| refusal::broken(action, error)),
        Err(_) => Err(refusal::idle(action, idle)),
    }
}
