//! Replication between real servers, in the order in which the task manager asks for it (trove/taskmanager/manager.py of 2026.1: promote_to_replica_source,
//! eject_replica_source), while somebody writes.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trove_guestagent::managers::backup::Finished;
use trove_guestagent::managers::prepare::{self, PrepareEnv};
use trove_guestagent::managers::{DatastoreManager, replication, upgrade};
use trove_guestagent::model::{LastTxn, PrepareRequest, Release, ReplicaInfo, ServiceStatus};
use trove_guestagent::strategies::replication::ReplicationStrategy;
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::postgresql::SqlText;

use crate::backup::{ID, back_up, beside, source};
use crate::support::{Guest, NoPackages, logged, run, user};
use crate::upgrade::{moved, no_volume};

const SUM: &str = "SELECT count(*) || ' ' || md5(string_agg(i || w, ',' ORDER BY i)) FROM t";

pub(crate) fn strategy(guest: &Guest) -> &dyn ReplicationStrategy {
    guest.manager.replication().unwrap()
}

/// What a source tells the controller, with this machine's one address in place of the guest's.
pub(crate) async fn context(source: &Guest) -> Value {
    let mut context = Value::Object(replication::context(&source.op, &source.manager, Release::Zed).await.unwrap());
    context["master"]["host"] = json!("127.0.0.1");
    context
}

pub(crate) fn info(context: Value) -> ReplicaInfo {
    serde_json::from_value(context).unwrap()
}

pub(crate) async fn attach(replica: &Guest, source: &Guest) -> trove_guestagent::Result<()> {
    // What Trove renders of its template of a replica.
    let config = trove_guestagent::model::Overrides::Text("# Currently unused".into());
    replication::attach(&replica.op, &replica.manager, &info(context(source).await), Some(&config)).await
}

/// `prepare` of a replica; from a backup when there is one.
pub(crate) async fn make_replica(replica: &Guest, source: &Guest, backup: Option<&Finished>) {
    let mut snapshot = context(source).await;
    snapshot["dataset"] = json!({"dataset_size": 0.1});
    snapshot["replication_strategy"] = json!("PostgresqlReplicationStreaming");
    let mut request = json!({"config_contents": replica.base(""), "snapshot": snapshot});
    if let Some(backup) = backup {
        request["backup_info"] = json!({"id": ID, "location": backup.location, "checksum": backup.checksum, "type": backup.runner});
    }
    let request: PrepareRequest = serde_json::from_value(request).unwrap();
    let env = PrepareEnv { settings: replica.settings.clone(), commands: Arc::new(SystemCommands), packages: Arc::new(NoPackages) };
    prepare::run(&replica.op, &replica.manager, &env, &request).await.unwrap();
}

/// Somebody who writes row after row to whoever is the source, and knows which were committed.
struct Load {
    port: Arc<Mutex<u16>>,
    committed: Arc<Mutex<BTreeSet<i32>>>,
    ended: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn on(source: &Guest) -> Load {
        let (port, committed, ended) = (Arc::new(Mutex::new(source.port)), Arc::new(Mutex::new(BTreeSet::new())), CancellationToken::new());
        let task = tokio::spawn(write(Arc::clone(&port), Arc::clone(&committed), ended.clone()));
        Load { port, committed, ended, task }
    }

    fn move_to(&self, source: &Guest) {
        *self.port.lock().unwrap() = source.port;
    }

    fn committed(&self) -> BTreeSet<i32> {
        self.committed.lock().unwrap().clone()
    }

    async fn wait_for_more(&self) {
        let goal = self.committed().len() + 20;
        let more = async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            while self.committed().len() < goal {
                look.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), more).await.expect("nobody can write");
    }

    async fn end(self) -> BTreeSet<i32> {
        self.ended.cancel();
        self.task.await.unwrap();
        Arc::into_inner(self.committed).unwrap().into_inner().unwrap()
    }
}

