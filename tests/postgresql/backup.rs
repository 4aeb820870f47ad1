//! Backups made while the server serves, and taken back.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use trove_guestagent::managers::backup::{self, BackupEnv, Finished};
use trove_guestagent::managers::drill::{self, Drill, Report};
use trove_guestagent::managers::prepare::{self, PrepareEnv};
use trove_guestagent::managers::{DatastoreManager, RestoreTarget};
use trove_guestagent::model::{BackupRequest, PrepareRequest, Release, RestoreRequest, ServiceStatus};
use trove_guestagent::strategies::backup::{BackupJob, RestoreStep};
use trove_guestagent::strategies::storage::{Storage, StorageRequest, byte_stream, storage_for};
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::postgresql::SqlText;

use crate::support::{Guest, NoPackages, logged, run, shared, user};

pub(crate) const ID: &str = "4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f10";
/// Of a backup that fails: to undo that ends every program at work for it.
const DAMAGED: &str = "4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f11";
/// Names that a dump, a script or a path could stumble over.
const HOSTILE: [&str; 3] = ["it's $1;", "a\"\\b", "\u{1f600} --"];

/// A guest that stores beside itself.
pub(crate) async fn source(name: &str, strategy: Option<&str>) -> Guest {
    let guest = Guest::changed(name, |settings| {
        settings.backup.storage_strategy = "local".into();
        settings.storage.local_dir = Some(settings.state_dir.with_file_name("backups"));
        settings.datastore.backup_strategy = strategy.map(str::to_owned);
    });
    guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
    guest
}

pub(crate) fn beside(name: &str, source: &Guest) -> Guest {
    let (storage, directory) = (source.settings.backup.storage_strategy.clone(), source.settings.storage.local_dir.clone());
    Guest::changed(name, |settings| {
        settings.backup.storage_strategy = storage;
        settings.storage.local_dir = directory;
    })
}

pub(crate) async fn storage(guest: &Guest) -> Arc<dyn Storage> {
    let request = StorageRequest { swift_url: None, storage_driver: None, release: Some(Release::Train) };
    storage_for(&guest.op, &guest.settings, &request).await.unwrap()
}

pub(crate) async fn back_up(guest: &Guest) -> trove_guestagent::Result<Finished> {
    back_up_as(guest, ID).await
}

pub(crate) async fn back_up_as(guest: &Guest, id: &str) -> trove_guestagent::Result<Finished> {
    back_up_upon(guest, id, None).await
}

/// A backup of what came after another one, or a full one.
pub(crate) async fn back_up_upon(guest: &Guest, id: &str, parent: Option<&Finished>) -> trove_guestagent::Result<Finished> {
    let parent = parent.map(|parent| serde_json::json!({"location": parent.location, "checksum": parent.checksum}));
    let request: BackupRequest = serde_json::from_value(serde_json::json!({"id": id, "parent": parent})).unwrap();
    let backups = guest.manager.backups().unwrap();
    let runner = backup::runner(&guest.op, backups, &request).await?;
    let (settings, storage) = (guest.settings.clone(), storage(guest).await);
    let env = BackupEnv { settings, storage, release: Release::Train, mount_point: guest.manager.mount_point() };
    env.create(&guest.op, backups, &*runner, &request).await
}

/// `prepare` from a backup, as the dispatcher runs it.
pub(crate) async fn restore(target: &Guest, finished: &Finished, kind: &str) -> trove_guestagent::Result<bool> {
    let request: PrepareRequest = serde_json::from_value(serde_json::json!({
        "config_contents": target.base(""),
        "backup_info": {"id": ID, "location": finished.location, "checksum": finished.checksum, "type": kind},
    }))
    .unwrap();
    let env = PrepareEnv { settings: target.settings.clone(), commands: Arc::new(SystemCommands), packages: Arc::new(NoPackages) };
    prepare::run(&target.op, &target.manager, &env, &request).await.map(|outcome| outcome.root_enabled)
}

