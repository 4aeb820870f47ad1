//! The agent's own log: whose work a line is of, in which form, and what becomes of it when the file is rotated.

use serde_json::{Value, json};

use crate::support::{Guest, until};

const PLANTED: &str = "planted-log-t0ken";

fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_request_have_its_ids_in_json_and_no_secret() {
    let guest = Guest::serving("use_json=true").await;
    let wire = guest.wire().await;
    let context = json!({"_context_request_id": "req-4711", "_context_global_request_id": "req-g", "_context_auth_token": PLANTED});
    // Failed for want of a database, and refused, since there is no such method.
    wire.call_with("list_users", json!({}), context.clone()).await;
    wire.call_with("brew_tea", json!({"sugar": PLANTED}), context).await;
    guest.logged("the operation failed", 1).await;
    guest.logged("refused a request", 1).await;
    let log = guest.log();
    let of_request: Vec<Value> = documents(&log).into_iter().filter(|line| line["context"]["request_id"] == "req-4711").collect();
    let said = |words: &str| of_request.iter().filter(|line| line["message"].as_str().unwrap().contains(words)).count();
    assert_eq!((said("the operation failed"), said("refused a request")), (1, 1), "{log}");
    assert!(of_request.iter().all(|line| line["context"]["global_request_id"] == "req-g"), "{log}");
    let of = |words: &str| {
        of_request.iter().find(|line| line["message"].as_str().unwrap().contains(words)).unwrap()["context"]["method"].clone()
    };
    assert_eq!((of("the operation failed"), of("refused a request")), (json!("list_users"), json!("brew_tea")));
    assert!(!log.contains(PLANTED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_file_is_left_at_a_signal_or_when_it_is_watched() {
    let guest = Guest::serving("").await;
    let (path, old) = (guest.dir.join("agent.log"), guest.dir.join("agent.log.1"));
    std::fs::rename(&path, &old).unwrap();
    guest.signal(nix::sys::signal::Signal::SIGHUP);
    until("another file", async || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("asked to open the log file anew")).then_some(())
    })
    .await;
    assert!(std::fs::read_to_string(&old).unwrap().contains("consuming queue="));
    // It is still there.
    guest.wire().await.ping().await;

    let guest = Guest::serving("watch_log_file=true").await;
    let (path, old) = (guest.dir.join("agent.log"), guest.dir.join("agent.log.1"));
    std::fs::rename(&path, &old).unwrap();
    let wire = guest.wire().await;
    wire.call("brew_tea", json!({})).await;
    until("another file", async || std::fs::read_to_string(&path).is_ok_and(|text| text.contains("brew_tea")).then_some(())).await;
}
