//! The RPC server: consumes the guest's queue, writes down what changes anything, acknowledges, runs, answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, Consumer};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::connection::{Broker, ConnectionPurpose};
use super::crypto::InstanceKey;
use super::dispatch::Dispatcher;
use super::envelope::{self, Incoming};
use super::lanes::Lanes;
use super::publisher::Publisher;
use super::reply::{Replies, ReplyTo};
use super::request::{Lane, Request};
use super::topology;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::journal::{self, Entry, Found, Journal, Stage, Ticket};
use crate::model::RequestContext;
use crate::op::Op;
use crate::release::{self, ReleaseTracker};

/// How many `_unique_id`s are remembered. oslo remembers 16 (`_drivers/amqp.py: _MsgIdCache`); a broker that comes back
/// may deliver everything unacknowledged once more.
const REMEMBERED_IDS: usize = 256;
/// RPC versions spoken: 1.0 up to this minor.
const MAX_MINOR: u32 = 3;

/// The server's parts.
#[derive(Debug)]
pub struct RpcServer {
    settings: Arc<Settings>,
    broker: Arc<Broker>,
    dispatcher: Arc<Dispatcher>,
    replies: Replies,
    key: Option<InstanceKey>,
    release: Arc<ReleaseTracker>,
    journal: Journal,
    lanes: Lanes,
    seen: Mutex<VecDeque<String>>,
    /// Ends operations under way.
    operations: CancellationToken,
}

/// A request on its way to its lane.
struct Accepted {
    request: Request,
    context: RequestContext,
    reply_to: Option<ReplyTo>,
    /// Seconds between keep-alives, for a client that wants them.
    keep_alive: Option<Duration>,
    ticket: Option<Ticket>,
    /// When its caller gives up, in seconds since 1970.
    deadline: Option<f64>,
}

impl RpcServer {
    /// Puts the parts together; `finished` are ids whose messages may come once more.
    #[expect(clippy::too_many_arguments, reason = "called once, by the composition root")]
    pub fn new(
        broker: Arc<Broker>,
        publisher: Publisher,
        dispatcher: Arc<Dispatcher>,
        key: Option<InstanceKey>,
        release: Arc<ReleaseTracker>,
        journal: Journal,
        finished: Vec<String>,
        operations: CancellationToken,
    ) -> Self {
        let settings = broker.settings().clone();
        RpcServer {
            replies: Replies::new(publisher, key.clone(), settings.broker.missing_consumer_retry_timeout),
            lanes: Lanes::new(settings.executor_pool),
            seen: Mutex::new(finished.into()),
            settings,
            broker,
            dispatcher,
            key,
            release,
            journal,
            operations,
        }
    }

    /// Takes up what the agent's last life left open: what was not begun runs now; what was begun is run again if that does no
    /// harm, and otherwise reported as failed.
    pub fn recover(&self, found: Vec<Found>) {
        for Found { entry, stage, ticket } in found {
            tracing::warn!(method = entry.method, ?stage, "an accepted operation was left open when the agent ended");
            if let Some(id) = &entry.unique_id {
                self.remember(id);
            }
            let Ok((incoming, args, context)) = self.opened(entry.body.as_bytes()) else {
                tracing::error!(
                    method = entry.method,
                    "the operation left open cannot be read any more: was instance_rpc_encr_key changed?"
                );
                finish(Some(ticket));
                continue;
            };
            let reply_to = ReplyTo::of(&incoming);
            match Request::decode(&incoming.method, args) {
                Ok(request) => {
                    let deadline = entry.expires_after.map(|seconds| entry.received + seconds);
                    let again = stage == Stage::Accepted || (request.is_repeatable() && reply_to.is_none());
                    let accepted = Accepted { request, context, reply_to, keep_alive: None, ticket: Some(ticket), deadline };
                    if again { self.submit(accepted) } else { self.give_up(accepted) }
                }
                Err(error) => {
                    tracing::error!(%error, "the operation left open cannot be run");
                    finish(Some(ticket));
                }
            }
        }
    }