async fn write(port: Arc<Mutex<u16>>, committed: Arc<Mutex<BTreeSet<i32>>>, ended: CancellationToken) {
    let (mut connected, mut to) = (None, 0);
    let mut pause = tokio::time::interval(Duration::from_millis(5));
    for number in 1.. {
        pause.tick().await;
        if ended.is_cancelled() {
            return;
        }
        let now = *port.lock().unwrap();
        if connected.is_none() || to != now {
            to = now;
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(to).user("u").password("p").dbname("shop");
            connected = config.connect(tokio_postgres::NoTls).await.ok().map(|(client, connection)| {
                tokio::spawn(connection);
                client
            });
        }
        let Some(client) = &connected else { continue };
        match client.simple_query(&format!("INSERT INTO t VALUES ({number}, 'row {number}')")).await {
            Ok(_) => drop(committed.lock().unwrap().insert(number)),
            // Read-only, or gone.
            Err(_) => connected = None,
        }
    }
}

/// A source with a table, and a load on it.
async fn loaded(name: &str) -> (Guest, Load) {
    let guest = source(name, None).await;
    guest.create_databases(&["shop"]).await;
    guest.users().create(&guest.op, &[user("u", "p", &["shop"])]).await.unwrap();
    guest.as_user("u", "p", "shop", "CREATE TABLE t (i INT PRIMARY KEY, w TEXT)").await.unwrap();
    let load = Load::on(&guest);
    (guest, load)
}

async fn sum(guest: &Guest) -> Vec<String> {
    guest.as_user("u", "p", "shop", SUM).await.unwrap()
}

async fn numbers(guest: &Guest) -> BTreeSet<i32> {
    guest.as_user("u", "p", "shop", "SELECT i FROM t").await.unwrap().iter().map(|number| number.parse().unwrap()).collect()
}

/// What `source` has done, all have.
async fn equal(source: &Guest, replicas: &[&Guest]) {
    let latest = strategy(source).latest_transaction(&source.op).await.unwrap();
    for replica in replicas {
        strategy(replica).wait_for_transaction(&replica.op, &latest).await.unwrap();
        assert_eq!(sum(replica).await, sum(source).await);
        let error = replica.as_user("u", "p", "shop", "INSERT INTO t VALUES (-1, 'x')").await.unwrap_err();
        assert!(error.contains("read-only"), "{error}");
    }
}

pub(crate) async fn slots(guest: &Guest) -> Vec<String> {
    let sql = "SELECT slot_name || ' ' || active FROM pg_replication_slots WHERE slot_name LIKE 'trove_replica%' ORDER BY 1";
    guest.rows(&SqlText::new(sql)).await.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

/// What a promotion and an ejection share. Everything is asked for twice, as after an agent that was killed.
async fn take_over(candidate: &Guest) {
    for _ in 0..2 {
        strategy(candidate).detach(&candidate.op, true).await.unwrap();
        let error = candidate.as_user("u", "p", "shop", "INSERT INTO t VALUES (-1, 'early')").await.unwrap_err();
        assert!(error.contains("read-only"), "a candidate is writable before its time: {error}");
        strategy(candidate).enable_as_source(&candidate.op, None).await.unwrap();
    }
    for _ in 0..2 {
        strategy(candidate).set_read_only(&candidate.op, false).await.unwrap();
    }
}

async fn move_to(replica: &Guest, source: &Guest) {
    strategy(replica).detach(&replica.op, true).await.unwrap();
    for _ in 0..2 {
        attach(replica, source).await.unwrap();
    }
}

/// Nobody reaches this server any more but its users.
fn cut_off(guest: &Guest) -> String {
    let file = guest.dir.join("etc/pg_hba.conf");
    let rules = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("host replication all all reject\nhost all replicator all reject\n{rules}")).unwrap();
    rules
}

