//! With `instance_rpc_encr_key`.

use serde_json::{Value, json};

use crate::oslo::Peer;
use crate::support::{Guest, PLANTED};

const KEY: &str = "0123456789abcdefGHIJKLMNOPQRSTuv";

#[tokio::test(flavor = "multi_thread")]
async fn troves_own_serializer_is_understood_and_other_keys_are_not() {
    let guest = Guest::serving(&format!("instance_rpc_encr_key={KEY}")).await;
    let peer = Peer::start();
    assert_eq!(peer.ok(guest.job("call", "rpc_ping", json!({}))).await, json!(true));
    let info = peer.ok(guest.job("call", "get_hwinfo", json!({}))).await;
    assert!(info["mem_total"].as_u64().unwrap() > 0, "{info}");
    for key in [json!(null), json!("another-key-another-key-another-k")] {
        let mut job = guest.job("call", "resize_fs", json!({"device_path": PLANTED}));
        job["key"] = key;
        let refused = peer.run(job).await;
        let text = refused["text"].as_str().unwrap();
        assert!(text.contains("instance_rpc_encr_key") || text.contains("another key") || text.contains("context"), "{refused}");
        assert!(!text.contains(PLANTED), "{refused}");
    }
    assert_eq!(guest.journal("started") + guest.journal("accepted"), 0);
    let log = guest.log();
    assert!(!log.contains(KEY));
    assert_eq!(peer.ok(guest.job("call", "rpc_ping", json!({}))).await, json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_to_the_conductor_are_decrypted_by_trove() {
    let guest = Guest::serving(&format!("instance_rpc_encr_key={KEY}")).await;
    let mut wire = guest.wire().await;
    let peer = Peer::start();
    let mut job = guest.job("cast", "create_database", json!({"databases": [{"_name": "db1"}]}));
    job["context"]["trove_notification"] = json!({"server_type": "guest", "request_id": "r"});
    peer.ok(job).await;
    let cast = wire.cast("notify_exc_info").await;
    assert_eq!(cast["_context_csz-instance-id"], guest.id.as_str());
    let context = peer.ok(json!({"do": "decrypt", "data": cast["_context_context"], "key": KEY})).await;
    assert_eq!(context["trove_notification"]["request_id"], "r");
    let sealed: Value = serde_json::from_str(cast["args"]["serialized_notification"].as_str().unwrap()).unwrap();
    assert_eq!(sealed["csz-instance-id"], guest.id.as_str());
    let notification = peer.ok(json!({"do": "decrypt", "data": sealed["entity"], "key": KEY})).await;
    assert_eq!(notification["instance_id"], guest.id.as_str());
}
