//! How operations are swept: run again and again, the agent killed in front of one step each time, whatever the datastore.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::crash::{End, kind, kinds, points, report};
use crate::support::{Guest, PLANTED, Wire, shared_broker, until};

/// Points looked at side by side where each has a guest of its own.
const SIDE_BY_SIDE: usize = 4;

/// No operation has more steps.
pub(crate) const MOST: usize = 400;

/// No ticks: what a heartbeat asks the database are steps, too.
pub(crate) const OPTIONS: &str = "controller_release=train";

/// Not run again by the agent: its caller is told to repeat it.
const REPORTED: [&str; 1] = ["enable_root_with_password"];

pub(crate) fn stored_in(folder: &Utf8Path) -> String {
    format!("{OPTIONS}\nstorage_strategy=local\nbackup_local_dir={folder}\nbackup_segment_max_size=65536\nbackup_aes_cbc_key={PLANTED}")
}

pub(crate) async fn mortal(options: &str) -> (Guest, Wire) {
    let guest = Guest::new(&shared_broker(), options);
    guest.start_mortal();
    guest.consuming(1).await;
    let wire = guest.wire().await;
    (guest, wire)
}

/// `prepare` from a backup, or with a database and a user; and with a root.
pub(crate) async fn cast_prepare_with(guest: &Guest, wire: &Wire, contents: String, overrides: Value, user: &str, backup: Value) {
    let databases = if backup.is_null() { json!([{"_name": "db1"}]) } else { json!([]) };
    let users = if backup.is_null() { json!([{"_name": user, "_password": PLANTED, "_databases": [{"_name": "db1"}]}]) } else { json!([]) };
    let args = json!({"packages": [], "databases": databases, "users": users, "memory_mb": 512, "device_path": null, "mount_point": guest.dir.join("data"),
                      "config_contents": contents, "overrides": overrides, "root_password": format!("{PLANTED}-R1"), "backup_info": backup});
    let more = json!({"_context_tenant": "T", "_context_roles": [], "_context_auth_token": PLANTED,
                      "_context_trove_notification": {"server_type": "guest", "request_id": "r"}});
    wire.cast_with("prepare", args, more).await;
}

/// Waits for the end of the preparation.
pub(crate) async fn serves(guest: &Guest, wire: &mut Wire) {
    while wire.heartbeat().await != "running" {}
    wire.cast("notify_end").await;
    guest.nothing_is_left("the preparation").await;
}

/// What the sweep went through, in the order of the longest run, and that the named steps were among it.
pub(crate) fn assert_covered(steps: &[String], named: &[&str]) {
    assert!(!steps.is_empty() && steps.len() < MOST, "{steps:#?}");
    for name in named {
        assert!(steps.iter().any(|step| step.contains(name)), "no crash point at {name}: {steps:#?}");
    }
}

/// Whether a status is one that a preparation ends with. A busy database that does not answer in time is none.
fn ended(word: &str) -> bool {
    !["building", "blocked"].contains(&word)
}

/// Prepares a new guest, killed in front of one step of a kind.
pub(crate) async fn prepare_killed_at(
    kind: String,
    number: usize,
    options: &str,
    begin: impl AsyncFn(&Guest, &Wire),
    check: impl AsyncFn(&Guest),
) -> (End, Vec<String>) {
    let (guest, mut wire) = mortal(options).await;
    guest.crash_at_one_of(&kind, number);
    begin(&guest, &wire).await;
    let mut words = Vec::new();
    let end = guest
        .survive(async || {
            words.extend(wire.words());
            words.last().is_some_and(|word| ended(word))
        })
        .await;
    let steps = guest.steps();
    let at = format!("{number} of '{kind}'");
    let result = async {
        while words.last().is_none_or(|word| !ended(word)) {
            words.push(wire.heartbeat().await);
        }
        wire.cast("report_root").await;
        wire.cast("notify_end").await;
    };
    result.await;
    words.extend(wire.words());
    // Of a machine that is too busy to answer in time.
    words.retain(|word| word != "blocked");
    let first_running = words.iter().position(|word| word == "running").unwrap_or_else(|| panic!("{at}: {words:?}\n{}", guest.log()));
    assert!(words[..first_running].iter().all(|word| word == "building"), "{at}: {words:?}");
    assert!(words[first_running..].iter().all(|word| word == "running"), "{at}: {words:?}");
    guest.nothing_is_left(&at).await;
    check(&guest).await;
    (end, steps)
}