    /// Serves until `stop`, then waits for what is under way. `ready` is called once, when the queue is consumed.
    pub async fn run(self, stop: CancellationToken, ready: impl FnOnce() + Send) {
        let mut ready = Some(ready);
        while let Some(connection) = self.broker.connect(ConnectionPurpose::Listen, &stop).await {
            match self.consumer(&connection).await {
                Ok(consumer) => {
                    if let Some(ready) = ready.take() {
                        ready();
                    }
                    self.consume(consumer, &stop).await;
                }
                Err(error) => {
                    let queue = topology::queue_name(&self.settings);
                    tracing::error!(%error, queue, "failed to consume the guest's queue; check that its properties in the broker fit this guest's [oslo_messaging_rabbit] options");
                }
            }
            connection.close(200, "OK".into()).await.ok();
            tokio::select! {
                // Cancel-safe: a timer. oslo waits as long before it connects again (kombu_reconnect_delay).
                () = tokio::time::sleep(self.settings.broker.reconnect_delay) => {}
                () = stop.cancelled() => break,
            }
        }
        self.lanes.drain().await;
    }

    async fn consumer(&self, connection: &Connection) -> lapin::Result<Consumer> {
        let channel = topology::ensure(connection, &self.settings).await?;
        let broker = &self.settings.broker;
        if broker.prefetch > 0 {
            channel.basic_qos(broker.prefetch, BasicQosOptions::default()).await?;
        }
        let mut arguments = FieldTable::default();
        if broker.cancel_on_failover {
            arguments.insert("x-cancel-on-ha-failover".into(), AMQPValue::Boolean(true));
        }
        let queue = topology::queue_name(&self.settings);
        let consumer = channel.basic_consume(queue.as_str().into(), "1".into(), BasicConsumeOptions::default(), arguments).await?;
        tracing::info!(queue, "consuming");
        Ok(consumer)
    }

    /// Returns when the consumer ends (connection lost, cancelled by the broker) or `stop` comes.
    async fn consume(&self, mut consumer: Consumer, stop: &CancellationToken) {
        loop {
            let delivery = tokio::select! {
                // Cancel-safe: an undelivered message stays with the broker.
                delivery = consumer.next() => delivery,
                () = stop.cancelled() => return,
            };
            match delivery {
                Some(Ok(delivery)) => self.accept(delivery).await,
                Some(Err(error)) => {
                    tracing::warn!(%error, "the connection to the broker is lost");
                    return;
                }
                None => {
                    tracing::warn!("the broker cancelled the consumer");
                    return;
                }
            }
        }
    }