#[test]
fn a_set_is_made_promoted_ejected_and_taken_apart_while_somebody_writes() {
    run(async {
        let (old, load) = loaded("old").await;
        load.wait_for_more().await;
        assert!(strategy(&old).needs_backup() && strategy(&old).name() == "PostgresqlReplicationStreaming");
        let pid = old.pid().await;
        for _ in 0..2 {
            strategy(&old).enable_as_source(&old.op, None).await.unwrap();
        }
        assert_eq!(old.pid().await, pid, "becoming a source restarts nothing");
        assert_ne!(old.parameter("max_slot_wal_keep_size").await, "-1");
        let backup = back_up(&old).await.unwrap();
        load.wait_for_more().await;
        let (new, other) = (beside("new", &old), beside("other", &old));
        for replica in [&new, &other] {
            make_replica(replica, &old, Some(&backup)).await;
        }
        assert_eq!(slots(&old).await, ["trove_replica_new true", "trove_replica_other true"]);
        load.wait_for_more().await;
        // Replicas stay replicas over restarts of agent and server.
        let new = new.agent_again();
        new.manager.stop(&new.op).await.unwrap();
        new.manager.start(&new.op).await.unwrap();
        assert_eq!(strategy(&new).last_transaction(&new.op).await.unwrap().0.as_deref(), Some("127.0.0.1"));

        // promote_to_replica_source.
        for _ in 0..2 {
            strategy(&old).set_read_only(&old.op, true).await.unwrap();
        }
        let error = old.as_user("u", "p", "shop", "SET transaction_read_only = off; INSERT INTO t VALUES (-1, 'x')").await.unwrap_err();
        assert!(error.contains("read") && !error.contains("duplicate"), "{error}");
        let latest = strategy(&old).latest_transaction(&old.op).await.unwrap();
        strategy(&new).wait_for_transaction(&new.op, &latest).await.unwrap();
        take_over(&new).await;
        load.move_to(&new);
        move_to(&other, &new).await;
        attach(&old, &new).await.unwrap();
        strategy(&old).demote(&old.op).await.unwrap();
        load.wait_for_more().await;
        assert!(strategy(&old).transaction_count(&old.op).await.unwrap().unwrap() > 20);
        let committed = load.committed();
        equal_under_load(&new, &[&old, &other]).await;
        assert!(committed.is_subset(&numbers(&new).await), "a promotion loses nothing");
        assert_eq!((slots(&old).await, slots(&other).await), (Vec::<String>::new(), Vec::new()));
        assert_eq!(slots(&new).await, ["trove_replica_old true", "trove_replica_other true"]);
        // Other tests' servers are rewound meanwhile.
        let (log, source) = (logged(), format!("port={} ", new.port));
        let rewound: Vec<&str> = log.lines().filter(|line| line.contains("way=Rewind") && line.contains(&source)).collect();
        assert!(rewound.is_empty(), "an old source in good order follows as it is: {rewound:?}");

        eject(new, old, other, load).await;
    });
}

/// As [`equal`], of a source that somebody writes to.
pub(crate) async fn equal_under_load(source: &Guest, replicas: &[&Guest]) {
    let latest = strategy(source).latest_transaction(&source.op).await.unwrap();
    for replica in replicas {
        strategy(replica).wait_for_transaction(&replica.op, &latest).await.unwrap();
    }
}

/// eject_replica_source, with a source that is cut off and commits rows that nobody hears of; then the set is taken apart.
async fn eject(cut: Guest, first: Guest, second: Guest, load: Load) {
    let rules = cut_off(&cut);
    commit_alone(&cut).await;
    load.wait_for_more().await;
    nobody_reaches(&cut, &first).await;
    let (candidate, replica) = most_current(&first, &second).await;
    take_over(candidate).await;
    move_to(replica, candidate).await;
    load.move_to(candidate);
    load.wait_for_more().await;
    let before_return = load.committed();

    std::fs::write(cut.dir.join("etc/pg_hba.conf"), rules).unwrap();
    comes_back(&cut, candidate).await;
    let committed = load.end().await;
    equal(candidate, &[&cut, replica]).await;
    has_all(candidate, committed.difference(&before_return)).await;
    let cut = stands_alone(cut, candidate).await;
    secrets_are_kept(candidate, replica);
    for guest in [cut, first, second] {
        guest.remove().await;
    }
}