/// Undisturbed, to see the steps, among them those `named`; then killed at the last one of each kind, or at each one ([`points`]), several side by side.
pub(crate) async fn sweep<F: Future<Output = (End, Vec<String>)>>(what: &str, named: &[&str], run: impl Fn(String, usize) -> F) {
    let (end, steps) = run(String::new(), MOST).await;
    assert_eq!(end, End::Done, "{steps:#?}");
    assert_covered(&steps, named);
    // Of each point that ended nothing: its kind, and how often that came all the same.
    let survivors = async |points: Vec<(String, usize)>| -> Vec<(String, usize)> {
        let runs = points.into_iter().map(|(kind, number)| {
            let run = run(kind.clone(), number);
            async move {
                let (end, steps) = run.await;
                (end == End::Done).then(|| (kind.clone(), kinds(&steps).remove(&kind).unwrap_or(0)))
            }
        });
        stream::iter(runs).buffer_unordered(SIDE_BY_SIDE).filter_map(async |survivor| survivor).collect().await
    };
    let mut killed = kinds(&steps);
    let points = points(&steps);
    let survived = survivors(points.clone()).await;
    report(what, points.len() - survived.len(), steps.len());
    // Some come once more or once less: the first of its kind, then. And some, as the questions of a heartbeat beside it, not in every run.
    let again: BTreeSet<String> = survived.into_iter().map(|(kind, _)| kind).collect();
    for (kind, times) in survivors(again.into_iter().map(|kind| (kind, 1)).collect()).await {
        assert_eq!(times, 0, "not killed at '{kind}'");
        killed.remove(&kind);
    }
    for name in named.iter().map(|name| kind(name)) {
        assert!(killed.keys().any(|kind| kind.contains(&name)), "never killed at '{name}', only at {killed:#?}");
    }
}

/// A backup, made undisturbed: what `prepare` takes.
pub(crate) async fn made_backup(wire: &mut Wire) -> Value {
    let id = uuid::Uuid::new_v4().to_string();
    cast_backup(wire, &id).await;
    let made = until("the backup", async || wire.backup_states(&id).into_iter().find(|cast| cast["args"]["state"] == "COMPLETED")).await;
    let made = &made["args"];
    json!({"id": id, "location": made["location"], "type": made["backup_type"], "checksum": made["checksum"]})
}

async fn cast_backup(wire: &Wire, id: &str) {
    let info = json!({"id": id, "name": "b", "description": null, "instance_id": "i", "backup_type": null, "checksum": null, "parent": null,
                      "datastore": "mariadb", "datastore_version": "10.11"});
    let more = json!({"_context_tenant": "T", "_context_roles": [], "_context_auth_token": PLANTED});
    wire.cast_with("create_backup", json!({"backup_info": info}), more).await;
}

/// One backup, killed in front of one step of a kind: the conductor is told the truth, and the storage has all of it or nothing.
pub(crate) async fn backup_killed_at(
    guest: &Guest,
    wire: &mut Wire,
    folder: &Utf8Path,
    kind: &str,
    number: usize,
) -> (End, Vec<String>, String) {
    let id = uuid::Uuid::new_v4().to_string();
    guest.crash_at_one_of(kind, number);
    cast_backup(wire, &id).await;
    let mut told = Vec::new();
    let is_end = |told: &[serde_json::Map<String, Value>]| told.last().is_some_and(|cast| cast["args"]["state"] != "BUILDING");
    let end = guest
        .survive(async || {
            told.extend(wire.backup_states(&id));
            is_end(&told)
        })
        .await;
    let steps = guest.steps();
    let at = format!("{number} of '{kind}', {}", steps.last().map_or("", String::as_str));
    until(&format!("the end of the backup after {at}"), async || {
        told.extend(wire.backup_states(&id));
        is_end(&told).then_some(())
    })
    .await;
    guest.nothing_is_left(&at).await;
    // The conductor drops what is not newer than the last it saw.
    let last = told.iter().max_by(|a, b| a["args"]["sent"].as_f64().partial_cmp(&b["args"]["sent"].as_f64()).unwrap()).unwrap();
    let stored: Vec<Utf8PathBuf> = folder.join("database_backups").read_dir_utf8().map_or_else(
        |_| Vec::new(),
        |entries| entries.map(|entry| entry.unwrap().into_path()).filter(|path| path.as_str().contains(&id)).collect(),
    );
    match last["args"]["state"].as_str().unwrap() {
        "COMPLETED" => assert!(stored.iter().any(|path| path.extension() == Some("json")), "{at}: {stored:?}"),
        "FAILED" => {
            assert_eq!(stored, [] as [Utf8PathBuf; 0], "{at}");
            assert!(last["args"]["note"].as_str().unwrap().contains("restarted in the middle of 'create_backup'"), "{at}: {last:?}");
        }
        other => panic!("{at}: {other}"),
    }
    (end, steps, last["args"]["state"].as_str().unwrap().to_owned())
}

