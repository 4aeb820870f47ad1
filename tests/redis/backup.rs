//! Backups made while the server serves, and taken back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use trove_guestagent::managers::backup::{self, BackupEnv, Finished};
use trove_guestagent::managers::drill::Drill;
use trove_guestagent::managers::prepare::{self, PrepareEnv};
use trove_guestagent::managers::{DatastoreManager, RootAccess};
use trove_guestagent::model::{BackupRequest, PrepareRequest, Release, RestoreRequest};
use trove_guestagent::strategies::storage::{Storage, StorageRequest, storage_for};
use trove_guestagent::system::command::SystemCommands;

use crate::support::{Guest, logged, run};

const ID: &str = "4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f10";

async fn storage(guest: &Guest) -> Arc<dyn Storage> {
    let request = StorageRequest { swift_url: None, storage_driver: None, release: Some(Release::Train) };
    storage_for(&guest.op, &guest.settings, &request).await.unwrap()
}

async fn back_up(guest: &Guest) -> trove_guestagent::Result<Finished> {
    let request: BackupRequest = serde_json::from_value(serde_json::json!({"id": ID})).unwrap();
    let backups = guest.manager.backups().unwrap();
    let runner = backup::runner(&guest.op, backups, &request).await?;
    assert_eq!(backup::type_word(Release::Train, runner.name(), false), "RedisBackup");
    let env = BackupEnv {
        settings: guest.settings.clone(),
        storage: storage(guest).await,
        release: Release::Train,
        mount_point: guest.manager.mount_point(),
    };
    env.create(&guest.op, backups, &*runner, &request).await
}

/// `prepare` of another guest from this backup, as the dispatcher runs it.
async fn restore(target: &Guest, source: &Guest, finished: &Finished, extra: &str) -> trove_guestagent::Result<()> {
    let request: PrepareRequest = serde_json::from_value(serde_json::json!({
        "config_contents": target.base(extra),
        "backup_info": {"id": ID, "location": finished.location, "checksum": finished.checksum, "type": "RedisBackup"},
    }))
    .unwrap();
    assert_eq!(target.settings.storage.local_dir, source.settings.storage.local_dir);
    let env = PrepareEnv {
        settings: target.settings.clone(),
        commands: Arc::new(SystemCommands),
        packages: Arc::new(crate::support::NoPackages),
    };
    prepare::run(&target.op, &target.manager, &env, &request).await.map(drop)
}

fn beside(name: &str, source: &Guest) -> Guest {
    let directory = source.settings.storage.local_dir.clone();
    Guest::new(name, |settings| settings.storage.local_dir = directory)
}

/// Data of every kind, in two databases.
async fn fill(guest: &Guest) {
    let script = "for i = 1, 20000 do redis.call('SET', 'key:' .. i, string.rep(i, 20)) end \
                  redis.call('HSET', 'h', 'a', '1', 'b', '2') redis.call('ZADD', 'z', 1.5, 'x') redis.call('XADD', 's', '*', 'f', 'v') \
                  redis.call('RPUSH', 'l', 'a', 'b') redis.call('SADD', 'u', 'Zürich') redis.call('SELECT', 3) redis.call('SET', 'third', 'yes') return 1";
    guest.as_user(None, &["EVAL", script, "0"]).await.unwrap();
    guest.ask(&["SET", "lasting", "x", "EX", "100000"]).await;
}

async fn digest(guest: &Guest) -> String {
    guest.ask(&["DEBUG", "DIGEST"]).await
}

