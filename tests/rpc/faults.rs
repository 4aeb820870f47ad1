//! The connection to the broker fails in every way there is: no accepted operation is lost or run twice.

use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::oslo::Peer;
use crate::proxy::Proxy;
use crate::rabbit::Rabbit;
use crate::support::{Guest, PLANTED, Wire, envelope, fresh, shared_broker};

const DURABLE: &str = "[oslo_messaging_rabbit]\namqp_durable_queues=true\nkombu_missing_consumer_retry_timeout=20";
/// As long as an answer waits for a reply queue.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of every guest of these tests, and what a busy machine may take on top.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const MARGIN: Duration = Duration::from_secs(3);
/// The word for a guest that could not be prepared.
const FAILED: &str = "failed to spawn";

/// What happens to a broker, and what makes it good again.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Restart,
    Kill,
    CloseConnections,
    MemoryAlarm,
    Credentials,
}

impl Fault {
    const ALL: [Fault; 5] = [Fault::Restart, Fault::Kill, Fault::CloseConnections, Fault::MemoryAlarm, Fault::Credentials];

    async fn strike(self, rabbit: &mut Rabbit) {
        match self {
            Fault::Restart => rabbit.restart().await,
            Fault::Kill => {
                rabbit.kill().await;
                // An outage that lasts longer than any queue is waited for.
                tokio::time::sleep(PATIENCE).await;
            }
            Fault::CloseConnections => close_connections(rabbit).await,
            Fault::MemoryAlarm => drop(rabbit.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await),
            Fault::Credentials => {
                rabbit.ctl(&["change_password", "guest", "another"]).await;
                close_connections(rabbit).await;
            }
        }
    }

    /// That the agent has noticed.
    fn sign(self) -> &'static str {
        match self {
            Fault::MemoryAlarm => "the broker takes no messages now",
            Fault::Credentials => "check user, password",
            _ => "the connection to the broker is lost",
        }
    }

    async fn mend(self, rabbit: &mut Rabbit) {
        match self {
            Fault::Restart | Fault::CloseConnections => {}
            Fault::Kill => rabbit.again().await,
            Fault::MemoryAlarm => drop(rabbit.ctl(&["set_vm_memory_high_watermark", "0.8"]).await),
            Fault::Credentials => drop(rabbit.ctl(&["change_password", "guest", "guest"]).await),
        }
    }
}

async fn close_connections(rabbit: &Rabbit) {
    rabbit.ctl(&["close_all_connections", "on purpose"]).await;
}

