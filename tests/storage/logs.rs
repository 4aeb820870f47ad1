//! Publishing logs: to a real Swift and to a folder, cut off and repeated, rotated, and read by python-troveclient.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use trove_guestagent::config::Settings;
use trove_guestagent::error::{Error, Result};
use trove_guestagent::managers::logs::{self, GuestLogs, LogDefinition, LogDetails, LogEnv, LogKind, LogState};
use trove_guestagent::model::Release;
use trove_guestagent::op::Op;

use crate::support::{Proxy, authority, login, noise, op, python, settings};

/// A database that writes two logs: one that is always on, one that is switched.
#[derive(Debug)]
struct Files {
    folder: Utf8PathBuf,
}

#[async_trait]
impl GuestLogs for Files {
    async fn definitions(&self, _op: &Op) -> Result<Vec<LogDefinition>> {
        let state = if self.folder.join("on").exists() { LogState::On } else { LogState::Off };
        let log = |name, kind| LogDefinition { name, kind, file: self.folder.join(name) };
        Ok(vec![log("general", LogKind::User(state)), log("error", LogKind::System)])
    }

    async fn switch(&self, _op: &Op, _name: &str, on: bool) -> Result<()> {
        if on {
            std::fs::write(self.folder.join("on"), "").unwrap()
        } else {
            std::fs::remove_file(self.folder.join("on")).unwrap()
        }
        Ok(())
    }
}

/// A guest with such a database.
struct Guest {
    _folder: tempfile::TempDir,
    logs: Files,
    env: LogEnv,
    op: Op,
    url: String,
    token: SecretString,
}

impl Guest {
    async fn swift(limit: u64) -> Guest {
        Guest::of(limit, None).await
    }

    async fn of(limit: u64, proxy: Option<&Proxy>) -> Guest {
        let (token, url) = login("user").await;
        let url = proxy.map_or(url.clone(), |proxy| url.replace(&authority(&url), &proxy.address));
        let (prefix, account) = url.rsplit_once("AUTH_").unwrap();
        let op = op(&token, json!({"project_id": account}));
        let lines = format!("swift_url = {prefix}AUTH_");
        Guest { token, ..Guest::new(limit, &lines, op, url.clone()) }
    }

    fn local(limit: u64) -> Guest {
        let op = op(&SecretString::default(), json!({}));
        Guest::new(limit, "storage_strategy = local", op, String::new())
    }

    fn new(limit: u64, lines: &str, op: Op, url: String) -> Guest {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let text = format!(
            "{lines}\nguest_log_limit = {limit}\nguest_log_container_name = logs\nstate_dir = {path}/state\nbackup_local_dir = {path}/stored\nlog_file = {path}/agent"
        );
        let settings = Settings { guest_id: format!("guest-{}", uuid::Uuid::new_v4()), ..settings(&text) };
        let env = LogEnv { settings: Arc::new(settings), release: Release::Gazpacho, exposed: &["general", "error"] };
        Guest { _folder: folder, logs: Files { folder: path }, env, op, url, token: SecretString::default() }
    }

    async fn action(&self, log: &str, what: &[&str]) -> Result<LogDetails> {
        let has = |word: &str| what.contains(&word);
        let arguments = json!({"log_name": log, "enable": has("enable"), "disable": has("disable"),
            "publish": has("publish"), "discard": has("discard")});
        logs::action(&self.op, &self.env, &self.logs, &serde_json::from_value(arguments).unwrap()).await
    }

    async fn see(&self, log: &str, what: &[&str]) -> (String, u64, u64) {
        let details = self.action(log, what).await.unwrap();
        (details.status.to_owned(), details.published, details.pending)
    }

    fn path(&self, log: &str) -> Utf8PathBuf {
        self.logs.folder.join(log)
    }

    fn append(&self, log: &str, text: &[u8]) {
        std::fs::File::options().create(true).append(true).open(self.path(log)).unwrap().write_all(text).unwrap();
    }

    fn names(&self, log: &str) -> String {
        format!("{}/mysql-{log}", self.env.settings.guest_id)
    }

    /// The answer to a request about the container of logs.
    async fn get(&self, path: &str) -> reqwest::Response {
        let url = format!("{}/logs{path}", self.url);
        reqwest::Client::new().get(url).header("x-auth-token", self.token.expose_secret()).send().await.unwrap()
    }

