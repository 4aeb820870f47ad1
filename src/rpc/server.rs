//! The RPC server: consumes the guest's queue, writes down what changes anything, acknowledges, runs, answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::Acker;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, Consumer};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::connection::{Broker, ConnectionPurpose};
use super::crypto::InstanceKey;
use super::dispatch::Dispatcher;
use super::envelope::{self, Incoming};
use super::failure;
use super::keyring::KeyRing;
use super::lanes::Lanes;
use super::method::Lane;
use super::outbox::Outbox;
use super::publisher::{self, Publisher};
use super::receipts::Receipts;
use super::reply::ReplyTo;
use super::request::Request;
use super::topology;
use super::work::{Accepted, Desk, KeepAlive};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::journal::{self, Entry, Journal, Ticket};
use crate::model::RequestContext;
use crate::op::Op;
use crate::release::{self, ReleaseTracker};
use crate::telemetry;
use crate::watchdog::Pulse;

/// A message taken apart: envelope, arguments and context in the clear.
pub(super) struct Opened {
    pub(super) incoming: Incoming,
    pub(super) args: Map<String, Value>,
    pub(super) context: RequestContext,
    /// The key it came with.
    pub(super) key: Option<InstanceKey>,
}

/// Why it was not, and what is known of it, for an answer.
pub(super) type Refusal = (Error, Incoming);

/// How many `_unique_id`s are remembered. oslo remembers 16 (`_drivers/amqp.py: _MsgIdCache`); a broker that comes back
/// may deliver everything unacknowledged once more.
const REMEMBERED_IDS: usize = 256;
/// RPC versions spoken: 1.0 up to this minor.
const MAX_MINOR: u32 = 3;

/// How many messages may be on their way to us, at most. oslo's default (0) is all there are, which would all be held in memory. Less than
/// the number of ids that are remembered, here and in the journal: so many may come once more.
const PREFETCH: u16 = 200;
/// Between attempts to find a queue that cannot be consumed: doubled up to this.
const CONSUME_RETRY_MAX: Duration = Duration::from_secs(30);

/// The server's parts.
#[derive(Debug)]
pub struct RpcServer {
    settings: Arc<Settings>,
    broker: Arc<Broker>,
    release: Arc<ReleaseTracker>,
    keys: Arc<KeyRing>,
    journal: Arc<Journal>,
    pub(super) lanes: Lanes,
    pub(super) desk: Desk,
    seen: Mutex<VecDeque<String>>,
}

/// A message that is understood, and not yet accepted.
struct Understood {
    delivery: Delivery,
    incoming: Incoming,
    request: Request,
    context: RequestContext,
    key: Option<InstanceKey>,
    /// For the journal; none for a read.
    entry: Option<Arc<Entry>>,
    /// When its caller gives up, in seconds since 1970.
    deadline: Option<f64>,
}

impl RpcServer {
    /// Puts the parts together; `finished` are ids whose messages may come once more, `stop` and `operations` the ends of taking requests and of
    /// working on them, `threads` where changes and backups run.
    #[expect(clippy::too_many_arguments, reason = "called once, by the composition root")]
    pub fn new(
        broker: Arc<Broker>,
        publisher: Publisher,
        dispatcher: Arc<Dispatcher>,
        keys: Arc<KeyRing>,
        release: Arc<ReleaseTracker>,
        journal: Journal,
        finished: Vec<String>,
        stop: CancellationToken,
        operations: CancellationToken,
        threads: &Handle,
    ) -> Self {
        let settings = broker.settings().clone();
        let outbox = Outbox::new(publisher, settings.broker.missing_consumer_retry_timeout);
        RpcServer {
            lanes: Lanes::new(settings.executor_pool, threads),
            desk: Desk { dispatcher, outbox, operations, stop },
            seen: Mutex::new(finished.into()),
            settings,
            broker,
            release,
            keys,
            journal: Arc::new(journal),
        }
    }

    /// Starts the database if that is the agent's business. Changes wait for it, reads do not.
    pub fn begin(&self) {
        let (dispatcher, op) = (self.desk.dispatcher.clone(), Op::internal(self.desk.operations.child_token()));
        self.lanes.submit(Lane::Write, async move { dispatcher.begin(&op).await });
    }

