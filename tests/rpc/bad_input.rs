//! Messages nobody should send.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use crate::support::{Guest, PLANTED, envelope, fresh};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_leave_the_agent_serving() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let deep = "[".repeat(100_000);
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\xff\xfe\x00".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        deep.clone().into_bytes(),
        format!("{{\"oslo.version\": \"3.0\", \"oslo.message\": \"{PLANTED}\"}}").into_bytes(),
        format!("{{\"oslo.version\": \"2.0\", \"oslo.message\": \"{PLANTED}\"}}").into_bytes(),
        br#"{"oslo.version": 2.0, "oslo.message": {}}"#.to_vec(),
        json!({"oslo.version": "2.0", "oslo.message": deep}).to_string().into_bytes(),
        envelope(&json!({"method": 5})),
        envelope(&json!({"args": {}})),
        envelope(&json!({"method": "rpc_ping", "_msg_id": 5})),
        envelope(&json!({"method": "rpc_ping", "version": 1.0})),
        envelope(&json!({"method": "rpc_ping", "_unique_id": []})),
        br#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"rpc_ping\", \"args\": {\"a\": 1e999}}"}"#.to_vec(),
        br#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"\\ud800\"}"}"#.to_vec(),
    ];
    for body in &bodies {
        wire.send(body, BasicProperties::default()).await;
    }
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), AMQPValue::LongString("application/x-gzip".into()));
    wire.send(b"not zlib", BasicProperties::default().with_headers(headers)).await;
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), AMQPValue::LongString("application/x-brotli".into()));
    wire.send(b"x", BasicProperties::default().with_headers(headers)).await;
    wire.ping().await;
    assert_eq!(guest.log().matches("refused a message").count(), bodies.len() + 2);
    assert_eq!(guest.log().matches("consuming queue=").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_with_odd_parts_are_told() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let id = wire.call("create_user", json!([PLANTED])).await;
    assert_eq!(wire.failure_of(&id).await.0, "TypeError");
    let id = wire.call("create_user", json!({"users": [{"_name": "u", "_password": {"x": PLANTED}}]})).await;
    let (class, text) = wire.failure_of(&id).await;
    assert!(class == "TypeError" && !text.contains(PLANTED), "{text}");
    for method in ["", "_private", "__init__", "line\nbreak", "emoji \u{1f600}"] {
        let id = wire.call(method, json!({})).await;
        assert_eq!(wire.failure_of(&id).await.0, "NoSuchMethod");
    }
    let id = wire.call(&"x".repeat(100_000), json!({})).await;
    assert!(wire.failure_of(&id).await.1.len() < 300);
    for version in ["1.4", "2.0", "0.9", "x", "", "1", "1.-1"] {
        let id = wire.call_with("rpc_ping", json!({}), json!({"version": version, "_timeout": null})).await;
        assert_eq!(wire.failure_of(&id).await.0, "UnsupportedVersion", "{version}");
    }
    let id = wire.call_with("rpc_ping", json!({}), json!({"namespace": "n", "_timeout": null})).await;
    assert_eq!(wire.failure_of(&id).await.0, "UnsupportedVersion");
    let id = wire.call("oslo_rpc_server_ping", json!({})).await;
    assert_eq!(wire.failure_of(&id).await.0, "NoSuchMethod");
    let id = wire.call("rpc_ping", json!({"unknown": PLANTED})).await;
    assert_eq!(wire.reply_to(&id).await["result"], true);
    assert!(!guest.log().contains("line\nbreak"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_are_read() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let id = wire.call("rpc_ping", json!({"blob": "x".repeat(10 << 20)})).await;
    assert_eq!(wire.reply_to(&id).await["result"], true);
    guest.open_gate("dev");
    let id = wire.call("resize_fs", json!({"device_path": guest.gate("dev"), "blob": PLANTED.repeat(500_000)})).await;
    assert_eq!(wire.failure_of(&id).await.0, "GuestError");
    guest.journalled("started", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_caller_has_given_up_is_not_run() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let first = wire.call("resize_fs", json!({"device_path": guest.gate("first")})).await;
    guest.journalled("started", 1).await;
    // Kilo's client tells its time-out in a header only.
    let late = json!({"method": "resize_fs", "args": {"device_path": guest.gate("second")}, "_msg_id": fresh(), "_reply_q": wire.reply_queue,
                      "_unique_id": fresh()});
    let mut headers = FieldTable::default();
    headers.insert("ttl".into(), AMQPValue::LongInt(1));
    wire.send(&envelope(&late), BasicProperties::default().with_headers(headers)).await;
    guest.journalled("accepted", 1).await;
    guest.open_gate("first");
    wire.failure_of(&first).await;
    guest.logged("its caller had given up", 1).await;
    guest.journalled("accepted", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_refuses_casts_wait_in_order_calls_are_refused_and_reads_go_on() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let journal = guest.dir.join("state/journal");
    let aside = guest.dir.join("state/aside");
    std::fs::rename(&journal, &aside).unwrap();
    for name in ["one", "two", "three"] {
        guest.open_gate(name);
    }
    // Alone, it is refused at once; behind a cast, which is kept, at the next attempt.
    for before in [None, Some("one")] {
        if let Some(name) = before {
            wire.cast_with("resize_fs", json!({"device_path": guest.gate(name)}), json!({})).await;
        }
        let refused = wire.call_gate(&guest, "two").await;
        let (class, text) = wire.failure_of(&refused).await;
        assert!(
            class == "GuestError" && text.contains("nothing was done") && text.contains("No such file or directory"),
            "{class}: {text}"
        );
    }
    wire.cast_with("resize_fs", json!({"device_path": guest.gate("three")}), json!({})).await;
    guest.logged("failed to write down an operation", 1).await;
    wire.ping().await;
    std::fs::rename(&aside, &journal).unwrap();
    let last = wire.call_gate(&guest, "two").await;
    assert!(wire.failure_of(&last).await.1.contains(guest.gate("two").as_str()));
    assert_eq!(["one", "two", "three"].map(|name| guest.runs(name)), [1, 1, 1]);
    let log = guest.log();
    assert!(log.find(guest.gate("one").as_str()).unwrap() < log.find(guest.gate("three").as_str()).unwrap());
}