    /// Decodes, writes down, acknowledges, hands over. Nothing here waits for an operation.
    async fn accept(&self, delivery: Delivery) {
        let opened = envelope::decompress(&delivery.data, header(&delivery, "compression").as_deref())
            .map_err(|error| Box::new((error, None)))
            .and_then(|body| self.opened(&body).map(|opened| (opened, body)));
        let ((incoming, args, context), body) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return self.refuse(&delivery, *refusal).await,
        };
        if incoming.unique_id.as_deref().is_some_and(|id| self.was_seen(id)) {
            tracing::debug!(method = incoming.method, "ignoring a duplicate message");
            return acknowledge(&delivery).await;
        }
        let evidence = release::evidence(&incoming.version, &context.raw.0, incoming.is_call(), incoming.knows_call_monitor);
        if let Some(evidence) = evidence {
            self.release.observe(evidence);
        }
        let reply_to = ReplyTo::of(&incoming);
        let request = match check_version(&incoming).and_then(|()| self.decode(&incoming, args)) {
            Ok(request) => request,
            Err(error) => {
                if let Some(id) = &incoming.unique_id {
                    self.remember(id);
                }
                acknowledge(&delivery).await;
                return self.fail(&incoming.method, reply_to, error);
            }
        };
        let expires_after = delivery.properties.expiration().as_ref().and_then(|text| text.as_str().parse::<f64>().ok());
        let expires_after = expires_after.map(|milliseconds| milliseconds / 1000.0);
        let ticket = match self.write_down(&request, &incoming, &body, expires_after) {
            Ok(ticket) => ticket,
            Err(error) => {
                // Not accepted: the broker keeps it, and gives it to us again.
                tracing::error!(%error, "failed to write down an operation; is the disk full?");
                delivery.reject(BasicRejectOptions { requeue: true }).await.ok();
                tokio::time::sleep(self.settings.broker.retry_interval).await;
                return;
            }
        };
        if let Some(id) = &incoming.unique_id {
            self.remember(id);
        }
        acknowledge(&delivery).await;
        let keep_alive = incoming.call_monitor_timeout.map(|seconds| Duration::from_millis(seconds * 500));
        self.submit(Accepted {
            request,
            context,
            reply_to,
            keep_alive: keep_alive.filter(|pause| *pause >= Duration::from_secs(1)),
            ticket,
            deadline: expires_after.map(|seconds| journal::now() + seconds),
        });
    }

    fn decode(&self, incoming: &Incoming, args: Map<String, Value>) -> Result<Request> {
        self.dispatcher.admits(&incoming.method)?;
        Request::decode(&incoming.method, args)
    }

    /// Envelope and decryption. On failure: the error, and what is known of the message, for an answer.
    #[expect(clippy::type_complexity, reason = "three parts of one message, taken apart at once")]
    fn opened(&self, body: &[u8]) -> std::result::Result<(Incoming, Map<String, Value>, RequestContext), Box<(Error, Option<Incoming>)>> {
        let mut incoming = envelope::open(body).map_err(|error| Box::new((error, None)))?;
        let args = std::mem::take(&mut incoming.args);
        let (args, context) = match &self.key {
            Some(key) => match key.decrypt_request(args, &incoming.context) {
                Ok(clear) => clear,
                Err(error) => return Err(Box::new((error, Some(incoming)))),
            },
            None => (args, std::mem::take(&mut incoming.context)),
        };
        Ok((incoming, args, RequestContext::from_wire(context)))
    }

    async fn refuse(&self, delivery: &Delivery, (error, incoming): (Error, Option<Incoming>)) {
        match incoming {
            Some(incoming) => {
                acknowledge(delivery).await;
                self.fail(&incoming.method, ReplyTo::of(&incoming), error);
            }
            None => {
                tracing::error!(%error, bytes = delivery.data.len(), "refused a message");
                delivery.reject(BasicRejectOptions { requeue: false }).await.ok();
            }
        }
    }

    /// Answers a request that never ran. Its error is logged here and nowhere else.
    fn fail(&self, method: &str, reply_to: Option<ReplyTo>, error: Error) {
        let method: String = method.chars().take(100).collect();
        tracing::error!(%error, method, "refused a request");
        let replies = self.replies.clone();
        self.lanes.submit(Lane::Read, async move {
            if let Some(to) = reply_to {
                replies.answer(&to, &Err(error)).await;
            }
        });
    }

    fn write_down(&self, request: &Request, incoming: &Incoming, body: &[u8], expires_after: Option<f64>) -> Result<Option<Ticket>> {
        if request.lane() == Lane::Read {
            return Ok(None);
        }
        let entry = Entry {
            method: incoming.method.clone(),
            unique_id: incoming.unique_id.clone(),
            received: journal::now(),
            expires_after,
            body: String::from_utf8_lossy(body).into_owned(),
        };
        self.journal.accept(&entry).map(Some)
    }

    fn was_seen(&self, id: &str) -> bool {
        self.seen.lock().expect("never poisoned: no panics while held").iter().any(|known| known == id)
    }

    fn remember(&self, id: &str) {
        let mut seen = self.seen.lock().expect("never poisoned: no panics while held");
        if seen.len() >= REMEMBERED_IDS {
            seen.pop_front();
        }
        seen.push_back(id.to_owned());
    }

    fn submit(&self, accepted: Accepted) {
        let lane = accepted.request.lane();
        let span = tracing::info_span!(
            "rpc",
            method = accepted.request.method(),
            request_id = accepted.context.request_id.as_deref().unwrap_or("-")
        );
        let job = run_one(self.dispatcher.clone(), self.replies.clone(), accepted, self.operations.child_token());
        self.lanes.submit(lane, job.instrument(span));
    }

    fn give_up(&self, accepted: Accepted) {
        let (dispatcher, replies) = (self.dispatcher.clone(), self.replies.clone());
        let op = Op::new(self.operations.child_token(), accepted.context);
        self.lanes.submit(Lane::Write, async move {
            let outcome = Err(dispatcher.interrupted(&op, &accepted.request).await);
            if let Some(to) = accepted.reply_to {
                replies.answer(&to, &outcome).await;
            }
            finish(accepted.ticket);
        });
    }
}