    async fn listing(&self, log: &str) -> Vec<String> {
        let text = self.get(&format!("?prefix={}/", self.names(log))).await.text().await.unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// All pieces in a row.
    async fn stored(&self, log: &str) -> Vec<u8> {
        let mut all = Vec::new();
        for name in self.listing(log).await {
            all.extend(self.get(&format!("/{name}")).await.bytes().await.unwrap());
        }
        all
    }
}

fn numbered(lines: std::ops::Range<u32>) -> String {
    lines.map(|number| format!("line {number} of a log, größer\n")).collect()
}

#[tokio::test]
async fn a_log_is_published_in_pieces_that_trove_reads() {
    let guest = Guest::swift(1000).await;
    assert_eq!(guest.see("general", &[]).await, ("Disabled".into(), 0, 0));
    assert_eq!(guest.see("general", &["enable"]).await, ("Enabled".into(), 0, 0));
    let text = numbered(0..100);
    let size = u64::try_from(text.len()).unwrap();
    guest.append("general", text.as_bytes());
    assert_eq!(guest.see("general", &[]).await, ("Ready".into(), 0, size));
    let details = guest.action("general", &["publish"]).await.unwrap();
    let expected = json!({"name": "general", "type": "USER", "status": "Published", "published": size, "pending": 0, "container": "logs",
        "prefix": format!("{}/", guest.names("general")), "metafile": format!("{}_metafile", guest.names("general"))});
    assert_eq!(serde_json::to_value(details).unwrap(), expected);

    let pieces = guest.listing("general").await;
    assert!(pieces.len() > 2, "{pieces:?}");
    for name in &pieces {
        let piece = guest.get(&format!("/{name}")).await;
        let header = |name: &str| piece.headers()[name].to_str().unwrap().to_owned();
        let (lines, expires) = (header("x-object-meta-lines"), header("x-delete-at"));
        assert!(expires.parse::<u64>().unwrap() > 0);
        let body = piece.text().await.unwrap();
        assert!(body.len() <= 1000 && body.ends_with('\n'));
        assert_eq!(lines, body.lines().count().to_string());
    }
    let metafile: Value = guest.get(&format!("/{}_metafile", guest.names("general"))).await.json().await.unwrap();
    assert_eq!((&metafile["log_size"], &metafile["log_type"], &metafile["log_name"]), (&json!(size), &json!("USER"), &json!("general")));

    // What came since.
    guest.append("general", numbered(100..150).as_bytes());
    assert_eq!(guest.see("general", &[]).await.0, "Partial");
    assert_eq!(guest.see("general", &["publish"]).await.0, "Published");
    assert_eq!(guest.stored("general").await, std::fs::read(guest.path("general")).unwrap());
    troveclient_reads(&guest).await;

    let size = u64::try_from(numbered(0..150).len()).unwrap();
    assert_eq!(guest.see("general", &["discard"]).await, ("Ready".into(), 0, size));
    assert!(guest.listing("general").await.is_empty());
    assert_eq!(guest.get(&format!("/{}_metafile", guest.names("general"))).await.status(), 404);
    assert_eq!(guest.see("general", &["disable"]).await, ("Disabled".into(), 0, size));
}

/// `log tail` and `log save` of python-troveclient, on what the agent answers and stores.
async fn troveclient_reads(guest: &Guest) {
    let details = serde_json::to_string(&guest.action("general", &[]).await.unwrap()).unwrap();
    let path = guest.path("saved");
    let mut command = python();
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/storage/troveclient_peer.py")).args([details.as_str(), path.as_str()]);
    command.env("STORAGE_URL", &guest.url).env("TOKEN", guest.token.expose_secret());
    let done = tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("troveclient ends").unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(guest.path("general")).unwrap());
    assert_eq!(String::from_utf8(done.stdout).unwrap(), numbered(110..150), "the last 40 lines, over several pieces");
}

