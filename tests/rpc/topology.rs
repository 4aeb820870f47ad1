//! Every kind of queue the real oslo.messaging declares, on both releases of RabbitMQ: the guest is told of it or not, and comes
//! before or after the task manager.

use futures_util::{StreamExt, stream};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};

use crate::oslo::Peer;
use crate::rabbit::Rabbit;
use crate::support::{Guest, shared_broker, transport_url};

/// Cases at a time: two cores, and each has an agent.
const AT_ONCE: usize = 4;

fn broker_4() -> String {
    std::env::var("TROVE_TEST_BROKER_4").expect("TROVE_TEST_BROKER_4 is the amqp:// URL of a running RabbitMQ 4")
}

/// A controller of this test only: oslo.messaging's queue managers of one name share a file with the ids of their processes.
struct Host(String);

impl Host {
    fn new() -> Host {
        Host(format!("controller-{}", uuid::Uuid::new_v4().simple()))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for process in ["trove-taskmanager", "trove-conductor"] {
            std::fs::remove_file(format!("/dev/shm/{}_{process}_qmanager", self.0)).ok();
        }
    }
}

/// Options of a controller's `[oslo_messaging_rabbit]`.
fn option_sets(Host(host): &Host) -> Vec<Value> {
    let transient = json!({"rabbit_quorum_queue": true, "rabbit_transient_quorum_queue": true});
    let with = |more: Value| {
        let mut set = transient.clone();
        set.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        set
    };
    vec![
        json!({}),
        json!({"amqp_durable_queues": true}),
        json!({"amqp_auto_delete": true}),
        json!({"amqp_durable_queues": true, "amqp_auto_delete": true}),
        json!({"rabbit_ha_queues": true}),
        json!({"rabbit_transient_queues_ttl": 60}),
        json!({"rabbit_quorum_queue": true}),
        json!({"rabbit_quorum_queue": true, "amqp_durable_queues": true, "rabbit_quorum_delivery_limit": 3}),
        json!({"rabbit_quorum_queue": true, "rabbit_quorum_max_memory_length": 100, "rabbit_quorum_max_memory_bytes": 100_000}),
        transient.clone(),
        with(json!({"rabbit_stream_fanout": true, "rabbit_qos_prefetch_count": 10})),
        with(json!({"use_queue_manager": true, "hostname": host, "processname": "trove-taskmanager"})),
        json!({"use_queue_manager": true, "hostname": host, "processname": "trove-conductor"}),
        json!({"enable_cancel_on_failover": true, "rabbit_qos_prefetch_count": 5, "kombu_compression": "gzip"}),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    options: Value,
    /// The guest's files have the same options.
    told: bool,
    /// The agent finds no queue of its own, and makes it.
    agent_first: bool,
}

fn cases(host: &Host) -> Vec<Case> {
    let with = |options: Value| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(told, agent_first)| Case {
            options: options.clone(),
            told,
            agent_first,
        })
    };
    option_sets(host).into_iter().flat_map(with).collect()
}

fn guest_options(options: &Value) -> String {
    let lines = options.as_object().unwrap().iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}\n"),
        other => format!("{name}={other}\n"),
    });
    format!("[oslo_messaging_rabbit]\n{}", lines.collect::<String>())
}

/// The conductor is there, as in every deployment; then the task manager and the guest, in either order. A call is answered, and
/// a cast to the conductor arrives.
async fn works(broker: &str, peer: &Peer, case: &Case) {
    let guest = Guest::new(broker, &if case.told { guest_options(&case.options) } else { String::new() });
    let job = |what: &str| {
        let mut job = guest.job(what, "rpc_ping", json!({}));
        job["options"] = case.options.clone();
        job
    };
    let told = format!("{case:?}");
    peer.done(job("conduct"), &told).await;
    if case.agent_first {
        guest.start();
        guest.consuming(1).await;
        peer.done(job("declare"), &told).await;
    } else {
        peer.done(job("declare"), &told).await;
        guest.start();
        guest.consuming(1).await;
    }
    assert_eq!(peer.done(job("call"), &told).await, json!(true), "{told}");
    // The guest has no database yet, which is told to the conductor.
    let mut cast = job("cast");
    cast["method"] = json!("create_database");
    cast["args"] = json!({"databases": [{"_name": "db1"}]});
    cast["context"]["trove_notification"] = json!({"server_type": "guest", "request_id": "r"});
    peer.done(cast, &told).await;
    let heard = peer.done(job("heard"), &told).await;
    assert_eq!(heard["notification"]["instance_id"], guest.id.as_str(), "{told}");
    assert!(!guest.log().contains("other options than this guest's"), "{told}\n{}", guest.log());
    peer.done(job("dismiss"), &told).await;
}