pub(crate) async fn hold(guest: &Guest, finished: &Finished) -> trove_guestagent::Result<Report> {
    let room = guest.dir.join("mnt");
    let drill =
        Drill { settings: &guest.settings.backup, storage: storage(guest).await, state_dir: &guest.settings.state_dir, room: &room };
    let request = RestoreRequest::of(finished.location.clone(), Some(finished.checksum.clone()), Some(finished.runner.clone()));
    let report = drill.hold(&guest.op, guest.manager.backups().unwrap(), &request).await;
    assert!(!room.join(".trove-drill").exists(), "a drill leaves nothing");
    report
}

/// Databases and users with hostile names, rows in each, and a root with a password.
async fn fill(guest: &Guest) {
    guest.create_databases(&HOSTILE).await;
    let users: Vec<_> = HOSTILE.iter().map(|name| user(name, "planted-user", &[*name])).collect();
    guest.users().create(&guest.op, &users).await.unwrap();
    for name in HOSTILE {
        let made = "CREATE TABLE \"public\".\"t \"\" x\" (i INT PRIMARY KEY, t TEXT); \
                    INSERT INTO \"t \"\" x\" SELECT i, repeat(E'\\\\\\n\\t''', i % 50) FROM generate_series(1, 2000) i; SELECT current_user";
        assert_eq!(guest.as_user(name, "planted-user", name, made).await.unwrap(), [name]);
    }
    guest.root().enable(&guest.op, Some("planted-root".into())).await.unwrap();
}

async fn digest(guest: &Guest, name: &str) -> Vec<String> {
    guest.as_user(name, "planted-user", name, "SELECT md5(string_agg(i || t, ',' ORDER BY i)) FROM \"t \"\" x\"").await.unwrap()
}

#[test]
fn rows_roles_and_hostile_names_come_back_from_a_dump_and_from_files() {
    run(async {
        for (strategy, runner, kind) in [(Some("PgDump"), "PgDump", "full"), (None, "PgBaseBackup", "PgBaseBackup")] {
            let source = source("round", strategy).await;
            fill(&source).await;
            let finished = back_up(&source).await.unwrap();
            assert_eq!((finished.runner.as_str(), finished.location.contains(".tar")), (runner, strategy.is_none()));
            if runner == "PgDump" {
                let found = hold(&source, &finished).await.unwrap().found;
                assert_eq!((found.databases, found.items.count, found.problems), (3, 3, Vec::new()));
            }
            let target = beside("back", &source);
            assert!(restore(&target, &finished, kind).await.unwrap(), "{kind}: root is enabled in the restored database");
            for name in HOSTILE {
                assert_eq!(digest(&target, name).await, digest(&source, name).await, "{kind} {name}");
            }
            assert_eq!(target.as_user("postgres", "planted-root", "postgres", "SELECT 7").await.unwrap(), ["7"]);
            assert_eq!(target.users().list(&target.op, &Default::default()).await.unwrap().items.len(), HOSTILE.len());
            let data = target.dir.join("mnt/data/pgdata");
            assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
            assert!(!target.dir.join("state/restoring").exists() && !data.join(".trove-private").exists());
            // It is an instance like any other, and stays one.
            target.create_databases(&["later"]).await;
            target.manager.stop(&target.op).await.unwrap();
            target.manager.start(&target.op).await.unwrap();
            assert_eq!(digest(&target, HOSTILE[0]).await, digest(&source, HOSTILE[0]).await);
            target.remove().await;
            let password = std::fs::read_to_string(source.dir.join("state/os_admin.pgpass")).unwrap();
            let log = logged();
            for secret in ["planted-user", "planted-root", password.trim().rsplit(':').next().unwrap()] {
                assert!(!log.contains(secret));
            }
            source.remove().await;
        }
    });
}