#[tokio::test]
async fn rotation_discards_what_is_stored() {
    let guest = Guest::swift(500).await;
    let header = "the first line of every such log\n";
    guest.append("error", format!("{header}{}", numbered(0..40)).as_bytes());
    assert_eq!(guest.see("error", &["publish"]).await.0, "Published");
    // Renamed and made anew, with the same first line, and longer than what is stored.
    std::fs::rename(guest.path("error"), guest.path("error.1")).unwrap();
    let standing = guest.see("error", &[]).await;
    assert_eq!((standing.0.as_str(), standing.2), ("Rotated", 0), "there is none yet");
    guest.append("error", format!("{header}{}", numbered(1000..1100)).as_bytes());
    let size = u64::try_from(header.len() + numbered(1000..1100).len()).unwrap();
    let standing = guest.see("error", &[]).await;
    assert_eq!((standing.0.as_str(), standing.2), ("Rotated", size));
    assert_eq!(guest.see("error", &["publish"]).await, ("Published".into(), size, 0));
    assert_eq!(guest.stored("error").await, std::fs::read(guest.path("error")).unwrap());
    // Copied and cut off.
    std::fs::write(guest.path("error"), header).unwrap();
    assert_eq!(guest.see("error", &[]).await.0, "Rotated");
    assert_eq!(guest.see("error", &["publish"]).await, ("Published".into(), 33, 0));
    assert_eq!(guest.stored("error").await, header.as_bytes());
    // Emptied.
    std::fs::write(guest.path("error"), "").unwrap();
    assert_eq!(guest.see("error", &["publish"]).await, ("Enabled".into(), 0, 0));
    assert!(guest.listing("error").await.is_empty());
}

#[tokio::test]
async fn what_a_python_agent_has_published_goes_on() {
    let guest = Guest::swift(1000).await;
    let text = numbered(0..20);
    guest.append("error", text.as_bytes());
    let digest = crate::support::md5(b"line 0 of a log, gr\xc3\xb6\xc3\x9fer\n");
    let metafile =
        json!({"log_name": "error", "log_type": "SYS", "log_file": "/var/log/mysqld.log", "log_size": 66, "log_header_digest": digest});
    let http = reqwest::Client::new();
    let put = |name: String, body: String| {
        http.put(format!("{}/logs{name}", guest.url)).header("x-auth-token", guest.token.expose_secret()).body(body).send()
    };
    put(String::new(), String::new()).await.unwrap();
    put(format!("/{}_metafile", guest.names("error")), metafile.to_string()).await.unwrap();
    put(format!("/{}/log-2026-01-01T00:00:00.000001", guest.names("error")), text.get(..66).unwrap().to_owned()).await.unwrap();
    let rest = u64::try_from(text.len()).unwrap() - 66;
    assert_eq!(guest.see("error", &[]).await, ("Partial".into(), 66, rest));
    assert_eq!(guest.see("error", &["publish"]).await, ("Published".into(), rest + 66, 0));
    assert_eq!(guest.stored("error").await, text.as_bytes());
    // Another first line: another log.
    put(format!("/{}_metafile", guest.names("error")), metafile.to_string().replace(&digest, "abc")).await.unwrap();
    assert_eq!(guest.see("error", &[]).await.0, "Rotated");
}

#[tokio::test]
async fn cut_off_anywhere_and_repeated_no_piece_is_lost_or_twice() {
    // The requests of a publication in four pieces, broken off at each in turn: before it is carried out, and after that.
    let proxy = Proxy::swift().await;
    for carried_out in [false, true] {
        for at in 0..7 {
            let guest = Guest::of(400, Some(&proxy)).await;
            let path = guest.names("error");
            guest.append("error", numbered(0..40).as_bytes());
            if carried_out {
                proxy.add(json!({"method": "PUT", "path": path, "skip": at, "times": 1, "lose": true})).await;
            }
            // Not worth another attempt: here the agent gives up.
            proxy.add(json!({"method": "PUT", "path": path, "skip": at, "times": 1, "status": 403})).await;
            let first = guest.action("error", &["publish"]).await;
            assert!(first.is_err(), "there is a request {at}");
            guest.append("error", numbered(40..45).as_bytes());
            let again = guest.action("error", &["publish"]).await.unwrap();
            assert_eq!(again.pending, 0, "{at}: {first:?}");
            let stored = String::from_utf8(guest.stored("error").await).unwrap();
            assert_eq!(stored, numbered(0..45), "cut off at {at}");
        }
    }
}