    /// Serves until it is stopped, then waits for what is under way. `ready` is called once, when the queue is consumed.
    pub async fn run(self, mut pulse: Pulse, ready: impl FnOnce() + Send) {
        let stop = self.desk.stop.clone();
        let mut ready = Some(ready);
        let mut failures = 0_u32;
        while let Some(connection) = pulse.during(self.broker.connect(ConnectionPurpose::Listen, &stop)).await {
            match pulse.during(self.consumer(&connection)).await {
                Ok(consumer) => {
                    failures = 0;
                    if let Some(ready) = ready.take() {
                        ready();
                    }
                    self.serve(consumer, &mut pulse, &stop).await;
                }
                Err(error) => {
                    self.not_consuming(&error, failures);
                    failures += 1;
                }
            }
            pulse.during(publisher::close(&connection)).await;
            pulse.during(self.pause(failures, &stop)).await;
        }
        pulse.end();
        self.lanes.drain().await;
        self.desk.outbox.close().await;
    }

    async fn serve(&self, consumer: Consumer, pulse: &mut Pulse, stop: &CancellationToken) {
        let mut held = VecDeque::new();
        self.consume(consumer, &mut held, pulse, stop).await;
        // Not acknowledged: the broker gives them to us again, and they are no duplicates then.
        for id in held.iter().filter_map(|understood: &Understood| understood.incoming.unique_id.as_deref()) {
            self.forget(id);
        }
    }

    /// Before the next connection: longer each time the queue could not be consumed.
    async fn pause(&self, failures: u32, stop: &CancellationToken) {
        self.broker.pause_before_reconnecting(stop).await;
        if failures > 0 {
            let pause = self.settings.broker.retry_interval.saturating_mul(1 << failures.min(8)).min(CONSUME_RETRY_MAX);
            tokio::select! {
                // Cancel-safe: a timer.
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Said once per trouble. Another broker of the list may have what this one lacks.
    fn not_consuming(&self, error: &lapin::Error, failures: u32) {
        let queue = topology::queue_name(&self.settings);
        if failures == 0 {
            tracing::error!(%error, queue, advice = topology::advice(error), "failed to consume the guest's queue; trying again");
        } else {
            tracing::debug!(%error, queue, "failed to consume the guest's queue");
        }
        self.broker.next_host();
    }

    async fn consumer(&self, connection: &Connection) -> lapin::Result<Consumer> {
        let channel = topology::ensure(connection, &self.settings).await?;
        let broker = &self.settings.broker;
        let prefetch = if broker.prefetch > 0 { broker.prefetch.min(PREFETCH) } else { PREFETCH };
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        if broker.cancel_on_failover {
            arguments.insert("x-cancel-on-ha-failover".into(), AMQPValue::Boolean(true));
        }
        let queue = topology::queue_name(&self.settings);
        let consumer = channel.basic_consume(queue.as_str().into(), "1".into(), BasicConsumeOptions::default(), arguments).await?;
        tracing::info!(queue, "consuming");
        Ok(consumer)
    }

    /// Returns when the consumer ends (connection lost, cancelled by the broker) or `stop` comes. `held` are changes that could not be
    /// written down yet, in their order.
    async fn consume(&self, mut consumer: Consumer, held: &mut VecDeque<Understood>, pulse: &mut Pulse, stop: &CancellationToken) {
        let mut retries = tokio::time::interval(self.settings.broker.retry_interval.max(Duration::from_secs(1)));
        retries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut receipts = Receipts::default();
        while !stop.is_cancelled() {
            // Also while there is always a message at hand.
            pulse.answer();
            let delivery = match at_hand(&mut consumer, &mut receipts, held.is_empty()).await {
                Some(delivery) => delivery,
                None => tokio::select! {
                    // Cancel-safe: an undelivered message stays with the broker; a timer; a watch; a token.
                    delivery = consumer.next() => delivery,
                    _ = retries.tick(), if !held.is_empty() => {
                        self.accept_held(held).await;
                        continue;
                    }
                    () = pulse.asked() => continue,
                    () = stop.cancelled() => return,
                },
            };
            match delivery {
                Some(Ok(delivery)) => self.take(delivery, held, &mut receipts).await,
                Some(Err(error)) => return tracing::warn!(%error, "the connection to the broker is lost"),
                None => return tracing::warn!("the broker cancelled the consumer"),
            }
        }
        receipts.send();
    }

    /// One message: a read is handed over, a change is written down first.
    async fn take(&self, delivery: Delivery, held: &mut VecDeque<Understood>, receipts: &mut Receipts) {
        let Some(understood) = self.understand(delivery).await else { return };
        if understood.entry.is_none() {
            return self.read(understood, held.is_empty().then_some(receipts)).await;
        }
        // While one is held, no later message's acknowledgement may include it.
        receipts.send();
        held.push_back(understood);
        if held.len() == 1 {
            self.accept_held(held).await;
        }
    }

    /// Accepts changes until one cannot be written down. What nobody waits for is kept then, in its order, and tried again.
    async fn accept_held(&self, held: &mut VecDeque<Understood>) {
        while let Some(first) = held.pop_front() {
            match self.write_down(&first).await {
                Ok(ticket) => self.accept(first, ticket).await,
                Err(error) => {
                    held.push_front(first);
                    return self.refuse_calls(held, &error).await;
                }
            }
        }
    }

    /// Answers every call: its caller would rather know now.
    async fn refuse_calls(&self, held: &mut VecDeque<Understood>, error: &Error) {
        let (calls, casts): (VecDeque<_>, VecDeque<_>) = held.drain(..).partition(|understood| understood.incoming.is_call());
        *held = casts;
        for Understood { delivery, incoming, .. } in calls {
            let state_dir = &self.settings.state_dir;
            let refusal = Error::guest(format!(
                "nothing was done, because the guest cannot write the request down ({error}): make room on the file system of {state_dir}, and ask again"
            ));
            self.refuse(&delivery, (refusal, incoming)).await;
        }
        // Once per trouble.
        if held.len() == 1 {
            tracing::error!(%error, "failed to write down an operation; trying again. Is the disk full?");
        }
    }

    /// Decodes a message. What cannot be served is answered here; what came before is dropped.
    async fn understand(&self, mut delivery: Delivery) -> Option<Understood> {
        let received = journal::now();
        let data = std::mem::take(&mut delivery.data);
        let read = envelope::decompress(data, header(&delivery, "compression").as_deref())
            .and_then(|body| envelope::open(&body).map(|incoming| (incoming, body)));
        let (incoming, body) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "refused a message");
                delivery.reject(BasicRejectOptions { requeue: false }).await.ok();
                return None;
            }
        };
        // Before it is decrypted: the repeat of a request that was served may be under a key that has changed since.
        if incoming.unique_id.as_deref().is_some_and(|id| !self.remember(id)) {
            tracing::debug!(method = failure::one_line(&incoming.method), "ignoring a duplicate message");
            acknowledge(&delivery).await;
            return None;
        }
        let Opened { incoming, args, context, key } = match self.decrypted(incoming) {
            Ok(opened) => opened,
            Err(refusal) => {
                self.refuse(&delivery, *refusal).await;
                return None;
            }
        };
        let evidence = release::evidence(&incoming.version, &context.raw.0, incoming.is_call(), incoming.knows_call_monitor);
        if let Some(evidence) = evidence {
            self.release.observe(evidence);
        }
        match check_version(&incoming).and_then(|()| self.decode(&incoming, args)) {
            Ok(request) => {
                let expires_after = expires_after(&delivery);
                let entry = (request.properties().lane != Lane::Read).then(|| {
                    Arc::new(Entry {
                        method: incoming.method.clone(),
                        unique_id: incoming.unique_id.clone(),
                        received,
                        expires_after,
                        body: text(body),
                    })
                });
                let deadline = expires_after.map(|seconds| received + seconds);
                Some(Understood { delivery, incoming, request, context, key, entry, deadline })
            }
            Err(error) => {
                let span = telemetry::of_request(&incoming.method, &context);
                self.refuse(&delivery, (error, incoming)).instrument(span).await;
                None
            }
        }
    }