#[test]
fn a_base_backup_under_load_is_consistent_and_says_where_it_begins_and_ends() {
    run(async {
        let source = source("load", None).await;
        source.create_databases(&["shop"]).await;
        source.users().create(&source.op, &[user("u", "p", &["shop"])]).await.unwrap();
        source.as_user("u", "p", "shop", "CREATE TABLE a (n INT); CREATE TABLE b (n INT)").await.unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(source.port).user("u").password("p").dbname("shop");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let done = tokio_util::sync::CancellationToken::new();
        let ended = done.clone();
        let writer = tokio::spawn(async move {
            let mut count = 0;
            while !ended.is_cancelled() {
                client.simple_query("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)").await.unwrap();
                count += 1;
            }
            count
        });
        let finished = back_up(&source).await.unwrap();
        done.cancel();
        let count: u64 = writer.await.unwrap();
        let fact = |name: &str| finished.metadata[name].clone();
        assert_eq!(fact("label"), ID);
        assert!(fact("start_segment").contains('/') && fact("checkpoint_location").contains('/'));
        assert!(fact("start_wal_file").len() == 24 && fact("stop_wal_file") >= fact("start_wal_file"), "{:?}", finished.metadata);
        let slots = source.rows(&SqlText::new("SELECT slot_name FROM pg_replication_slots")).await;
        assert_eq!(slots, [[Some("trove_guestagent_backup".to_owned())]], "nothing but what the next incremental backup needs");
        let target = beside("loaded", &source);
        restore(&target, &finished, "PgBaseBackup").await.unwrap();
        let both = "SELECT (SELECT count(*) FROM a) UNION ALL SELECT count(*) FROM b";
        let found = target.as_user("u", "p", "shop", both).await.unwrap();
        assert!(found[0] == found[1] && found[0].parse::<u64>().unwrap() <= count, "{found:?} of {count}");
        target.remove().await;
        source.remove().await;
    });
}

#[test]
fn what_was_set_for_the_source_alone_is_not_set_in_the_restored_server() {
    run(async {
        let source = source("settings", None).await;
        source.rows(&SqlText::new("ALTER SYSTEM SET port = 1")).await;
        source.rows(&SqlText::new("ALTER SYSTEM SET archive_command = 'touch /tmp/planted-archive'")).await;
        source.rows(&SqlText::new("ALTER SYSTEM SET work_mem = '7MB'")).await;
        // As of a replica.
        std::fs::write(source.dir.join("mnt/data/pgdata/standby.signal"), "").unwrap();
        let finished = back_up(&source).await.unwrap();
        let target = beside("own", &source);
        restore(&target, &finished, "PgBaseBackup").await.unwrap();
        assert_eq!((target.parameter("work_mem").await, target.parameter("archive_command").await), ("7MB".into(), "(disabled)".into()));
        assert_eq!(target.rows(&SqlText::new("SELECT pg_is_in_recovery()::text")).await[0][0].as_deref(), Some("false"));
        target.remove().await;
        source.remove().await;
    });
}

/// Other bytes, on the disk, in `shop.public.items`. The page's checksum does not fit them.
async fn damage(guest: &Guest, at: u64) {
    let shop = guest.manager.client().session_in(&guest.op, "shop").await.unwrap();
    let rows = shop.texts(&guest.op, "test", &SqlText::new("CHECKPOINT; SELECT pg_relation_filepath('public.items')")).await.unwrap();
    let path = guest.dir.join("mnt/data/pgdata").join(&rows[0]);
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[0xa5; 64]).unwrap();
}

#[test]
fn damage_fails_a_base_backup_and_is_found_by_a_drill() {
    run(async {
        let source = source("drill", None).await;
        source.create_databases(&["shop"]).await;
        let shop = source.manager.client().session_in(&source.op, "shop").await.unwrap();
        let made = "CREATE TABLE public.items AS SELECT i, repeat('x', 90) AS t FROM generate_series(1, 5000) i";
        shop.run(&source.op, "test", &SqlText::new(made)).await.unwrap();
        drop(shop);
        let finished = back_up(&source).await.unwrap();
        let pid = source.pid().await;
        let server = source.parameter("server_version").await;
        let here = format!("PostgreSQL {}", server.split_whitespace().next().unwrap());
        let report = hold(&source, &finished).await.unwrap();
        assert_eq!((report.found.items.name, report.found.items.count, report.found.databases, report.backups), ("tables", 1, 1, 1));
        assert_eq!((report.found.problems.as_slice(), report.found.server.as_str()), (&[][..], here.as_str()), "{report:?}");
        assert_eq!(source.pid().await, pid, "the instance's own server was not touched");
        damage(&source, 3 * 8192 + 4000).await;
        // The tool looks at the checksums of all it copies.
        let error = back_up_as(&source, DAMAGED).await.unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
        backup::undo(&source.op, &source.settings, &*storage(&source).await, DAMAGED).await.unwrap();
        // Unless it is told not to.
        let blind = source.with(|settings| settings.backup.runner_options = vec![("PgBaseBackup".into(), "--no-verify-checksums".into())]);
        let finished = back_up(&blind).await.unwrap();
        let report = hold(&blind, &finished).await.unwrap();
        assert!(report.found.problems.iter().any(|problem| problem.contains("items") || problem.contains("checksum")), "{report:?}");
        assert!(report.found.verdict().is_err());
        source.remove().await;
    });
}

