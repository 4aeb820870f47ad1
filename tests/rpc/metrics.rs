//! Metrics, as Prometheus reads them.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::{Guest, PLANTED, free_port, shared_broker, until};

/// What is served on the socket: head and body of the answer.
async fn ask(guest: &Guest, request: &str) -> (String, String) {
    let mut stream = UnixStream::connect(guest.dir.join("state/metrics.sock")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The samples, by the parser of Prometheus's own client.
async fn parsed(text: &str) -> Value {
    let python = std::env::var("TROVE_TEST_PYTHON").expect("TROVE_TEST_PYTHON is a Python with prometheus_client");
    let mut command = tokio::process::Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rpc/metrics_peer.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut peer = command.spawn().unwrap();
    peer.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = peer.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: guest\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_what_the_agent_counts() {
    let port = free_port();
    let guest = Guest::new(&shared_broker(), &format!("metrics_listen=127.0.0.1:{port}"));
    std::fs::create_dir(guest.dir.join("state")).unwrap();
    std::fs::write(guest.dir.join("state/status.json"), r#"{"phase": "active"}"#).unwrap();
    guest.start();
    guest.consuming(1).await;
    let mut wire = guest.wire().await;
    for _ in 0..2 {
        let id = wire.call("rpc_ping", json!({})).await;
        wire.reply_to(&id).await;
    }
    let id = wire.call("get_filesystem_stats", json!({"fs_path": format!("/nowhere/{PLANTED}")})).await;
    assert!(!wire.reply_to(&id).await["failure"].is_null());
    wire.heartbeat().await;
    wire.call_gate(&guest, "late").await;
    let (head, text) = until("an operation that waits in the metrics", async || {
        let (head, text) = ask(&guest, GET).await;
        text.contains("trove_guestagent_operations 1.0\n").then_some((head, text))
    })
    .await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(!text.contains(PLANTED));
    assert_documented(&text);
    let samples = parsed(&text).await;
    let sample = |name: &str| samples[format!("trove_guestagent_{name}")].as_f64().unwrap_or_else(|| panic!("no {name}: {samples:#}"));
    let is = |name: &str, value: f64| assert!((sample(name) - value).abs() < 1e-9, "{name}: {}", sample(name));
    is(r#"requests_total{method="rpc_ping",outcome="ok"}"#, 2.0);
    is(r#"requests_total{method="get_filesystem_stats",outcome="error"}"#, 1.0);
    is(r#"request_duration_seconds_count{method="rpc_ping"}"#, 2.0);
    is(r#"phase{phase="in_service"}"#, 1.0);
    is(r#"journal_entries{stage="started"}"#, 1.0);
    // There before the first of them: Prometheus sees no increase in a counter that begins with 1.
    is(r#"backups_total{state="FAILED"}"#, 0.0);
    is(r#"broker_connections_total{purpose="listen"}"#, 1.0);
    assert!(sample("heartbeats_total") >= 1.0 && sample("last_heartbeat_seconds") > sample("start_time_seconds"));
    assert!(sample("resident_memory_bytes") > 1e6);
    // Over TCP, too, and nothing else is there.
    let url = format!("http://127.0.0.1:{port}");
    let answer = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
    assert!(parsed(&answer).await.as_object().unwrap().len() >= samples.as_object().unwrap().len());
    assert_eq!(reqwest::get(format!("{url}/secrets")).await.unwrap().status(), 404);
    assert!(ask(&guest, "POST /metrics HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n").await.0.starts_with("HTTP/1.1 404"));
    guest.open_gate("late");
}

/// Names after the prefix in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split("trove_guestagent_")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| is_part(*c)).collect())
        .filter(|name: &String| !name.is_empty())
        .collect()
}

/// Alert rules and dashboard ask for nothing the agent does not have. `agent` is what it says with all there is to say; a backup is not among that.
fn assert_documented(agent: &str) {
    let backups = ["last_backup_seconds", "operation_progress_bytes"].map(str::to_owned);
    let known: BTreeSet<String> = names(agent).into_iter().chain(backups).collect();
    for text in [include_str!("../../docs/monitoring/alerts.yml"), include_str!("../../docs/monitoring/dashboard.json")] {
        assert_eq!(names(text).difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "{known:?}");
    }
    let page = include_str!("../../docs/monitoring.md");
    let described = |name: &String| {
        ["_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end)) || page.contains(name.trim_end_matches("_total"))
    };
    assert_eq!(known.iter().find(|name| !described(name)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_metrics_is_roots_alone_and_readers_that_say_nothing_are_let_go() {
    let guest = Guest::serving("").await;
    let socket = guest.dir.join("state/metrics.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(UnixStream::connect(&socket).await.unwrap());
    }
    // They hold all places there are; when they are let go, others are served again.
    until("an answer beside silent readers", async || {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(GET.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    let off = Guest::serving("metrics_socket=").await;
    assert!(!off.dir.join("state/metrics.sock").exists());
}