#[tokio::test]
async fn a_killed_publication_is_taken_up() {
    let proxy = Proxy::swift().await;
    let guest = Guest::of(400, Some(&proxy)).await;
    guest.append("error", numbered(0..40).as_bytes());
    // The second piece hangs, and there the agent dies.
    proxy.add(json!({"method": "PUT", "path": "/mysql-error/log-", "skip": 1, "times": 1, "stall_after": 1})).await;
    let second_hangs = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let is_piece = |(method, path, _): &(String, String, Option<u64>)| method == "PUT" && path.contains("/mysql-error/log-");
        while proxy.requests().await.iter().filter(|request| is_piece(request)).count() < 2 {
            ticks.tick().await;
        }
    };
    tokio::select! {
        done = guest.action("error", &["publish"]) => panic!("it ends: {done:?}"),
        () = second_hangs => {}
    }
    assert!(guest.path("state/logs/error.json").exists());
    let standing = guest.see("error", &[]).await;
    assert_eq!(standing.0, "Partial");
    assert_eq!(guest.see("error", &["publish"]).await.0, "Published");
    assert_eq!(String::from_utf8(guest.stored("error").await).unwrap(), numbered(0..40));
}

#[tokio::test]
async fn a_folder_keeps_logs_too() {
    let guest = Guest::local(300);
    guest.append("error", numbered(0..30).as_bytes());
    assert_eq!(guest.see("error", &["publish"]).await.0, "Published");
    let stored = || {
        let mut files: Vec<_> = std::fs::read_dir(guest.path("stored/logs")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.retain(|path| !path.to_str().unwrap().ends_with("_metafile"));
        files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect::<String>()
    };
    assert_eq!(stored(), numbered(0..30));
    assert_eq!(guest.see("error", &["discard"]).await.0, "Ready");
    assert_eq!(stored(), "");
}

#[tokio::test]
async fn who_may_do_what() {
    let guest = Guest::local(300);
    let refused = async |log: &str, what: &[&str]| guest.action(log, what).await.unwrap_err();
    assert_eq!(refused("nothing", &[]).await.to_string(), "Log 'nothing' is not defined.");
    assert_eq!(refused("general", &["enable", "disable"]).await.to_string(), "Cannot enable and disable log 'general'.");
    for verb in ["enable", "disable"] {
        let error = refused("error", &[verb]).await;
        assert_eq!(error.to_string(), format!("Cannot {verb} a SYSTEM log ('error')."));
        assert!(matches!(error, Error::BadRequest { .. }));
    }
    let error = refused("guest", &[]).await;
    assert_eq!((error.to_string().as_str(), error.trove_class().class), ("You must be admin to show log 'guest'.", "LogAccessForbidden"));
    let missing = refused("error", &["publish"]).await.to_string();
    assert_eq!(missing, format!("Cannot publish log file '{}' as it does not exist.", guest.path("error")));
    let names = async |op: &Op| -> Vec<&'static str> {
        logs::list(op, &guest.env, &guest.logs).await.unwrap().iter().map(|log| log.name).collect()
    };
    assert_eq!(names(&guest.op).await, ["general", "error"]);
    let admin = op(&SecretString::default(), json!({"is_admin": true}));
    assert_eq!(names(&admin).await, ["general", "error", "guest"]);
    guest.append("agent", b"what the agent says\n");
    let arguments = serde_json::from_value(json!({"log_name": "guest", "publish": 1})).unwrap();
    assert_eq!(logs::action(&admin, &guest.env, &guest.logs, &arguments).await.unwrap().status, "Published");
}

#[tokio::test]
async fn a_log_larger_than_memory_would_be_streams() {
    // One piece of 96 MiB in a process that is not to grow by it.
    let guest = Guest::swift(1 << 40).await;
    let block = noise(1 << 20, 5).iter().map(|byte| b'a' + byte % 26).collect::<Vec<u8>>();
    for _ in 0..96 {
        guest.append("error", &block);
    }
    guest.append("error", b"\n");
    let before = resident();
    let (done, peak) = tokio::join!(guest.action("error", &["publish"]), highest_until(&guest));
    assert_eq!(done.unwrap().status, "Published");
    assert!(peak < before + (64 << 20), "grew from {before} to {peak}");
    assert_eq!(guest.listing("error").await.len(), 1);
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// The most of it until the log is stored.
async fn highest_until(guest: &Guest) -> u64 {
    let mut highest = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while guest.listing("error").await.is_empty() {
        highest = highest.max(resident());
        ticks.tick().await;
    }
    highest
}