    /// Hands a read over; then its message may be acknowledged, with others or alone.
    async fn read(&self, understood: Understood, receipts: Option<&mut Receipts>) {
        let acker = understood.delivery.acker.clone();
        self.hand_over(understood, None);
        match receipts {
            Some(receipts) => receipts.put_off(acker),
            None => acknowledge(&acker).await,
        }
    }

    /// Hands a change over that is written down. It begins when the broker has been told, so that its message does not come again after its end and
    /// the agent's.
    async fn accept(&self, understood: Understood, ticket: Option<Ticket>) {
        acknowledge(&understood.delivery).await;
        self.hand_over(understood, ticket);
    }

    /// Nothing here waits for an operation.
    fn hand_over(&self, understood: Understood, ticket: Option<Ticket>) {
        let Understood { incoming, request, context, key, deadline, .. } = understood;
        let reply_to = ReplyTo::of(&incoming, key);
        let span = telemetry::of_request(request.method(), &context);
        let keep_alive = span.in_scope(|| KeepAlive::start(&self.desk.outbox, reply_to.as_ref(), incoming.call_monitor_timeout));
        self.submit(Accepted { request, context, keep_alive, reply_to, ticket, deadline, recovered: None, span });
    }

    fn decode(&self, incoming: &Incoming, args: Map<String, Value>) -> Result<Request> {
        self.desk.dispatcher.admits(&incoming.method)?;
        if incoming.has_bad_args {
            let reason = "the arguments are not an object".to_owned();
            return Err(Error::BadArguments { method: failure::one_line(&incoming.method), reason });
        }
        Request::decode(&incoming.method, args)
    }