/// What restore and examination make of these bytes.
async fn restore_bytes(guest: &Guest, object: &str, bytes: Vec<u8>) -> trove_guestagent::Result<()> {
    let directory = guest.dir.join("mnt/.trove-drill/data");
    std::fs::create_dir_all(&directory).unwrap();
    let backups = guest.manager.backups().unwrap();
    let mut runner = backups.restorer(&guest.op, None, object, &RestoreTarget::Scratch(directory.clone())).await?;
    let (sender, content) = byte_stream(1);
    tokio::spawn(async move { sender.send(Ok(bytes.into())).await.is_ok() });
    let step = RestoreStep { index: 0, last: true, checksum: String::new(), metadata: Default::default(), content };
    let restored = async {
        runner.begin(&guest.op).await?;
        runner.apply(&guest.op, step).await?;
        runner.finish(&guest.op).await?;
        backups.examine(&guest.op, &directory).await.map(drop)
    };
    let restored = restored.await;
    drop(runner);
    backups.clear_scratch(&guest.op, &directory).await?;
    assert!(!directory.exists());
    restored
}

/// An archive, made by `tar`, of a directory with these files in it.
async fn archive(guest: &Guest, files: &[(&str, &str)]) -> Vec<u8> {
    let directory = guest.dir.join("archive");
    std::fs::remove_dir_all(&directory).ok();
    for (name, text) in files {
        let path = directory.join("in").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let made = directory.join("made.tar");
    let tar = trove_guestagent::system::command::CommandSpec::new("tar");
    let tar = tar.args(["--format=ustar", "-P", "-cf", made.as_str(), "-C", directory.join("in").as_str(), "."]);
    trove_guestagent::system::command::CommandRunner::run(&SystemCommands, &guest.op, tar).await.unwrap();
    std::fs::read(made).unwrap()
}

fn is_at_work_in(directory: &Utf8Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| std::fs::read_link(entry.path().join("cwd")).ok()).any(|cwd| cwd.starts_with(directory))
}

#[test]
fn what_is_no_backup_of_this_server_is_refused() {
    run(async {
        let guest = shared().await;
        let old = archive(guest, &[("PG_VERSION", "9.6\n"), ("base/1/PG_VERSION", "9.6\n")]).await;
        let none = archive(guest, &[("thesis.odt", "x")]).await;
        let dump =
            b"--\n-- PostgreSQL database cluster dump\n--\n\n\\connect template1\nSELECT 1;\nCREATE TABLE nowhere.t (i int);\n".to_vec();
        for (object, bytes, said) in [
            ("x.tar", old, "is of PostgreSQL 9.6, and this guest's server is PostgreSQL "),
            ("x.tar", none, "there is no data directory in it"),
            ("x.tar", b"-- MariaDB dump\n".repeat(100), "is not an archive"),
            ("x", b"-- MariaDB dump\n".to_vec(), "no dump of pg_dumpall"),
            ("x", dump, "schema \"nowhere\" does not exist"),
        ] {
            let error = restore_bytes(guest, object, bytes).await.unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
            assert!(drill::tells_of_damage(&error) || said.contains("9.6"), "{error}");
        }
        let backups = guest.manager.backups().unwrap();
        // As of an agent that was killed: the server it had started is ended by the next one.
        let directory = guest.dir.join("mnt/.trove-drill/data");
        std::fs::create_dir_all(&directory).unwrap();
        let mut killed = backups.restorer(&guest.op, Some("PgDump"), "x", &RestoreTarget::Scratch(directory.clone())).await.unwrap();
        killed.begin(&guest.op).await.unwrap();
        std::mem::forget(killed);
        assert!(is_at_work_in(&directory));
        backups.clear_scratch(&guest.op, &directory).await.unwrap();
        assert!(!is_at_work_in(&directory) && !directory.exists());
        let target = RestoreTarget::Scratch(Utf8Path::new("/nowhere").to_owned());
        let refused = backups.restorer(&guest.op, Some("InnoBackupEx"), "x.xbstream", &target).await.unwrap_err().to_string();
        assert!(refused.contains("InnoBackupEx"), "{refused}");
    });
}

