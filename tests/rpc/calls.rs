//! Calls, their answers, and what the conductor hears.

use serde_json::{Value, json};

use crate::oslo::Peer;
use crate::support::{Guest, PLANTED, envelope, fresh};

#[tokio::test(flavor = "multi_thread")]
async fn the_real_client_gets_results_and_failures() {
    let guest = Guest::serving("").await;
    let peer = Peer::start();
    assert_eq!(peer.ok(guest.job("call", "rpc_ping", json!({}))).await, json!(true));
    let info = peer.ok(guest.job("call", "get_hwinfo", json!({}))).await;
    assert!(info["mem_total"].as_u64().unwrap() > 0, "{info}");
    let unknown = peer.run(guest.job("call", "no_such_method", json!({}))).await;
    assert_eq!((&unknown["error"], &unknown["remote"]), (&json!("RemoteError"), &json!("NoSuchMethod")), "{unknown}");
    assert!(unknown["text"].as_str().unwrap().contains("Endpoint does not support RPC method no_such_method"), "{unknown}");
    for version in ["1.4", "2.0"] {
        let mut job = guest.job("call", "rpc_ping", json!({}));
        job["version"] = json!(version);
        let refused = peer.run(job).await;
        assert_eq!(refused["remote"], "UnsupportedVersion", "{refused}");
    }
    let missing = peer.run(guest.job("call", "grant_access", json!({"username": PLANTED}))).await;
    assert!(missing["error"].as_str().unwrap().contains("TypeError"), "{missing}");
    let text = missing["text"].as_str().unwrap();
    assert!(text.contains("missing field") && !text.contains(PLANTED), "{text}");
    let wrong = peer.run(guest.job("call", "grant_access", json!({"username": "u", "hostname": null, "databases": PLANTED}))).await;
    assert!(wrong["error"].as_str().unwrap().contains("TypeError") && !wrong["text"].as_str().unwrap().contains(PLANTED), "{wrong}");
    let unsupported = peer.run(guest.job("call", "get_root_password", json!({}))).await;
    assert!(unsupported["text"].as_str().unwrap().contains("operation is not supported for the 'mariadb' datastore"), "{unsupported}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_the_controller_compresses_are_read_or_refused_by_name() {
    let guest = Guest::serving("").await;
    let peer = Peer::start();
    let job = |action: &str, compression: &str| {
        let mut job = guest.job(action, "rpc_ping", json!({}));
        job["options"] = json!({"kombu_compression": compression});
        job
    };
    for compression in ["gzip", "bzip2"] {
        assert_eq!(peer.ok(job("call", compression)).await, json!(true), "{compression}");
    }
    // The other word in the help of oslo.messaging is none of kombu's: nothing leaves the controller.
    assert_eq!(peer.run(job("cast", "bz2")).await["error"], "MessageDeliveryFailure");
    peer.ok(job("cast", "lzma")).await;
    guest.logged("compression 'application/x-lzma' is not supported; set kombu_compression to gzip or bzip2", 1).await;
    assert_eq!(peer.ok(job("call", "gzip")).await, json!(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_in_flight_are_all_answered() {
    let guest = Guest::serving("").await;
    let peer = Peer::start();
    let calls = (0..200).map(|_| peer.run(guest.job("call", "rpc_ping", json!({}))));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer["result"] == true), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_queues_that_are_not_there_yet_are_told_from_those_that_arrive() {
    let guest = Guest::new(&crate::support::shared_broker(), "");
    let patience = "[oslo_messaging_rabbit]\nkombu_missing_consumer_retry_timeout=600\n";
    std::fs::write(guest.dir.join("conf.d/zz.conf"), patience).unwrap();
    guest.start();
    guest.consuming(1).await;
    let mut wire = guest.wire().await;
    let here = wire.reply_queue.clone();
    let (mut prompt, mut late) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        wire.reply_queue = format!("reply_{}", fresh());
        late.push((wire.reply_queue.clone(), wire.call("rpc_ping", json!({})).await));
        wire.reply_queue.clone_from(&here);
        prompt.push(wire.call("rpc_ping", json!({})).await);
    }
    for id in prompt {
        assert_eq!(wire.reply_to(&id).await["result"], true);
    }
    for (queue, id) in late {
        wire.listen_at(&queue).await;
        assert_eq!(wire.reply_to(&id).await["result"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_the_controller_made_is_used_as_it_is() {
    let peer = Peer::start();
    for options in [json!({}), json!({"amqp_durable_queues": true}), json!({"rabbit_quorum_queue": true})] {
        let guest = Guest::new(&crate::support::shared_broker(), "");
        let mut declare = guest.job("declare", "", json!({}));
        declare["options"] = options.clone();
        peer.ok(declare).await;
        guest.start();
        guest.consuming(1).await;
        let mut ping = guest.job("call", "rpc_ping", json!({}));
        ping["options"] = options.clone();
        assert_eq!(peer.ok(ping).await, json!(true), "{options}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_framed_as_each_era_reads_them() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let id = wire.call("rpc_ping", json!({})).await;
    let one = wire.reply_to(&id).await;
    assert_eq!((&one["result"], &one["failure"], &one["ending"]), (&json!(true), &Value::Null, &json!(true)));
    // Kilo: no `_timeout`; the result must not be in the message that ends the call.
    for (method, ok) in [("rpc_ping", true), ("no_such", false)] {
        let id = wire.call_with(method, json!({}), json!({"_context_tenant": "T1"})).await;
        let (first, second) = (wire.reply_to(&id).await, wire.reply_to(&id).await);
        assert!(!first.contains_key("ending"), "{first:?}");
        assert_eq!(first["failure"].is_null(), ok);
        assert_eq!((&second["result"], &second["failure"], &second["ending"]), (&Value::Null, &Value::Null, &json!(true)));
        assert_ne!(first["_unique_id"], second["_unique_id"]);
    }
    // Older than 1.8: the id is the queue.
    let id = wire.reply_queue.clone();
    wire.send(&envelope(&json!({"method": "rpc_ping", "args": {}, "_msg_id": id})), Default::default()).await;
    assert_eq!(wire.reply_to(&id).await["result"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_message_runs_once() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let id = fresh();
    let message = json!({"method": "resize_fs", "args": {"device_path": guest.gate("dev")}, "_msg_id": id, "_reply_q": wire.reply_queue,
                         "_unique_id": fresh(), "_timeout": null});
    for _ in 0..3 {
        wire.send(&envelope(&message), Default::default()).await;
    }
    guest.logged("ignoring a duplicate message", 2).await;
    assert_eq!(guest.journal("started") + guest.journal("accepted"), 1);
    guest.open_gate("dev");
    wire.reply_to(&id).await;
    wire.send(&envelope(&message), Default::default()).await;
    guest.logged("ignoring a duplicate message", 3).await;
    wire.ping().await;
    assert_eq!(guest.log().matches("the operation failed").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_call_monitor_outlives_it_even_while_it_waits_for_its_turn() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let peer = Peer::start();
    let first = wire.call("resize_fs", json!({"device_path": guest.gate("first")})).await;
    guest.journalled("started", 1).await;
    // This one waits behind it. Without keep-alives its client gives up after two seconds.
    let mut job = guest.job("call", "resize_fs", json!({"device_path": guest.gate("second")}));
    job["monitor"] = json!(2);
    let monitored = async { peer.run(job).await };
    let by_hand = async {
        let id = wire.call_with("resize_fs", json!({"device_path": guest.gate("third")}), json!({"_timeout": 2})).await;
        for _ in 0..3 {
            let alive = wire.reply_to(&id).await;
            assert_eq!((&alive["result"], &alive["failure"], &alive["ending"]), (&Value::Null, &Value::Null, &json!(false)));
        }
        for gate in ["first", "second", "third"] {
            guest.open_gate(gate);
        }
        loop {
            let reply = wire.reply_to(&id).await;
            if reply["ending"] == true {
                break assert!(reply["failure"].is_string());
            }
        }
    };
    let (answer, ()) = tokio::join!(monitored, by_hand);
    assert!(answer["text"].as_str().unwrap().contains("second"), "{answer}");
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_without_measure_harms_nothing() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    for timeout in [json!(u64::MAX), json!(-1), json!(0), json!(1), json!("5"), json!(1.5), json!([])] {
        let id = wire.call_with("rpc_ping", json!({}), json!({"_timeout": timeout})).await;
        assert_eq!(wire.reply_to(&id).await["result"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_queue_that_is_gone_blocks_no_change() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    guest.open_gate("dev");
    let gone = json!({"_timeout": null, "_reply_q": "reply_of_nobody"});
    wire.call_with("resize_fs", json!({"device_path": guest.gate("dev")}), gone).await;
    guest.journalled("ended", 1).await;
    let id = wire.call("resize_fs", json!({"device_path": guest.gate("dev")})).await;
    wire.failure_of(&id).await;
    // The first answer is still being tried.
    guest.journalled("ended", 1).await;
    guest.logged("the reply queue reply_of_nobody is gone", 1).await;
    guest.journalled("ended", 0).await;
    wire.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conductor_is_notified_of_a_failure() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let notification = json!({"request_id": "req-1", "server_type": "guest", "tenant_id": "T1", "extra": 1,
                              "notification_classname": "trove.common.notification.DBaaSDatabaseCreate"});
    let context = json!({"_context_project_id": "T1", "_context_auth_token": PLANTED, "_context_trove_notification": notification,
                         "_context_trace_info": {"hmac_key": "k"}});
    wire.cast_with("create_database", json!({"databases": [{"_name": "db1"}]}), context).await;
    let cast = wire.cast("notify_exc_info").await;
    assert_eq!(cast["args"]["serialized_notification"]["instance_id"], guest.id.as_str());
    assert_eq!(cast["args"]["serialized_notification"]["extra"], 1);
    assert!(!cast["args"]["message"].as_str().unwrap().is_empty() && cast["args"]["exception"].is_array());
    assert_eq!(cast["_context_trove_notification"], notification);
    assert!(!cast.contains_key("_context_trace_info") && !cast.contains_key("_msg_id"), "{cast:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn building_is_said_once_and_failure_until_the_end() {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    wire.prepare(&guest).await;
    wire.ping().await;
    guest.open_gate("dev");
    let cast = wire.cast("heartbeat").await;
    let (first, word) = (cast["args"]["sent"].as_f64().unwrap(), &cast["args"]["payload"]["service_status"]);
    assert_eq!(word, "failed to spawn", "nothing in between");
    let next = wire.cast("heartbeat").await;
    assert!(next["args"]["sent"].as_f64().unwrap() > first);
    guest.kill();
    let beats = guest.log().matches("heartbeat status=\"failed").count();
    guest.start();
    guest.consuming(2).await;
    wire.heartbeat().await;
    guest.logged("heartbeat status=\"failed", beats + 1).await;
}