/// A call of the real client that waits at a gate for as long as a broker takes to come back.
fn gate_job(guest: &Guest, name: &str) -> Value {
    let mut job = guest.job("call", "resize_fs", json!({"device_path": guest.gate(name)}));
    job["timeout"] = json!(55);
    job["options"] = json!({"amqp_durable_queues": true});
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_befalls_the_broker_a_call_under_way_and_one_behind_it_are_answered_once() {
    let mut rabbit = Rabbit::start().await;
    let guest = Guest::new(&rabbit.url(), DURABLE);
    guest.start();
    guest.consuming(1).await;
    let peer = Peer::start();
    let mut consumed = 1;
    for fault in Fault::ALL {
        let (first, second) = (format!("{fault:?}-first"), format!("{fault:?}-second"));
        let calls = async { tokio::join!(peer.run(gate_job(&guest, &first)), peer.run(gate_job(&guest, &second))) };
        let strike = async {
            guest.journalled("started", 1).await;
            guest.journalled("accepted", 1).await;
            let signs = guest.log().matches(fault.sign()).count();
            fault.strike(&mut rabbit).await;
            // A broker blocks only who sends: the answers do.
            if !matches!(fault, Fault::MemoryAlarm) {
                guest.logged(fault.sign(), signs + 1).await;
            }
            guest.open_gate(&first);
            guest.open_gate(&second);
            // Whichever of the two came first.
            guest.ran(&first).await;
            guest.ran(&second).await;
            if matches!(fault, Fault::MemoryAlarm) {
                guest.logged(fault.sign(), signs + 1).await;
                guest.journalled("ended", 2).await;
            }
            fault.mend(&mut rabbit).await;
        };
        let ((one, two), ()) = tokio::join!(calls, strike);
        for (answer, gate) in [(one, &first), (two, &second)] {
            assert!(answer["text"].as_str().is_some_and(|text| text.contains(gate.as_str())), "{fault:?}: {answer}");
            assert_eq!(guest.runs(gate), 1, "{fault:?}");
        }
        if !matches!(fault, Fault::MemoryAlarm) {
            consumed += 1;
            guest.consuming(consumed).await;
        }
        guest.journalled("ended", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_the_durable_queue_of_a_broker_that_is_killed_is_served() {
    let mut rabbit = Rabbit::start().await;
    let guest = Guest::new(&rabbit.url(), DURABLE);
    guest.start();
    guest.consuming(1).await;
    guest.kill();
    let connection = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let message = json!({"method": "resize_fs", "args": {"device_path": guest.gate("kept")}, "_unique_id": fresh()});
    let queue = format!("guestagent.{}", guest.id);
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let (body, options) = (envelope(&message), BasicPublishOptions::default());
    let publish = channel.basic_publish("".into(), queue.as_str().into(), options, &body, persistent);
    assert!(publish.await.unwrap().await.unwrap().is_ack());
    rabbit.kill().await;
    guest.open_gate("kept");
    guest.start();
    guest.logged("failed to connect to the message broker", 1).await;
    rabbit.again().await;
    guest.ran("kept").await;
    guest.wire().await.ping().await;
    assert_eq!(guest.runs("kept"), 1);
}

/// A guest that consumes through a proxy, and its controller, which does not.
async fn behind_a_proxy(options: &str) -> (Proxy, Guest, Wire) {
    let proxy = Proxy::start(&shared_broker()).await;
    let guest = Guest::behind(&proxy, options);
    guest.start();
    guest.consuming(1).await;
    let wire = guest.wire().await;
    (proxy, guest, wire)
}

/// The call that waited at a gate ends with the gate's error, once, and ran once.
async fn answered_once(wire: &mut Wire, guest: &Guest, id: &str, gate: &str) {
    assert!(wire.failure_of(id).await.1.contains(guest.gate(gate).as_str()));
    wire.no_more_for(id).await;
    assert_eq!(guest.runs(gate), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_brings_a_change_again_and_it_runs_once() {
    let (proxy, guest, mut wire) = behind_a_proxy("").await;
    proxy.lose_acknowledgements();
    let (begun, waiting) = wire.two_changes(&guest).await;
    proxy.cut();
    guest.logged("ignoring a duplicate message", 2).await;
    guest.open_gate("begun");
    guest.open_gate("waiting");
    for (id, gate) in [(begun, "begun"), (waiting, "waiting")] {
        answered_once(&mut wire, &guest, &id, gate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_before_a_finished_change_comes_again_does_not_run_it_again() {
    let (proxy, guest, mut wire) = behind_a_proxy("").await;
    proxy.lose_acknowledgements();
    // A call, whose answer is told; and a cast, of which there is nothing to tell.
    guest.open_gate("call");
    guest.open_gate("cast");
    let call = wire.call_gate(&guest, "call").await;
    wire.failure_of(&call).await;
    wire.cast_with("resize_fs", json!({"device_path": guest.gate("cast"), "secret": PLANTED}), json!({})).await;
    guest.journalled("done", 2).await;
    guest.kill();
    proxy.cut();
    guest.start();
    guest.logged("ignoring a duplicate message", 2).await;
    wire.no_more_for(&call).await;
    assert_eq!((guest.runs("call"), guest.runs("cast")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_before_an_answer_is_told_tells_it_once_and_runs_nothing_again() {
    let (proxy, guest, mut wire) = behind_a_proxy("").await;
    let id = wire.call_gate(&guest, "dev").await;
    guest.journalled("started", 1).await;
    proxy.lose_everything();
    guest.open_gate("dev");
    guest.journalled("ended", 1).await;
    guest.kill();
    proxy.cut();
    guest.start();
    answered_once(&mut wire, &guest, &id, "dev").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_gets_through_is_found_and_replaced() {
    let (proxy, guest, mut wire) = behind_a_proxy("[oslo_messaging_rabbit]\nheartbeat_timeout_threshold=2").await;
    let under_way = wire.call_gate(&guest, "under-way").await;
    guest.journalled("started", 1).await;
    proxy.lose_everything();
    let meanwhile = wire.call_gate(&guest, "meanwhile").await;
    guest.open_gate("under-way");
    guest.open_gate("meanwhile");
    for (id, gate) in [(under_way, "under-way"), (meanwhile, "meanwhile")] {
        answered_once(&mut wire, &guest, &id, gate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_heartbeats_a_connection_whose_packets_are_lost_is_found_and_replaced() {
    let (proxy, guest, mut wire) = behind_a_proxy("[oslo_messaging_rabbit]\nheartbeat_timeout_threshold=0").await;
    let under_way = wire.call_gate(&guest, "under-way").await;
    guest.journalled("started", 1).await;
    let lost = proxy.lose_packets();
    let meanwhile = wire.call_gate(&guest, "meanwhile").await;
    guest.open_gate("under-way");
    guest.open_gate("meanwhile");
    guest.logged("the connection to the broker is lost", 1).await;
    // The broker has no heartbeats either, and would keep what it sent for a consumer that is gone.
    proxy.cut();
    drop(lost);
    for (id, gate) in [(under_way, "under-way"), (meanwhile, "meanwhile")] {
        answered_once(&mut wire, &guest, &id, gate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_on_while_the_queue_is_deleted_and_made_again() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let (begun, waiting) = wire.two_changes(&guest).await;
    let queue = format!("guestagent.{}", guest.id);
    wire.channel.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
    guest.logged("the broker cancelled the consumer", 1).await;
    guest.consuming(2).await;
    let after = wire.call_gate(&guest, "after").await;
    for (id, gate) in [(begun, "begun"), (waiting, "waiting"), (after, "after")] {
        guest.open_gate(gate);
        assert!(wire.failure_of(&id).await.1.contains(guest.gate(gate).as_str()));
        assert_eq!(guest.runs(gate), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_two_brokers_nothing_accepted_is_lost() {
    let mut brokers = [Rabbit::start().await, Rabbit::start().await];
    let both = brokers.each_ref().map(Rabbit::url).join(",");
    let guest = Guest::new(&both, DURABLE);
    guest.start();
    guest.consuming(1).await;
    // One that could not be prepared: from then on its heartbeats say so, one a second.
    let mut controller = Wire::connect(&guest, &brokers[0].url(), &format!("reply_{}", fresh())).await;
    controller.prepare(&guest).await;
    guest.open_gate("dev");
    assert_eq!(controller.heartbeat().await, FAILED);
    for dies in [0, 1] {
        // Neither knows anything of the other. A client that moves over makes its reply queue there.
        let (gate, replies) = (format!("dev-{dies}"), format!("reply_{}", fresh()));
        let before = Wire::connect(&guest, &brokers[dies].url(), &replies).await;
        let id = before.call_gate(&guest, &gate).await;
        guest.journalled("started", 1).await;
        brokers[dies].kill().await;
        guest.consuming(2 + dies).await;
        let moved = Instant::now();
        guest.open_gate(&gate);
        let mut after = Wire::connect(&guest, &brokers[1 - dies].url(), &replies).await;
        assert_eq!(after.heartbeat().await, FAILED);
        assert!(moved.elapsed() < 2 * REPORT_INTERVAL + MARGIN, "no heartbeat within two intervals");
        answered_once(&mut after, &guest, &id, &gate).await;
        brokers[dies].again().await;
    }
}