#[test]
fn tablespaces_outside_are_refused_by_a_base_backup() {
    run(async {
        let guest = shared().await;
        let directory: Utf8PathBuf = guest.dir.join("mnt/outside");
        std::fs::create_dir(&directory).unwrap();
        let postgres = nix::unistd::User::from_name("postgres").unwrap().unwrap();
        nix::unistd::chown(directory.as_std_path(), Some(postgres.uid), Some(postgres.gid)).unwrap();
        guest.rows(&SqlText::new("CREATE TABLESPACE far LOCATION ").literal(directory.as_str())).await;
        let request: BackupRequest = serde_json::from_value(serde_json::json!({"id": ID})).unwrap();
        let runner = backup::runner(&guest.op, guest.manager.backups().unwrap(), &request).await.unwrap();
        let job = BackupJob { id: ID.into(), parent: None, extra_options: Vec::new() };
        let error = runner.start(&guest.op, &job).await.unwrap_err().to_string();
        assert!(error.contains("tablespaces outside of its data directory (far)") && error.contains("PgDump"), "{error}");
    });
}

#[test]
fn a_database_that_dies_in_the_middle_fails_the_backup() {
    run(async {
        let guest = source("killed", None).await;
        // More than fits into a pipe: the tool is in the middle of it.
        guest.rows(&SqlText::new("CREATE TABLE public.big AS SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i")).await;
        let request: BackupRequest = serde_json::from_value(serde_json::json!({"id": ID})).unwrap();
        let job = BackupJob { id: ID.into(), parent: None, extra_options: Vec::new() };
        let password = std::fs::read_to_string(guest.dir.join("state/os_admin.pgpass")).unwrap();
        let password = password.trim().rsplit(':').next().unwrap();
        for strategy in ["PgDump", "PgBaseBackup"] {
            let agent = guest.with(|settings| settings.datastore.backup_strategy = Some(strategy.into()));
            let runner = backup::runner(&guest.op, agent.manager.backups().unwrap(), &request).await.unwrap();
            assert_eq!(runner.name(), strategy);
            let mut stream = runner.start(&guest.op, &job).await.unwrap();
            tokio::io::AsyncReadExt::read_exact(&mut stream.reader, &mut [0; 1024]).await.unwrap();
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let mut arguments = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
            assert!(!arguments.any(|line| String::from_utf8_lossy(&line).contains(password)));
            nix::sys::signal::kill(guest.pid().await, nix::sys::signal::Signal::SIGKILL).unwrap();
            tokio::io::copy(&mut stream.reader, &mut tokio::io::sink()).await.unwrap();
            let error = stream.finish.await.unwrap_err();
            assert!(matches!(error, trove_guestagent::error::Error::Command { .. }), "{strategy}: {error}");
            // The agent starts it again.
            guest.until(ServiceStatus::Running).await;
        }
        guest.remove().await;
    });
}

#[test]
fn half_a_restore_is_never_started_and_prepare_begins_again() {
    run(async {
        let guest = source("half", None).await;
        guest.create_databases(&["old"]).await;
        guest.manager.stop(&guest.op).await.unwrap();
        std::fs::write(guest.dir.join("state/restoring"), "").unwrap();
        let again = guest.agent_again();
        assert!(again.manager.start(&again.op).await.unwrap_err().to_string().contains("half of a restored backup"));
        again.manager.prepare_server(&again.op, &again.request("")).await.unwrap();
        assert_eq!(again.rows(&SqlText::new("SELECT datname FROM pg_database WHERE datname = 'old'")).await, Vec::<Vec<_>>::new());
        again.remove().await;
    });
}
