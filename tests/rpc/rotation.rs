//! `instance_rpc_encr_key` changes while the agent runs.

use serde_json::{Value, json};

use crate::oslo::Peer;
use crate::support::{Guest, PLANTED, Wire, shared_broker};

const OLD: &str = "0123456789abcdefGHIJKLMNOPQRSTuv";
const NEW: &str = "vuTSRQPONMLKJIHGfedcba9876543210";

impl Guest {
    /// One whose instance waits for `cluster_complete`.
    async fn in_cluster() -> Guest {
        let guest = Guest::new(&shared_broker(), &format!("instance_rpc_encr_key={OLD}"));
        std::fs::create_dir(guest.dir.join("state")).unwrap();
        std::fs::write(guest.dir.join("state/status.json"), r#"{"phase": "cluster_ready"}"#).unwrap();
        guest.start();
        guest.consuming(1).await;
        guest
    }

    /// Changes the key of `guest_info.conf`, in place: as an editor that writes half a file would, up to `length` bytes.
    fn write_key(&self, key: &str, length: usize) {
        let text = format!("[DEFAULT]\nguest_id={}\ndatastore_manager=mariadb\ninstance_rpc_encr_key={key}\n", self.id);
        std::fs::write(self.dir.join("conf.d/guest_info.conf"), text.get(..length.min(text.len())).unwrap()).unwrap();
    }

    fn sealed(&self, key: &str, method: &str, args: Value) -> Value {
        let mut job = self.job("call", method, args);
        job["key"] = json!(key);
        job
    }
}

/// Which key the next heartbeat is under.
async fn key_of_a_heartbeat(wire: &mut Wire, peer: &Peer) -> &'static str {
    let cast = wire.cast("heartbeat").await;
    let sealed: Value = serde_json::from_str(cast["args"]["payload"].as_str().unwrap()).unwrap();
    for key in [OLD, NEW] {
        let clear = peer.run(json!({"do": "decrypt", "data": sealed["entity"], "key": key})).await;
        if clear["result"].is_object() {
            return key;
        }
    }
    panic!("a heartbeat under neither key: {cast:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_changes_in_the_file_is_taken_over() {
    let guest = Guest::in_cluster().await;
    let peer = Peer::start();
    let ping = |key| peer.run(guest.sealed(key, "rpc_ping", json!({})));
    assert_eq!(ping(OLD).await["result"], true);
    let refused = ping(NEW).await;
    assert!(refused["text"].as_str().unwrap().contains("another key"), "{refused}");
    // Calls under the old key are in the agent while the key changes, and the new one is used.
    let failing = peer.run(guest.sealed(OLD, "resize_fs", json!({"device_path": guest.gate("dev")})));
    let behind = async {
        guest.journalled("started", 1).await;
        peer.run(guest.sealed(OLD, "cluster_complete", json!({}))).await
    };
    let change = async {
        guest.journalled("started", 1).await;
        guest.journalled("accepted", 1).await;
        guest.write_key(NEW, usize::MAX);
        assert_eq!(ping(NEW).await["result"], true);
        let refused = ping(OLD).await;
        assert!(refused["text"].as_str().unwrap().contains("another key"), "{refused}");
        guest.open_gate("dev");
    };
    let (failing, behind, ()) = tokio::join!(failing, behind, change);
    assert!(failing["text"].as_str().unwrap().contains("dev"), "{failing}");
    // Trove's serializer hands out as it is what it cannot decrypt.
    assert!(behind.get("error").is_none() && behind["result"].is_null(), "{behind}");
    // The instance is active now, and what is said of it is under the new key.
    let mut wire = guest.wire().await;
    assert_eq!(key_of_a_heartbeat(&mut wire, &peer).await, NEW);
    let log = guest.log();
    assert_eq!(log.matches("the new key is in force").count(), 1, "{log}");
    assert!(!log.contains(OLD) && !log.contains(NEW), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_of_an_idle_guest_take_the_new_key() {
    let guest = Guest::in_cluster().await;
    let peer = Peer::start();
    peer.ok(guest.sealed(OLD, "cluster_complete", json!({}))).await;
    let mut wire = guest.wire().await;
    assert_eq!(key_of_a_heartbeat(&mut wire, &peer).await, OLD);
    guest.write_key(NEW, usize::MAX);
    guest.logged("the new key is in force", 1).await;
    while key_of_a_heartbeat(&mut wire, &peer).await != NEW {}
    // The controller has not used it yet: what it still sends under the old one is served.
    assert_eq!(peer.ok(guest.sealed(OLD, "rpc_ping", json!({}))).await, json!(true));
    assert_eq!(peer.ok(guest.sealed(NEW, "rpc_ping", json!({}))).await, json!(true));
    let refused = peer.run(guest.sealed(OLD, "rpc_ping", json!({}))).await;
    assert!(refused["text"].as_str().unwrap().contains("another key"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_changes_nothing_and_is_said_once() {
    let guest = Guest::serving(&format!("instance_rpc_encr_key={OLD}")).await;
    let peer = Peer::start();
    for length in [0, 20, 60, 100, 120] {
        guest.write_key(NEW, length);
        // Whoever has another key makes the agent look.
        let refused = peer.run(guest.sealed(NEW, "rpc_ping", json!({}))).await;
        assert!(refused["error"].is_string(), "after {length} bytes: {refused}");
        assert_eq!(peer.ok(guest.sealed(OLD, "rpc_ping", json!({}))).await, json!(true), "after {length} bytes");
    }
    guest.write_key(NEW, usize::MAX);
    assert_eq!(peer.ok(guest.sealed(NEW, "rpc_ping", json!({}))).await, json!(true));
    let log = guest.log();
    assert_eq!(log.matches("the instance_rpc_encr_key in force stays").count(), 1, "{log}");
    assert!(!log.contains(OLD) && !log.contains(NEW.get(..16).unwrap()) && !log.contains(PLANTED), "{log}");
}
