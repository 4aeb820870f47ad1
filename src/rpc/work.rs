//! One request on its lane: its turn, its run, its caller kept informed, its answer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Span;

use super::dispatch::{Answer, Dispatcher};
use super::method::{Lane, Method, Resume};
use super::outbox::Outbox;
use super::reply::ReplyTo;
use super::request::Request;
use crate::error::Error;
use crate::journal::{self, Stage, Ticket};
use crate::model::RequestContext;
use crate::op::Op;

/// What every request needs.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) outbox: Outbox,
    /// Ends operations under way.
    pub(super) operations: CancellationToken,
    /// No operation that is in the journal begins any more: the next start takes it up.
    pub(super) stop: CancellationToken,
}

/// A request on its way to its lane.
pub(super) struct Accepted {
    pub(super) request: Request,
    pub(super) context: RequestContext,
    pub(super) reply_to: Option<ReplyTo>,
    /// Tells its caller that it is being worked on, from now on.
    pub(super) keep_alive: KeepAlive,
    pub(super) ticket: Option<Ticket>,
    /// When its caller gives up, in seconds since 1970.
    pub(super) deadline: Option<f64>,
    /// How far the agent's last life had come with it.
    pub(super) recovered: Option<Stage>,
    /// What is logged on its behalf is logged in it.
    pub(super) span: Span,
}

impl Accepted {
    fn is_too_late(&self) -> bool {
        let half_done = self.recovered == Some(Stage::Started) && self.request.properties().after_interruption == Resume::Repeat;
        !half_done && self.deadline.is_some_and(|deadline| journal::now() > deadline)
    }
}

/// What ends as it should is worth a line where somebody may wonder.
fn log_end(answer: &Answer, recovered: Option<Stage>) {
    match &answer.outcome {
        Err(error) => tracing::error!(%error, "the operation failed"),
        Ok(_) if recovered.is_some() => tracing::info!("done: the operation that was left open when the agent ended"),
        Ok(_) => {}
    }
}

impl Desk {
    /// Runs one request.
    pub(super) async fn run(self, mut accepted: Accepted) {
        if accepted.ticket.is_some() && self.stop.is_cancelled() {
            return tracing::info!("not begun: the agent is ending; its next start takes this up");
        }
        if accepted.is_too_late() {
            tracing::warn!("not run: its caller had given up before its turn came");
            self.outbox.end(Vec::new(), accepted.ticket);
            return;
        }
        let noted = self.dispatcher.note_begin(&accepted.request);
        if let Err(error) = noted.and_then(|()| accepted.ticket.as_mut().map_or(Ok(()), Ticket::start)) {
            tracing::error!(%error, "failed to note the start of an operation; it is not run");
            self.dispatcher.not_begun(&accepted.request, &error);
            let answer = Answer { outcome: Err(error), casts: Vec::new() };
            self.tell(answer, accepted.reply_to.as_ref(), accepted.keep_alive, accepted.ticket).await;
            return;
        }
        let patience = accepted.deadline.map(|deadline| Duration::from_secs_f64((deadline - journal::now()).max(0.0)));
        let Accepted { request, context, reply_to, keep_alive, ticket, recovered, .. } = accepted;
        // One that is finished although its caller has gone takes the time it needs.
        let patience = patience.filter(|left| recovered.is_none() || !left.is_zero());
        let op = Op::new(self.operations.child_token(), context).for_at_most(patience);
        let Method { lane, after_interruption: resume, .. } = request.properties();
        if recovered.is_some() && request.properties().works_in_the_database() {
            self.dispatcher.database_is_up(&op).await;
        }
        // A backup may take hours, and nothing is lost when it is given up at once: it is told of before the agent ends.
        let _given_up = (resume == Resume::Undo).then(|| {
            let (stop, cancel) = (self.stop.clone(), op.cancel.clone());
            AbortOnDropHandle::new(crate::op::spawn(async move {
                stop.cancelled().await;
                cancel.cancel();
            }))
        });
        let method = request.method();
        let work = std::panic::AssertUnwindSafe(self.dispatcher.dispatch(&op, request)).catch_unwind();
        let mut answer = work.await.unwrap_or_else(|_| {
            let error = Error::guest("the guest agent hit an internal error; its log has the details");
            Answer { outcome: Err(error), casts: Vec::new() }
        });
        log_end(&answer, recovered);
        // One that is undone already has nothing left for the next start.
        let undone = resume == Resume::Undo && !answer.casts.is_empty();
        if answer.outcome.is_err() && op.cancel.is_cancelled() && ticket.is_some() && !undone {
            // Cut short by the agent's own end. What the next start can still do or must report stays open; only a caller who would get
            // no other answer is told now.
            if reply_to.is_none() || resume != Resume::Report {
                return;
            }
            answer.outcome = Err(Error::interrupted(method));
        }
        let sending = self.tell(answer, reply_to.as_ref(), keep_alive, ticket).await;
        self.in_order(lane, sending).await;
    }

    /// What tells of a backup's end leaves before the next backup begins: the conductor drops what is older than the last it has seen.
    async fn in_order(&self, lane: Lane, sending: Option<JoinHandle<()>>) {
        if let (Lane::Backup, Some(sending)) = (lane, sending) {
            tokio::select! {
                // Cancel-safe: the letters are in the journal.
                _ = sending => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Answers for a request that the agent's last life had begun and that is not run again.
    pub(super) async fn report(self, accepted: Accepted) {
        let Accepted { request, context, reply_to, keep_alive, ticket, .. } = accepted;
        let op = Op::new(self.operations.child_token(), context);
        let answer = self.dispatcher.interrupted(&op, &request).await;
        let sending = self.tell(answer, reply_to.as_ref(), keep_alive, ticket).await;
        self.in_order(request.properties().lane, sending).await;
    }

    /// Hands the answer to the outbox. The lane is free then.
    pub(super) async fn tell(
        &self,
        answer: Answer,
        reply_to: Option<&ReplyTo>,
        keep_alive: KeepAlive,
        ticket: Option<Ticket>,
    ) -> Option<JoinHandle<()>> {
        // A keep-alive after the answer would be for nobody.
        keep_alive.end().await;
        let mut letters = reply_to.map(|to| to.letters(&answer.outcome)).unwrap_or_default();
        letters.extend(answer.casts);
        self.outbox.end(letters, ticket)
    }
}

/// Tells a client with a call monitor that its call is still being worked on, waiting for its turn included; stops when dropped.
#[derive(Debug, Default)]
pub(super) struct KeepAlive(Option<JoinHandle<()>>);

impl KeepAlive {
    /// `timeout` is the client's, in seconds; it hears of us in half of it (oslo_messaging/rpc/dispatcher.py).
    pub(super) fn start(outbox: &Outbox, to: Option<&ReplyTo>, timeout: Option<u64>) -> Self {
        let pause = Duration::from_secs(timeout.unwrap_or_default()) / 2;
        let Some(to) = to.filter(|_| pause >= Duration::from_secs(1)).cloned() else { return KeepAlive(None) };
        let outbox = outbox.clone();
        let sending = async move {
            loop {
                tokio::time::sleep(pause).await;
                let letter = Arc::new(to.keep_alive());
                match outbox.keep_alive(&letter).await {
                    Ok(()) => {}
                    Err(Error::Cancelled { .. }) => break,
                    // Its client may be on its way back to a broker that was away.
                    Err(error) => tracing::debug!(%error, "failed to say that a call is being worked on"),
                }
            }
        };
        KeepAlive(Some(crate::op::spawn(sending)))
    }

    async fn end(mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            // Cancelled, or ended by itself.
            task.await.ok();
        }
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