#[test]
fn a_backup_is_made_under_load_and_comes_back_with_and_without_an_append_only_file() {
    run(async {
        let source = Guest::prepared("source", "enable-debug-command yes\n").await;
        fill(&source).await;
        let wanted = digest(&source).await;
        let saved = source.ask(&["LASTSAVE"]).await;
        let finished = back_up(&source).await.unwrap();
        assert!(finished.metadata["content_size"].parse::<u64>().unwrap() > 100_000);
        // Nothing was written to the server's disk.
        assert!(source.ask(&["LASTSAVE"]).await == saved && !source.dir.join("volume/dump.rdb").exists());
        for (name, extra) in [("plain", "enable-debug-command yes\n"), ("aof", "enable-debug-command yes\nappendonly yes\n")] {
            let target = beside(name, &source);
            restore(&target, &source, &finished, extra).await.unwrap();
            assert_eq!(digest(&target).await, wanted, "{name}");
            assert_eq!(target.dir.join("volume/appendonlydir").is_dir(), name == "aof");
            // It is on disk, and stays.
            target.ask(&["SET", "after", "1"]).await;
            if name == "plain" {
                target.ask(&["SAVE"]).await;
            }
            let changed = digest(&target).await;
            target.manager.stop(&target.op).await.unwrap();
            target.manager.start(&target.op).await.unwrap();
            assert_eq!(digest(&target).await, changed, "{name}");
            assert!(!target.dir.join("state/restoring").exists());
            target.remove().await;
        }
        source.remove().await;
    });
}

#[test]
fn nobody_waits_while_a_backup_is_made() {
    run(async {
        let source = Guest::prepared("load", "maxmemory 1gb\n").await;
        source.as_user(None, &["EVAL", "for i = 1, 200000 do redis.call('SET', i, string.rep(i, 40)) end", "0"]).await.unwrap();
        let mut user = source.user(None).await.unwrap();
        let done = tokio_util::sync::CancellationToken::new();
        let ended = done.clone();
        let client = tokio::spawn(async move {
            let (mut count, mut longest) = (0_u64, Duration::ZERO);
            while !ended.is_cancelled() {
                let began = Instant::now();
                redis::cmd("INCR").arg("counter").query_async::<u64>(&mut user).await.unwrap();
                longest = longest.max(began.elapsed());
                count += 1;
            }
            (count, longest)
        });
        let finished = back_up(&source).await.unwrap();
        done.cancel();
        let (count, longest) = client.await.unwrap();
        tracing::info!(count, ?longest, "writes during the backup");
        // What is stored is what was there at one moment: some of the writes, and the server has all of them.
        assert!(count > 1 && source.ask(&["GET", "counter"]).await == count.to_string());
        // The server's one blocking answer would be SAVE: it has done none.
        assert_eq!(source.ask(&["INFO", "commandstats"]).await.matches("cmdstat_save:").count(), 0);
        let target = beside("loaded", &source);
        restore(&target, &source, &finished, "maxmemory 1gb\n").await.unwrap();
        assert!(target.ask(&["GET", "200000"]).await.starts_with("200000200000"));
        target.remove().await;
        source.remove().await;
    });
}

#[test]
fn a_password_is_no_obstacle_and_is_not_in_the_backup() {
    run(async {
        let source = Guest::prepared("secret", "").await;
        source.ask(&["SET", "x", "1"]).await;
        source.manager.root().unwrap().enable(&source.op, Some("planted-backup".into())).await.unwrap();
        let finished = back_up(&source).await.unwrap();
        let target = beside("open", &source);
        restore(&target, &source, &finished, "").await.unwrap();
        assert_eq!(target.ask(&["GET", "x"]).await, "1");
        assert!(!RootAccess::is_enabled(target.manager.root().unwrap(), &target.op).await.unwrap());
        assert!(!logged().contains("planted-backup"));
        target.remove().await;
        source.remove().await;
    });
}

async fn drill(guest: &Guest, finished: &Finished) -> trove_guestagent::Result<trove_guestagent::managers::drill::Report> {
    let (settings, room) = (&guest.settings.backup, guest.dir.join("volume"));
    let drill = Drill { settings, storage: storage(guest).await, state_dir: &guest.settings.state_dir, room: &room };
    let request = RestoreRequest::of(finished.location.clone(), None, Some("RedisBackup".into()));
    drill.hold(&guest.op, guest.manager.backups().unwrap(), &request).await
}

