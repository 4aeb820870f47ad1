//! The agent's own end, in good order and otherwise.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

use trove_guestagent::status::PREPARE_ATTEMPTS;

use crate::support::{Guest, PLANTED, until};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_begun_is_reported_and_the_rest_runs_once() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let (begun, waiting) = wire.two_changes(&guest).await;
    guest.kill();
    guest.open_gate("waiting");
    guest.start();
    let (_, text) = wire.failure_of(&begun).await;
    assert!(text.contains("restarted in the middle of 'resize_fs'"), "{text}");
    let (_, text) = wire.failure_of(&waiting).await;
    assert!(text.contains(guest.gate("waiting").as_str()), "{text}");
    guest.journalled("done", 2).await;
    guest.journalled("ended", 0).await;
    assert_eq!(guest.journal("started") + guest.journal("accepted"), 0);
    assert_eq!(guest.log().matches("the operation failed").count(), 1, "{}", guest.log());
    wire.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preparation_cut_short_is_begun_again_but_not_for_ever() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    wire.prepare(&guest).await;
    for _ in 1..PREPARE_ATTEMPTS {
        guest.kill();
        guest.start();
        assert_eq!(wire.heartbeat().await, "building");
    }
    guest.kill();
    guest.start();
    while wire.heartbeat().await != "failed to spawn" {}
    let cast = wire.cast("notify_exc_info").await;
    assert!(cast["args"]["message"].as_str().unwrap().contains(&format!("'prepare' {PREPARE_ATTEMPTS} times")), "{cast:?}");
    // And if the journal is lost, it is not BUILD for ever either.
    guest.kill();
    std::fs::write(guest.dir.join("state/status.json"), r#"{"phase": "preparing"}"#).unwrap();
    std::fs::remove_dir_all(guest.dir.join("state/journal")).unwrap();
    guest.start();
    assert_eq!(wire.heartbeat().await, "failed to spawn");
    guest.logged("the journal has no preparation any more", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_does_not_keep_the_agent_from_serving() {
    let guest = Guest::new(&crate::support::shared_broker(), "");
    std::fs::create_dir_all(guest.dir.join("state/journal")).unwrap();
    std::fs::write(guest.dir.join("state/journal/0000000000000001.started"), format!("{{\"method\": \"{PLANTED}")).unwrap();
    guest.start();
    guest.consuming(1).await;
    let mut wire = guest.wire().await;
    wire.ping().await;
    assert_eq!(guest.journal("damaged"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_the_begun_end_and_leaves_the_rest_to_the_next_start() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let (begun, waiting) = wire.two_changes(&guest).await;
    guest.terminate();
    guest.logged("asked to stop", 1).await;
    guest.open_gate("begun");
    let (_, text) = wire.failure_of(&begun).await;
    assert!(text.contains(guest.gate("begun").as_str()), "{text}");
    assert!(guest.ended().await.success());
    assert_eq!((guest.journal("accepted"), guest.journal("started"), guest.journal("ended")), (1, 0, 0));
    guest.open_gate("waiting");
    guest.start();
    assert!(wire.failure_of(&waiting).await.1.contains(guest.gate("waiting").as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_agent_ends_at_once_and_a_deleted_queue_is_made_again() {
    // The conductor's queue of the test deletes itself, which the agent would take for the controllers' option.
    let guest = Guest::serving("[oslo_messaging_rabbit]\namqp_auto_delete=false").await;
    let mut wire = guest.wire().await;
    let queue = format!("guestagent.{}", guest.id);
    wire.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    guest.consuming(2).await;
    wire.ping().await;
    guest.terminate();
    assert!(guest.ended().await.success());
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    until("no consumer", async || {
        let found = wire.channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await.unwrap();
        (found.consumer_count() == 0).then_some(())
    })
    .await;
}
