//! `trove-guestctl status`: what the agent of this guest is doing.

use camino::Utf8Path;
use serde_json::{Value, json};

use crate::support::{Guest, PLANTED, until};

/// What the operator reads.
async fn status(state_dir: &Utf8Path, options: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trove-guestctl"));
    command.args(["status", "--state-dir", state_dir.as_str()]).args(options).env_remove("RUST_LOG").output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_shown_while_it_runs() {
    let guest = Guest::serving("").await;
    let state = guest.dir.join("state");
    let wire = guest.wire().await;
    let args = json!({"device_path": guest.gate("late"), "mount_point": null});
    wire.call_with("mount_volume", args, json!({"_context_request_id": "req-4711", "_context_auth_token": PLANTED})).await;
    let shown = until("the operation in the status", async || {
        let output = status(&state, &["--json"]).await;
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (!shown["operations"].as_array().unwrap().is_empty()).then_some(shown)
    })
    .await;
    assert_eq!((&shown["guest_id"], &shown["phase"]), (&json!(guest.id), &json!("new")), "{shown}");
    assert_eq!((&shown["operations"][0]["method"], &shown["operations"][0]["request_id"]), (&json!("mount_volume"), &json!("req-4711")));
    assert!(!shown.to_string().contains(PLANTED));
    let text = String::from_utf8(status(&state, &[]).await.stdout).unwrap();
    assert!(text.starts_with(&format!("{} (mariadb) not prepared yet\n  mount_volume req-4711: for ", guest.id)), "{text}");
    guest.open_gate("late");
    until("the end of the operation", async || {
        let text = String::from_utf8(status(&state, &[]).await.stdout).unwrap();
        text.contains("nothing is under way").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_roots_alone_and_an_agent_that_was_killed_leaves_none_that_matters() {
    use std::os::unix::fs::PermissionsExt;
    let guest = Guest::serving("").await;
    let socket = guest.dir.join("state/agent.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    guest.kill();
    let output = status(&guest.dir.join("state"), &[]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("is it running"), "{text}");
    guest.start();
    guest.consuming(2).await;
    assert!(status(&guest.dir.join("state"), &[]).await.status.success());
}
