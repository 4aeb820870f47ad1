//! Many messages, and large ones.

use std::collections::HashMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::oslo::Peer;
use crate::support::Guest;

/// `max_message_size` of RabbitMQ 4.
const LARGEST_OF_4: usize = 16 << 20;
/// `max_message_size` of RabbitMQ 3: nothing larger ever arrives.
const LARGEST_OF_3: usize = 128 << 20;
/// How often the agent has a message in memory at most: as it came, the text inside, the values in that; and while buffers grow, one more.
const COPIES: u64 = 6;
/// What it takes without one; a debug build with all its tasks.
const BASE_KIB: u64 = 64 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_of_several_clients_are_answered_once_and_changes_in_their_order() {
    const CHANGES: usize = 100;
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    guest.open_gate("dev");
    let peers = [Peer::start(), Peer::start()];
    let reads = join_all(peers.iter().flat_map(|peer| {
        (0..50).map(|number| peer.run(guest.job("call", if number % 2 == 0 { "rpc_ping" } else { "get_hwinfo" }, json!({}))))
    }));
    let changes = async {
        // All of them wait for the first.
        let mut ids = vec![wire.call_gate(&guest, "first").await];
        for _ in 1..CHANGES {
            ids.push(wire.call_gate(&guest, "dev").await);
        }
        guest.journalled("accepted", CHANGES - 1).await;
        guest.open_gate("first");
        for id in &ids {
            // In the order of the calls: the next reply is this one's.
            assert_eq!(wire.reply().await["_msg_id"], json!(id));
        }
        wire.no_more_for(ids.last().unwrap()).await;
    };
    let (answers, ()) = tokio::join!(reads, changes);
    assert_eq!(answers.len(), 100);
    assert!(answers.iter().all(|answer| answer.get("error").is_none()), "{answers:?}");
    assert_eq!((guest.runs("first"), guest.runs("dev")), (1, CHANGES - 1));
    assert_eq!(guest.journal("done"), CHANGES);
    assert!(guest.peak_memory() < BASE_KIB, "{} KiB", guest.peak_memory());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_under_way_hear_of_the_agent_until_each_is_answered() {
    const CALLS: usize = 200;
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    guest.open_gate("dev");
    let mut ids = Vec::new();
    for number in 0..CALLS {
        // All of them wait for the first.
        let gate = if number == 0 { "first" } else { "dev" };
        ids.push(wire.call_with("resize_fs", json!({"device_path": guest.gate(gate)}), json!({"_timeout": 4})).await);
    }
    let mut heard: HashMap<String, usize> = HashMap::new();
    while heard.values().filter(|times| **times > 1).count() < CALLS {
        let alive = wire.reply().await;
        assert_eq!((&alive["failure"], &alive["ending"]), (&Value::Null, &json!(false)));
        *heard.entry(alive["_msg_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    guest.open_gate("first");
    let mut answered = Vec::new();
    while answered.len() < CALLS {
        let reply = wire.reply().await;
        let id = reply["_msg_id"].as_str().unwrap().to_owned();
        assert!(!answered.contains(&id), "a word after the answer: {reply:?}");
        if reply["ending"] == true {
            answered.push(id);
        }
    }
    assert_eq!(answered, ids, "in the order of the calls");
    assert_eq!((guest.runs("first"), guest.runs("dev")), (1, CALLS - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_up_to_the_brokers_limit_are_read_with_bounded_memory() {
    let guest = Guest::serving("").await;
    let peer = Peer::start();
    guest.open_gate("dev");
    // A read, and a change, which goes through the journal.
    for (size, methods) in [(LARGEST_OF_4, ["rpc_ping", "resize_fs"].as_slice()), (LARGEST_OF_3, &["resize_fs"])] {
        for &method in methods {
            let mut job = guest.job("call", method, json!({"device_path": guest.gate("dev")}));
            job["filler"] = json!(size - 4096);
            job["timeout"] = json!(55);
            let answer = peer.run(job).await;
            let answered = if method == "rpc_ping" { answer["result"] == true } else { answer["text"].to_string().contains("dev") };
            assert!(answered, "{method} of {size} bytes: {answer}");
        }
        let allowed = COPIES * (size as u64 >> 10) + BASE_KIB;
        assert!(guest.peak_memory() < allowed, "{} KiB for {size} bytes", guest.peak_memory());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_no_broker_takes_is_a_failure_that_says_so() {
    let guest = Guest::serving("").await;
    let peer = Peer::start();
    // What is wrong with the path is told with the path. The wire has a text inside a text inside a text: a quotation mark takes eight bytes there.
    let path = format!("{}/{}", guest.dir, "\"".repeat(LARGEST_OF_4 / 7));
    let mut job = guest.job("call", "resize_fs", json!({"device_path": path}));
    job["timeout"] = json!(55);
    let refused = peer.run(job).await;
    let text = refused["text"].as_str().unwrap_or_default();
    assert!(text.len() < 1000 && text.contains("larger than the 16777216 bytes a broker takes"), "{:.1000}", refused.to_string());
    assert_eq!(peer.ok(guest.job("call", "rpc_ping", json!({}))).await, Value::Bool(true));
}