async fn has_all(guest: &Guest, mut wanted: impl Iterator<Item = &i32>) {
    let there = numbers(guest).await;
    assert!(wanted.all(|number| there.contains(number)));
}

/// What the old source alone has is undone.
async fn comes_back(cut: &Guest, source: &Guest) {
    assert!(numbers(cut).await.contains(&-2));
    attach(cut, source).await.unwrap();
    strategy(cut).demote(&cut.op).await.unwrap();
    assert_rewound();
    assert!(!numbers(cut).await.contains(&-2));
}

/// Its replicas are gone; its users are not.
async fn commit_alone(cut: &Guest) {
    let hang_up = "SELECT pg_reload_conf(); SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    cut.rows(&SqlText::new(hang_up)).await;
    let gone = async {
        while !slots(cut).await.iter().all(|slot| slot.ends_with("false")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    cut.as_user("u", "p", "shop", "INSERT INTO t VALUES (-2, 'alone'), (-3, 'alone')").await.unwrap();
}

async fn nobody_reaches(cut: &Guest, replica: &Guest) {
    let op = replica.op.clone().for_at_most(Some(Duration::from_secs(3)));
    let latest = strategy(cut).latest_transaction(&cut.op).await.unwrap();
    let error = strategy(replica).wait_for_transaction(&op, &latest).await.unwrap_err().to_string();
    assert!(error.contains("bytes behind; the source is not reached"), "{error}");
}

/// The replica that has lost least, and the other one.
async fn most_current<'a>(first: &'a Guest, second: &'a Guest) -> (&'a Guest, &'a Guest) {
    let LastTxn(source, one) = strategy(first).last_transaction(&first.op).await.unwrap();
    assert_eq!(source.as_deref(), Some("127.0.0.1"));
    let LastTxn(source, other) = strategy(second).last_transaction(&second.op).await.unwrap();
    assert_eq!(source.as_deref(), Some("127.0.0.1"));
    if one >= other { (first, second) } else { (second, first) }
}

/// Detached for good: it writes, before and after a restart; its source keeps nothing for it.
async fn stands_alone(guest: Guest, source: &Guest) -> Guest {
    for _ in 0..2 {
        strategy(&guest).detach(&guest.op, false).await.unwrap();
    }
    guest.as_user("u", "p", "shop", "INSERT INTO t VALUES (-4, 'mine')").await.unwrap();
    assert!(!slots(source).await.iter().any(|slot| slot.starts_with("trove_replica_new")));
    assert_eq!(guest.rows(&SqlText::new("SELECT rolname FROM pg_roles WHERE rolname = 'replicator'")).await.len(), 0);
    let guest = guest.agent_again();
    guest.manager.stop(&guest.op).await.unwrap();
    guest.manager.start(&guest.op).await.unwrap();
    assert_eq!(strategy(&guest).last_transaction(&guest.op).await.unwrap(), LastTxn(None, 0));
    guest.as_user("u", "p", "shop", "INSERT INTO t VALUES (-5, 'mine')").await.unwrap();
    guest
}

pub(crate) fn assert_rewound() {
    let log = logged();
    let lines: Vec<&str> = log.lines().filter(|line| ["attach", "following: "].iter().any(|part| line.contains(part))).collect();
    assert!(log.contains("way=Rewind") && log.contains("rewound the data"), "{lines:#?}");
}

/// Neither password is in a log, an argument of a program, or a file that others may read.
fn secrets_are_kept(source: &Guest, replica: &Guest) {
    let memory: Value = serde_json::from_str(&std::fs::read_to_string(source.dir.join("state/replication.json")).unwrap()).unwrap();
    let administrator = std::fs::read_to_string(replica.dir.join("state/os_admin.pgpass")).unwrap();
    let secrets = [memory["password"].as_str().unwrap(), administrator.trim().rsplit(':').next().unwrap()];
    let passfile = replica.dir.join("etc/replication.pgpass");
    let metadata = std::fs::metadata(&passfile).unwrap();
    let postgres = nix::unistd::User::from_name("postgres").unwrap().unwrap();
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid()), (0o600, postgres.uid.as_raw()));
    assert!(std::fs::read_to_string(&passfile).unwrap().contains(secrets[0]));
    let role = std::fs::read_to_string(replica.dir.join("etc/conf.d/50-system-003-slave-replication.conf")).unwrap();
    let log = logged();
    for secret in secrets {
        assert!(secret.len() >= 32 && !log.contains(secret) && !role.contains(secret));
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut arguments = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        assert!(!arguments.any(|line| String::from_utf8_lossy(&line).contains(secret)));
    }
}