/// Runs one request on its lane, keeps its caller informed, answers, and closes its journal entry.
async fn run_one(dispatcher: Arc<Dispatcher>, replies: Replies, accepted: Accepted, cancel: CancellationToken) {
    let Accepted { request, context, reply_to, keep_alive, mut ticket, deadline } = accepted;
    if deadline.is_some_and(|deadline| journal::now() > deadline) {
        tracing::warn!("not run: its caller had given up before its turn came");
        return finish(ticket);
    }
    if let Some(Err(error)) = ticket.as_mut().map(Ticket::start) {
        tracing::error!(%error, "failed to note the start of an operation; it is not run");
        if let Some(to) = &reply_to {
            replies.answer(to, &Err(error)).await;
        }
        return;
    }
    let op = Op::new(cancel, context);
    let work = std::panic::AssertUnwindSafe(dispatcher.dispatch(&op, request)).catch_unwind();
    let outcome = tokio::select! {
        // Cancel-safe: the second arm never ends.
        outcome = work => outcome.unwrap_or_else(|_| Err(Error::guest("the guest agent hit an internal error; its log has the details"))),
        never = keep_alives(&replies, reply_to.as_ref(), keep_alive) => match never {},
    };
    let cut_short = outcome.is_err() && op.cancel.is_cancelled();
    if let Some(to) = &reply_to {
        replies.answer(to, &outcome).await;
    }
    if let Err(error) = &outcome {
        tracing::error!(%error, "the operation failed");
    }
    // An operation the agent's own end cut short stays open: the next start takes it up.
    if !cut_short {
        finish(ticket);
    }
}

/// Tells a client with a call monitor that its call is still being worked on; stops at the first failure to do so.
async fn keep_alives(replies: &Replies, reply_to: Option<&ReplyTo>, pause: Option<Duration>) -> std::convert::Infallible {
    if let (Some(to), Some(pause)) = (reply_to, pause) {
        loop {
            tokio::time::sleep(pause).await;
            if let Err(error) = replies.keep_alive(to).await {
                tracing::debug!(%error, "no more keep-alives");
                break;
            }
        }
    }
    std::future::pending().await
}

fn finish(ticket: Option<Ticket>) {
    if let Some(Err(error)) = ticket.map(Ticket::finish) {
        tracing::error!(%error, "failed to close a journal entry; the operation may be taken up again at the next start");
    }
}

async fn acknowledge(delivery: &Delivery) {
    if let Err(error) = delivery.ack(BasicAckOptions::default()).await {
        // It will come again, and be dropped as a duplicate.
        tracing::debug!(%error, "failed to acknowledge a message");
    }
}

/// A text header of a message.
fn header(delivery: &Delivery, name: &str) -> Option<String> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Compatible as oslo has it: same major, minor not above ours (oslo_messaging/rpc/dispatcher.py).
fn check_version(incoming: &Incoming) -> Result<()> {
    let unsupported = || Error::UnsupportedVersion {
        version: incoming.version.chars().take(20).collect(),
        method: incoming.method.chars().take(100).collect(),
    };
    let (major, minor) = incoming.version.split_once('.').ok_or_else(unsupported)?;
    let minor: u32 = minor.parse().map_err(|_| unsupported())?;
    if major == "1" && minor <= MAX_MINOR && incoming.namespace.is_none() { Ok(()) } else { Err(unsupported()) }
}
