//! `trove-guestctl doctor`: what is wrong is named, with what to do; what is well is not complained of.

use std::os::unix::fs::PermissionsExt;

use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use serde_json::{Value, json};

use crate::support::{Guest, PLANTED, shared_broker, transport_url, until};

/// What the doctor says, and its exit code.
struct Report {
    code: i32,
    json: Value,
}

impl Report {
    async fn of(guest: &Guest, more: &[&str]) -> Report {
        let output = doctor(guest, &[&["--json"], more].concat()).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        assert!(!text.contains(PLANTED), "{text}");
        Report { code: output.status.code().unwrap(), json }
    }

    /// All findings of a check, as `verdict: found -> advice`.
    fn of_check(&self, check: &str) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = self.json["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
        findings
            .map(|finding| format!("{}: {} -> {}", text(&finding["verdict"]), text(&finding["found"]), text(&finding["advice"])))
            .collect()
    }

    /// The one finding of a check begins so and has these words.
    fn says(&self, check: &str, verdict: &str, words: &[&str]) {
        let found = self.of_check(check);
        assert_eq!(found.len(), 1, "{check}: {found:?}");
        assert!(found[0].starts_with(&format!("{verdict}: ")), "{check}: {found:?}");
        for word in words {
            assert!(found[0].contains(word), "'{word}' is not in {found:?}");
        }
    }
}

async fn doctor(guest: &Guest, options: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trove-guestctl"));
    let files = guest.dir.join("conf.d");
    command.args(["--config-dir", files.as_str(), "doctor"]).args(options).env_remove("RUST_LOG").env("HOME", &guest.dir);
    command.output().await.unwrap()
}

/// A guest whose files are nobody else's, with a key and a folder for its backups.
fn guest(more: &str) -> Guest {
    let key = "instance_rpc_encr_key=0123456789abcdef0123456789abcdef";
    let guest = Guest::new(&shared_broker(), &format!("{key}\nstorage_strategy=local\n{more}"));
    let backups = guest.dir.join("backups");
    std::fs::create_dir(&backups).unwrap();
    add(&guest, &format!("[DEFAULT]\nbackup_local_dir={backups}\n"));
    guest
}