#[test]
fn who_cannot_follow_is_what_it_was() {
    run(async {
        let (source, load) = loaded("alone").await;
        load.end().await;
        strategy(&source).enable_as_source(&source.op, None).await.unwrap();
        let guest = source_of_its_own().await;
        let files = |guest: &Guest| {
            let mut names: Vec<_> =
                std::fs::read_dir(guest.dir.join("etc/conf.d")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let (before, pid) = (files(&guest), guest.pid().await);
        let told = context(&source).await;
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut told = told.clone();
            change(&mut told);
            info(told)
        };
        for (said, info) in [
            ("ask the source 127.0.0.1:1", changed(&|told| told["master"]["port"] = json!(1))),
            ("password authentication failed", changed(&|told| told["replica_conf"]["replication_user"]["password"] = json!("wrong"))),
            ("names no account", changed(&|told| told["replica_conf"]["replication_user"] = Value::Null)),
            ("no copy of its new source", changed(&|_| ())),
        ] {
            let error = replication::attach(&guest.op, &guest.manager, &info, None).await.unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("wrong"), "{error}");
            assert_eq!((files(&guest), guest.pid().await), (before.clone(), pid));
        }
        let other = changed(&|told| told["replication_strategy"] = json!("MysqlGTIDReplication"));
        let error = replication::attach(&guest.op, &guest.manager, &other, None).await.unwrap_err();
        assert_eq!(error.trove_class().class, "IncompatibleReplicationStrategy");
        guest.as_user("u", "p", "mine", "CREATE TABLE t (i INT)").await.unwrap();
        // A place that is never reached, and what is none.
        let error = strategy(&guest).wait_for_transaction(&guest.op, "FF/0").await.unwrap_err().to_string();
        assert!(error.contains("follows nobody") && error.contains("of FF/0"), "{error}");
        assert!(strategy(&guest).wait_for_transaction(&guest.op, "0-1-5").await.is_err());
        assert_eq!(slots(&source).await, Vec::<String>::new());
        for guest in [guest, source] {
            guest.remove().await;
        }
    });
}

async fn source_of_its_own() -> Guest {
    let guest = source("another", None).await;
    guest.create_databases(&["mine"]).await;
    guest.users().create(&guest.op, &[user("u", "p", &["mine"])]).await.unwrap();
    guest
}