#[test]
fn a_drill_loads_the_backup_beside_the_server_and_finds_damage() {
    run(async {
        let source = Guest::prepared("drill", "").await;
        fill(&source).await;
        let finished = back_up(&source).await.unwrap();
        let report = drill(&source, &finished).await.unwrap();
        assert_eq!(
            (report.found.items.name, report.found.items.count, report.found.databases, report.backups),
            ("keys", 20_007, 2, 1),
            "{report:?}"
        );
        assert!(report.found.server.starts_with(source.product), "{report:?}");
        assert!(!source.dir.join("volume/.trove-drill").exists());
        assert_eq!(source.ask(&["GET", "key:7"]).await, "7".repeat(20));
        // An RDB file with one bit turned, stored as if it were good.
        source.ask(&["SAVE"]).await;
        let bytes = std::fs::read(source.dir.join("volume/dump.rdb")).unwrap();
        let quarter = bytes.len() / 4;
        let turned = [quarter, 2 * quarter, 3 * quarter].map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            bytes
        });
        // And half of one that has no checksum: the server finds out.
        let half = [&bytes[..2 * quarter], &[0; 8]].concat();
        for damaged in turned.into_iter().chain([half]) {
            let error = restore_bytes(&source, damaged).await.unwrap_err();
            assert!(trove_guestagent::managers::drill::tells_of_damage(&error), "{error}");
        }
        assert!(restore_bytes(&source, b"-- a dump of MariaDB\n".to_vec()).await.unwrap_err().to_string().contains("not an RDB file"));
        source.remove().await;
    });
}

/// What restore and examination make of these bytes.
async fn restore_bytes(guest: &Guest, bytes: Vec<u8>) -> trove_guestagent::Result<()> {
    use trove_guestagent::managers::RestoreTarget;
    use trove_guestagent::strategies::backup::RestoreStep;
    use trove_guestagent::strategies::storage::byte_stream;
    let directory = guest.dir.join("volume/.trove-drill/data");
    std::fs::create_dir_all(&directory).unwrap();
    let backups = guest.manager.backups().unwrap();
    let mut runner = backups.restorer(&guest.op, None, "object", &RestoreTarget::Scratch(directory.clone())).await?;
    let (sender, content) = byte_stream(1);
    tokio::spawn(async move { sender.send(Ok(bytes.into())).await.is_ok() });
    let step = RestoreStep { index: 0, last: true, checksum: String::new(), metadata: Default::default(), content };
    runner.begin(&guest.op).await?;
    let restored = async {
        runner.apply(&guest.op, step).await?;
        runner.finish(&guest.op).await?;
        backups.examine(&guest.op, &directory).await.map(drop)
    };
    let restored = restored.await;
    backups.clear_scratch(&guest.op, &directory).await?;
    restored
}

#[test]
fn half_a_restore_is_never_started_and_prepare_begins_again() {
    run(async {
        let guest = Guest::prepared("half", "").await;
        guest.ask(&["SET", "x", "1"]).await;
        guest.ask(&["SAVE"]).await;
        guest.manager.stop(&guest.op).await.unwrap();
        std::fs::write(guest.dir.join("state/restoring"), "").unwrap();
        let again = guest.agent_again();
        assert!(again.manager.start(&again.op).await.unwrap_err().to_string().contains("half of a restored backup"));
        again.manager.prepare_server(&again.op, &again.request("")).await.unwrap();
        assert_eq!(again.ask(&["DBSIZE"]).await, "0");
        again.remove().await;
    });
}

#[test]
fn other_datastores_backups_and_incremental_ones_are_refused() {
    run(async {
        let guest = Guest::prepared("other", "").await;
        let request: BackupRequest = serde_json::from_value(serde_json::json!({"id": ID, "parent": {"location": "l"}})).unwrap();
        let error = backup::runner(&guest.op, guest.manager.backups().unwrap(), &request).await.unwrap_err().to_string();
        assert!(error.contains("no incremental backups"), "{error}");
        let target = trove_guestagent::managers::RestoreTarget::Scratch(Utf8Path::new("/nowhere").to_owned());
        let refused = guest.manager.backups().unwrap().restorer(&guest.op, Some("InnoBackupEx"), "x.xbstream", &target).await;
        assert!(refused.unwrap_err().to_string().contains("InnoBackupEx"));
        guest.remove().await;
    });
}
