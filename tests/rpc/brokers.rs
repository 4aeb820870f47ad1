//! Brokers that go away.

use serde_json::json;

use crate::oslo::Peer;
use crate::rabbit::Rabbit;
use crate::support::{Guest, free_port, shared_broker};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_killed_is_served_again_and_hears_what_it_missed() {
    let mut rabbit = Rabbit::start().await;
    let guest = Guest::new(&rabbit.url(), "[oslo_messaging_rabbit]\namqp_durable_queues=true");
    guest.start();
    guest.consuming(1).await;
    let mut wire = guest.wire().await;
    wire.prepare(&guest).await;
    rabbit.kill().await;
    // It fails while nobody can be told; the lane goes on, the journal keeps the news.
    guest.open_gate("dev");
    guest.journalled("ended", 1).await;
    guest.kill();
    guest.start();
    rabbit.again().await;
    guest.consuming(2).await;
    let mut wire = guest.wire().await;
    assert_eq!(wire.heartbeat().await, "failed to spawn");
    wire.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_queued_while_the_agent_was_away_is_answered() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    guest.kill();
    let id = wire.call("rpc_ping", json!({})).await;
    guest.start();
    assert_eq!(wire.reply_to(&id).await["result"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_broker_is_used_when_the_first_is_dead_or_dies() {
    let dead = format!("amqp://guest:guest@127.0.0.1:{}/%2F", free_port());
    let guest = Guest::new(&format!("{dead},{}", shared_broker()), "");
    guest.start();
    guest.consuming(1).await;
    guest.wire().await.ping().await;
    drop(guest);

    let mut first = Rabbit::start().await;
    let guest = Guest::new(&format!("{},{}", first.url(), shared_broker()), "");
    guest.start();
    guest.consuming(1).await;
    first.kill().await;
    guest.consuming(2).await;
    let peer = Peer::start();
    assert_eq!(peer.ok(guest.job("call", "rpc_ping", json!({}))).await, json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_any_broker_ends_when_it_is_told_to() {
    let guest = Guest::new(&format!("amqp://guest:guest@127.0.0.1:{}/%2F", free_port()), "");
    guest.start();
    guest.logged("failed to connect to the message broker", 1).await;
    guest.terminate();
    assert!(guest.ended().await.success());
}