/// Backups, one undisturbed, to see its steps, among them those `named`, the others killed at its [`points`]; `after` each of them.
pub(crate) async fn backups_killed_at_each_point(
    what: &str,
    guest: &Guest,
    wire: &mut Wire,
    folder: &Utf8Path,
    named: &[&str],
    mut after: impl FnMut(),
) {
    let (end, steps, outcome) = backup_killed_at(guest, wire, folder, "", MOST).await;
    assert_eq!((end, outcome.as_str()), (End::Done, "COMPLETED"));
    assert_covered(&steps, named);
    let (mut killed, mut outcomes) = (0, Vec::new());
    for (kind, number) in points(&steps) {
        let (end, _, outcome) = backup_killed_at(guest, wire, folder, &kind, number).await;
        killed += usize::from(end == End::Killed);
        outcomes.push(outcome);
        after();
    }
    report(what, killed, steps.len());
    assert!(outcomes.iter().any(|state| state == "FAILED"));
}

/// Calls a method, killed in front of one step of a kind; its caller gets an answer that is no failure, or that says what to do.
pub(crate) async fn called_killed_at(
    guest: &Guest,
    wire: &mut Wire,
    method: &str,
    args: Value,
    kind: &str,
    number: usize,
) -> (End, Vec<String>) {
    guest.crash_at_one_of(kind, number);
    let id = wire.call_in_time(method, args.clone()).await;
    let end = guest.survive(async || wire.is_answered(&id)).await;
    let steps = guest.steps();
    let at = format!("{method}, {number} of '{kind}', {}", steps.last().map_or("", String::as_str));
    let reply = wire.reply_to(&id).await;
    if REPORTED.contains(&method) && reply["failure"].as_str().is_some_and(|failure| failure.contains("repeat the call")) {
        call(wire, method, args).await;
    } else {
        assert!(reply["failure"].is_null(), "{at}: {reply:?}\n{}", guest.log());
    }
    guest.nothing_is_left(&at).await;
    (end, steps)
}

/// Calls a method again and again: undisturbed, to see its steps, then killed at each of its [`points`]. Each time its caller gets an answer that is no failure,
/// or that says what to do. The agent is killed after the undisturbed one, too.
pub(crate) async fn answered_at_each_point(
    guest: &Guest,
    wire: &mut Wire,
    method: &str,
    args: impl Fn(usize) -> Value,
    mut before: impl AsyncFnMut(&mut Wire),
    mut after: impl AsyncFnMut(&mut Wire, usize),
) -> Vec<String> {
    let (mut left, mut all) = (vec![(String::new(), MOST)], Vec::new());
    let (mut round, mut killed) = (0, 0);
    while let Some((kind, number)) = left.pop() {
        round += 1;
        before(wire).await;
        let (end, steps) = called_killed_at(guest, wire, method, args(round), &kind, number).await;
        after(wire, round).await;
        if number == MOST {
            assert_eq!(end, End::Done, "{method}");
            left = points(&steps);
            all = steps;
        }
        killed += usize::from(end == End::Killed);
    }
    report(method, killed, all.len());
    all
}

/// Waits until this is the conductor's last word.
pub(crate) async fn told(wire: &mut Wire, word: &str) {
    let mut last = String::new();
    until(&format!("a heartbeat that says {word}"), async || {
        last = wire.words().pop().unwrap_or_else(|| std::mem::take(&mut last));
        (last == word).then_some(())
    })
    .await;
}

/// Calls a method, and returns what it answers.
pub(crate) async fn call(wire: &mut Wire, method: &str, args: Value) -> Value {
    let id = wire.call_in_time(method, args).await;
    let reply = wire.reply_to(&id).await;
    assert!(reply["failure"].is_null(), "{method}: {reply:?}");
    reply["result"].clone()
}