/// Adds lines to the configuration, and closes its files to others.
fn add(guest: &Guest, lines: &str) {
    std::fs::write(guest.dir.join("conf.d/zz-more.conf"), lines).unwrap();
    for file in guest.dir.join("conf.d").read_dir_utf8().unwrap() {
        std::fs::set_permissions(file.unwrap().path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_waits_for_its_preparation_is_well() {
    let guest = guest("");
    guest.start();
    guest.consuming(1).await;
    let _conductor = guest.wire().await;
    let report = Report::of(&guest, &[]).await;
    assert_eq!((report.code, &report.json["guest_id"]), (0, &json!(guest.id)), "{}", report.json);
    // The disk and the clock are this machine's.
    let machines = ["disk", "clock"].map(Value::from);
    let ill = |finding: &&Value| finding["verdict"] != "ok" && finding["verdict"] != "skipped" && !machines.contains(&finding["check"]);
    assert_eq!(report.json["findings"].as_array().unwrap().iter().find(ill), None);
    report.says("agent", "ok", &["not prepared yet"]);
    report.says("queue", "ok", &["is consumed"]);
    report.says("conductor", "ok", &["is consumed by 1"]);
    report.says("database", "skipped", &[]);
    report.says("storage", "ok", &["backups"]);
    report.says("journal", "ok", &["nothing is open"]);
    let text = String::from_utf8(doctor(&guest, &[]).await.stdout).unwrap();
    assert!(text.starts_with("ok       configuration  mariadb by ") && text.contains("\nok       broker         "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_gone_leaves_requests_behind_and_the_doctor_sees_them() {
    let guest = guest("");
    guest.start();
    guest.consuming(1).await;
    let wire = guest.wire().await;
    wire.call("rpc_ping", json!({})).await;
    guest.kill();
    let name = format!("guestagent.{}", guest.id);
    let report = until("the broker to notice", async || {
        let report = Report::of(&guest, &[]).await;
        report.of_check("queue").iter().any(|found| found.contains("nobody consumes")).then_some(report)
    })
    .await;
    assert_eq!(report.code, 1);
    report.says("agent", "failed", &["nobody answers", "systemctl status"]);
    report.says("heartbeat", "skipped", &[]);
    report.says("queue", "failed", &[&name, "start the agent"]);
    report.says("broker", "ok", &[]);
    let text = String::from_utf8(doctor(&guest, &[]).await.stdout).unwrap();
    assert!(text.contains("\nFAILED   queue ") && text.contains("-> start the agent") && text.contains("\n2 broken"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_on_one_queue_and_a_conductor_nobody_runs_are_named() {
    let guest = guest("");
    guest.start();
    guest.consuming(1).await;
    let wire = guest.wire().await;
    let queue = format!("guestagent.{}", guest.id);
    let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
    let _other = wire.channel.basic_consume(queue.as_str().into(), "other".into(), options, table).await.unwrap();
    add(&guest, &format!("[DEFAULT]\nbackup_local_dir={}/none\nconductor_queue=nobody-{}\n", guest.dir, guest.id));
    let report = Report::of(&guest, &[]).await;
    assert_eq!(report.code, 1);
    report.says("queue", "failed", &["2 agents consume", "same guest_id"]);
    report.says("conductor", "failed", &["NOT_FOUND", "conductor_queue"]);
    report.says("storage", "failed", &["none"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_or_refuses_is_named_and_one_of_two_is_enough() {
    let guest = guest("");
    guest.start();
    guest.consuming(1).await;
    let _conductor = guest.wire().await;
    let url = transport_url(&shared_broker());
    let good = url.trim_start_matches("rabbit://").trim_end_matches('/');
    let backups = format!("backup_local_dir={}/backups", guest.dir);
    // Port 1 is nobody's.
    add(&guest, &format!("[DEFAULT]\n{backups}\ntransport_url=rabbit://u:{PLANTED}@127.0.0.1:1,{good}/\n"));
    let report = Report::of(&guest, &[]).await;
    let brokers = report.of_check("broker");
    assert_eq!((report.code, brokers.len()), (0, 2), "{}", report.json);
    assert!(brokers[0].starts_with("warning: failed to connect to 127.0.0.1:1: ") && brokers[1].starts_with("ok: "), "{brokers:?}");
    report.says("queue", "ok", &[]);
    let place = good.rsplit('@').next().unwrap();
    add(&guest, &format!("[DEFAULT]\n{backups}\ntransport_url=rabbit://u:{PLANTED}@{place}/\n"));
    let report = Report::of(&guest, &[]).await;
    assert_eq!(report.code, 1);
    report.says("broker", "failed", &["ACCESS_REFUSED", "check user, password"]);
    report.says("queue", "skipped", &[]);
    report.says("conductor", "skipped", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_named_and_the_heartbeat_that_told_so() {
    let guest = Guest::new(&shared_broker(), "");
    std::fs::create_dir(guest.dir.join("state")).unwrap();
    std::fs::write(guest.dir.join("state/status.json"), r#"{"phase": "active"}"#).unwrap();
    guest.start();
    guest.consuming(1).await;
    let mut wire = guest.wire().await;
    wire.heartbeat().await;
    let report = Report::of(&guest, &[]).await;
    assert_eq!(report.code, 1);
    report.says("agent", "ok", &["in service"]);
    report.says("heartbeat", "ok", &["told the conductor '"]);
    report.says("database", "failed", &["mariadb"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_in_the_configuration_and_every_open_file_is_named() {
    let guest = guest("");
    add(&guest, "[DEFAULT]\nreport_interval=soon\nservice_control=magic\n");
    let report = Report::of(&guest, &[]).await;
    let found = report.of_check("configuration");
    assert_eq!((report.code, found.len()), (1, 2), "{found:?}");
    assert!(found.iter().all(|found| found.starts_with("failed: ") && found.contains("zz-more.conf:")), "{found:?}");
    assert_eq!(report.json["findings"].as_array().unwrap().len(), 2, "nothing else can be looked at");
    let open = Guest::new(&shared_broker(), "");
    let found = Report::of(&open, &[]).await.of_check("configuration");
    assert!(found.iter().any(|found| found.starts_with("warning: ") && found.contains("chmod o-rwx")), "{found:?}");
    assert!(found.iter().any(|found| found.contains("without TLS and without instance_rpc_encr_key")), "{found:?}");
}