async fn every_kind_works(broker: &str) {
    // Dropped last: the peer's file goes with it.
    let host = Host::new();
    let peer = Peer::start();
    stream::iter(cases(&host)).map(|case| works_boxed(broker, &peer, case)).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

async fn works_boxed(broker: &str, peer: &Peer, case: Case) {
    Box::pin(works(broker, peer, &case)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_queue_works_on_rabbitmq_3() {
    every_kind_works(&shared_broker()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_queue_works_on_rabbitmq_4() {
    every_kind_works(&broker_4()).await;
}

/// As captured from oslo.messaging of Kilo (1.8) and Train (10.2): exchange, the guest's queue, and the caller's reply queue.
async fn old_declarations_work(broker: &str) {
    let peer = Peer::start();
    for (durable, auto_delete, ha) in
        [(false, false, false), (true, false, false), (false, true, false), (true, true, false), (true, false, true)]
    {
        let guest = Guest::new(broker, "");
        let connection = Connection::connect(broker, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let exchange = ExchangeDeclareOptions { durable, auto_delete, ..Default::default() };
        channel.exchange_declare(guest.exchange.as_str().into(), ExchangeKind::Topic, exchange, FieldTable::default()).await.unwrap();
        let mut arguments = FieldTable::default();
        if ha {
            arguments.insert("x-ha-policy".into(), AMQPValue::LongString("all".into()));
        }
        let queue = format!("guestagent.{}", guest.id);
        let options = QueueDeclareOptions { durable, auto_delete, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(queue.as_str().into(), guest.exchange.as_str().into(), queue.as_str().into(), bind, FieldTable::default())
            .await
            .unwrap();
        guest.start();
        guest.consuming(1).await;
        let mut wire = guest.wire().await;
        // Kilo's clients bind the reply queue to an exchange of its name; the answer comes without it.
        let own = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
        let name = wire.reply_queue.clone();
        wire.channel.exchange_declare(name.as_str().into(), ExchangeKind::Direct, own, FieldTable::default()).await.unwrap();
        let bind = QueueBindOptions::default();
        wire.channel
            .queue_bind(name.as_str().into(), name.as_str().into(), name.as_str().into(), bind, FieldTable::default())
            .await
            .unwrap();
        wire.ping().await;
        // A client of Train lets its reply queue expire.
        let mut job = guest.job("call", "rpc_ping", json!({}));
        job["options"] = json!({"amqp_durable_queues": durable, "amqp_auto_delete": auto_delete});
        assert_eq!(peer.done(job, "Train").await, json!(true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn declarations_of_old_releases_work_on_rabbitmq_3() {
    old_declarations_work(&shared_broker()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn declarations_of_old_releases_work_on_rabbitmq_4() {
    old_declarations_work(&broker_4()).await;
}

/// The guest's files say one thing, the queue is another: it is used, and the difference is told, once.
async fn a_contradiction_is_told(broker: &str) {
    let peer = Peer::start();
    let classic = json!({"amqp_durable_queues": false});
    let quorum = json!({"rabbit_quorum_queue": true, "rabbit_quorum_delivery_limit": 3});
    for (there, here, words) in [
        (&classic, json!({"amqp_durable_queues": true}), "amqp_durable_queues is true here and false there"),
        (&classic, quorum.clone(), "rabbit_quorum_queue is true here and false there"),
        (&quorum, json!({"rabbit_quorum_queue": false}), "rabbit_quorum_queue is false here and true there"),
        (&quorum, json!({"rabbit_quorum_queue": true}), "rabbit_quorum_delivery_limit is 0 here and 3 there"),
        (&quorum, json!({"amqp_auto_delete": true}), "amqp_auto_delete is true here and false there"),
    ] {
        let guest = Guest::new(broker, &guest_options(&here));
        let mut job = guest.job("declare", "rpc_ping", json!({}));
        job["options"] = there.clone();
        peer.done(job.clone(), words).await;
        guest.start();
        guest.consuming(1).await;
        job["do"] = json!("call");
        assert_eq!(peer.done(job, words).await, json!(true));
        let log = guest.log();
        assert_eq!(log.matches("other options than this guest's").count(), 1, "{log}");
        assert!(log.contains(words), "{words:?} is missing:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradiction_is_told_and_the_queue_used_on_rabbitmq_3() {
    a_contradiction_is_told(&shared_broker()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradiction_is_told_and_the_queue_used_on_rabbitmq_4() {
    a_contradiction_is_told(&broker_4()).await;
}

/// What nobody can have is said once, while the agent tries on; when the task manager makes a queue that can be had, it is used.
async fn an_impossible_queue_is_told(broker: &str) {
    let guest = Guest::new(broker, "[oslo_messaging_rabbit]\nrabbit_quorum_queue=true\namqp_auto_delete=true");
    let peer = Peer::start();
    guest.start();
    guest.logged("failed to consume the guest's queue", 3).await;
    let log = guest.log();
    let told =
        |level: &str| log.lines().filter(|line| line.contains(level) && line.contains("failed to consume the guest's queue")).count();
    assert_eq!((told(" ERROR "), told(" DEBUG ") >= 2), (1, true), "{log}");
    assert!(log.contains("auto-delete") && log.contains("a quorum queue cannot be amqp_auto_delete"), "{log}");
    let mut job = guest.job("declare", "rpc_ping", json!({}));
    // The exchange is there already, as the guest was told to make it.
    job["options"] = json!({"rabbit_quorum_queue": true});
    let url = transport_url(broker);
    peer.done(json!({"do": "forget_exchange", "url": url, "exchange": guest.exchange}), "exchange").await;
    peer.done(job.clone(), "declare").await;
    guest.consuming(1).await;
    job["do"] = json!("call");
    assert_eq!(peer.done(job, "call").await, json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_queue_is_told_on_rabbitmq_3() {
    an_impossible_queue_is_told(&shared_broker()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_queue_is_told_on_rabbitmq_4() {
    an_impossible_queue_is_told(&broker_4()).await;
}

/// Another connection has the queue for itself, then goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_somebody_else_holds_is_told_and_had_when_it_is_free() {
    for broker in [shared_broker(), broker_4()] {
        let guest = Guest::new(&broker, "");
        let connection = Connection::connect(&broker, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = format!("guestagent.{}", guest.id);
        channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
        guest.start();
        guest.logged("another connection has the queue for itself", 1).await;
        connection.close(200, "OK".into()).await.unwrap();
        guest.consuming(1).await;
        guest.wire().await.ping().await;
    }
}

/// RabbitMQ 4 may be told to have no transient queues that are not exclusive; then quorum queues are what works.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_transient_queues_says_so_and_has_quorum_queues() {
    let rabbit = Rabbit::start_4("deprecated_features.permit.transient_nonexcl_queues = false\n").await;
    let broker = rabbit.url();
    let guest = Guest::new(&broker, "");
    guest.start();
    guest.logged("this broker permits no transient queues", 1).await;
    guest.logged("failed to consume the guest's queue", 3).await;
    assert_eq!(guest.log().matches("this broker permits no transient queues").count(), 1, "{}", guest.log());
    drop(guest);
    let peer = Peer::start();
    let options = json!({"rabbit_quorum_queue": true, "rabbit_transient_quorum_queue": true});
    for (told, agent_first) in [(false, false), (false, true), (true, true)] {
        works(&broker, &peer, &Case { options: options.clone(), told, agent_first }).await;
    }
}