#[test]
fn a_replica_that_fell_behind_is_told_apart_and_made_anew() {
    run(async {
        let (first, load) = loaded("first").await;
        strategy(&first).enable_as_source(&first.op, None).await.unwrap();
        // Without a backup: a new instance is a copy of its source's files.
        let behind = beside("behind", &first);
        make_replica(&behind, &first, None).await;
        load.wait_for_more().await;

        // One that somebody has paused is not promoted.
        behind.rows(&SqlText::new("SELECT pg_wal_replay_pause()")).await;
        load.wait_for_more().await;
        let error = strategy(&behind).detach(&behind.op, true).await.unwrap_err().to_string();
        assert!(error.contains("stays attached") && error.contains("applying is paused"), "{error}");
        assert_eq!(strategy(&behind).last_transaction(&behind.op).await.unwrap().0.as_deref(), Some("127.0.0.1"));
        let error = strategy(&behind).set_read_only(&behind.op, false).await.unwrap_err().to_string();
        assert!(error.contains("follows another one"), "{error}");
        behind.rows(&SqlText::new("SELECT pg_wal_replay_resume()")).await;

        // Its source has thrown away what it lacks.
        behind.manager.stop(&behind.op).await.unwrap();
        strategy(&first)
            .forget_replica(&first.op, &serde_json::from_value(json!({"slot": "trove_replica_behind"})).unwrap())
            .await
            .unwrap();
        assert!(strategy(&first).forget_replica(&first.op, &serde_json::from_value(json!({"slot": "mine"})).unwrap()).await.is_err());
        for _ in 0..3 {
            load.wait_for_more().await;
            first.rows(&SqlText::new("SELECT pg_switch_wal()")).await;
            first.rows(&SqlText::new("CHECKPOINT")).await;
        }
        behind.manager.start(&behind.op).await.unwrap();
        let latest = strategy(&first).latest_transaction(&first.op).await.unwrap();
        let op = behind.op.clone().for_at_most(Some(Duration::from_secs(4)));
        let error = strategy(&behind).wait_for_transaction(&op, &latest).await.unwrap_err().to_string();
        assert!(error.contains("does not have what comes next any more"), "{error}");
        attach(&behind, &first).await.unwrap();
        equal_under_load(&first, &[&behind]).await;

        // As of an agent that was killed while it rewound: the server is not started, and the same call again copies everything.
        behind.manager.stop(&behind.op).await.unwrap();
        std::fs::write(behind.dir.join("state/restoring"), "").unwrap();
        let behind = behind.agent_again();
        assert!(behind.manager.start(&behind.op).await.is_err());
        attach(&behind, &first).await.unwrap();
        load.end().await;
        equal(&first, &[&behind]).await;
        behind.until(ServiceStatus::Running).await;
        assert!(!behind.dir.join("mnt/data/.trove-incoming").exists() && !behind.dir.join("state/restoring").exists());
        for guest in [behind, first] {
            guest.remove().await;
        }
    });
}

#[test]
fn a_rebuilt_replica_goes_on_following() {
    run(async {
        let (first, load) = loaded("kept").await;
        strategy(&first).enable_as_source(&first.op, None).await.unwrap();
        let replica = beside("again", &first);
        make_replica(&replica, &first, None).await;
        let replica = moved(replica).await;
        // The agent's start makes it.
        std::fs::create_dir(replica.dir.join("state")).unwrap();
        load.wait_for_more().await;
        let (base, volume) = (replica.base(""), no_volume(&replica));
        for _ in 0..2 {
            upgrade::rebuild(&replica.op, &replica.manager, replica.manager.upgrades().unwrap(), &volume, Some(&base), None).await.unwrap();
        }
        load.end().await;
        equal(&first, &[&replica]).await;
        secrets_are_kept(&first, &replica);
        // So does one whose source is rebuilt: the source's account has the password it had.
        let first = moved(first).await;
        std::fs::create_dir(first.dir.join("state")).unwrap();
        let (base, volume) = (first.base(""), no_volume(&first));
        upgrade::rebuild(&first.op, &first.manager, first.manager.upgrades().unwrap(), &volume, Some(&base), None).await.unwrap();
        context(&first).await;
        assert_ne!(first.parameter("wal_keep_size").await, "0");
        first.rows(&SqlText::new("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")).await;
        first.as_user("u", "p", "shop", "INSERT INTO t VALUES (-9, 'rebuilt')").await.unwrap();
        equal(&first, &[&replica]).await;
        secrets_are_kept(&first, &replica);
        // An instance of its own has nothing to go on with.
        strategy(&replica).detach(&replica.op, false).await.unwrap();
        assert!(!replica.dir.join("mnt/.trove-replica").exists());
        for guest in [replica, first] {
            guest.remove().await;
        }
    });
}