    /// Arguments and context in the clear. On failure: the error, and the message, for an answer.
    pub(super) fn decrypted(&self, mut incoming: Incoming) -> std::result::Result<Opened, Box<Refusal>> {
        let (args, context) = (std::mem::take(&mut incoming.args), std::mem::take(&mut incoming.context));
        match self.keys.open(args, context) {
            Ok((args, context, key)) => Ok(Opened { incoming, args, context: RequestContext::from_wire(context), key }),
            Err(error) => Err(Box::new((error, incoming))),
        }
    }

    async fn refuse(&self, delivery: &Delivery, (error, incoming): Refusal) {
        acknowledge(delivery).await;
        // A failure is never encrypted.
        self.fail(&incoming.method, ReplyTo::of(&incoming, None).as_ref(), error);
    }

    /// Answers a request that never ran. Its error is logged here and nowhere else.
    fn fail(&self, method: &str, reply_to: Option<&ReplyTo>, error: Error) {
        tracing::error!(error = failure::one_line(&error.to_string()), method = failure::one_line(method), "refused a request");
        if let Some(to) = reply_to {
            self.desk.outbox.post(to.letters(&Err(error)), None);
        }
    }

    async fn write_down(&self, understood: &Understood) -> Result<Option<Ticket>> {
        let Some(entry) = understood.entry.clone() else { return Ok(None) };
        let journal = self.journal.clone();
        // Reads are answered while the disk takes its time.
        let writing = tokio::task::spawn_blocking(move || journal.accept(&entry)).await;
        writing.unwrap_or_else(|error| Err(Error::guest(format!("the journal was not written: {error}")))).map(Some)
    }

    /// False if the id was remembered already.
    pub(super) fn remember(&self, id: &str) -> bool {
        let mut seen = self.seen.lock().expect("never poisoned: no panics while held");
        if seen.iter().any(|known| known == id) {
            return false;
        }
        if seen.len() >= REMEMBERED_IDS {
            seen.pop_front();
        }
        seen.push_back(id.to_owned());
        true
    }

    fn forget(&self, id: &str) {
        self.seen.lock().expect("never poisoned: no panics while held").retain(|known| known != id);
    }

    pub(super) fn submit(&self, accepted: Accepted) {
        let (lane, span) = (accepted.request.properties().lane, accepted.span.clone());
        self.lanes.submit(lane, self.desk.clone().run(accepted).instrument(span));
    }
}

/// The next message, if it has arrived already. If not, what was taken gets its turn, for an answer is waited for, and then the broker hears that it
/// was taken. `freely`: nothing else is to be done in between.
async fn at_hand(consumer: &mut Consumer, receipts: &mut Receipts, freely: bool) -> Option<Option<lapin::Result<Delivery>>> {
    let arrived = if freely && !receipts.are_due() { consumer.next().now_or_never() } else { None };
    if arrived.is_none() && !receipts.is_empty() {
        tokio::task::yield_now().await;
        receipts.send();
    }
    arrived
}

async fn acknowledge(acker: &Acker) {
    if let Err(error) = acker.ack(BasicAckOptions::default()).await {
        // It will come again, and be dropped as a duplicate.
        tracing::debug!(%error, "failed to acknowledge a message");
    }
}

/// Seconds after which the sender of a call gives up: its expiration, or with clients before oslo.messaging 1.11 the header `ttl`; both in
/// milliseconds.
fn expires_after(delivery: &Delivery) -> Option<f64> {
    let expiration = delivery.properties.expiration().as_ref().and_then(|text| text.as_str().parse::<u64>().ok());
    let ttl = || match delivery.properties.headers().as_ref()?.inner().get("ttl")? {
        AMQPValue::LongInt(ttl) => u64::try_from(*ttl).ok(),
        AMQPValue::LongLongInt(ttl) => u64::try_from(*ttl).ok(),
        AMQPValue::ShortInt(ttl) => u64::try_from(*ttl).ok(),
        _ => None,
    };
    let milliseconds = Duration::from_millis(expiration.or_else(ttl)?);
    Some(milliseconds.as_secs_f64())
}

/// JSON that was parsed is UTF-8.
fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
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
