//! The tools themselves on real servers: what one guest's tool writes, another guest's takes back.

use tokio::io::AsyncReadExt;
use trove_guestagent::error::Result;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::managers::{DatastoreManager, RestoreTarget};
use trove_guestagent::model::{BackupMetadata, PrepareRequest};
use trove_guestagent::strategies::backup::{BackupJob, Parent, RestoreStep};
use trove_guestagent::strategies::storage::{ByteStream, byte_stream};

use crate::support::{BASE, Guest, Root, logged, request, run, with_both};

/// What a tool wrote, and what is to be kept with it.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) content: Vec<u8>,
    pub(crate) metadata: BackupMetadata,
    pub(crate) object: String,
}

pub(crate) async fn take(guest: &Guest, parent: Option<&Taken>) -> Result<Taken> {
    let runner = guest.manager.backups().unwrap().runner(&guest.op, parent.is_some()).await?;
    let parent = parent.map(|taken| Parent { location: "http://s/c/o".into(), checksum: "0".into(), metadata: taken.metadata.clone() });
    let job = BackupJob { id: "b".into(), parent, extra_options: Vec::new() };
    let mut stream = runner.start(&guest.op, &job).await?;
    let mut content = Vec::new();
    stream.reader.read_to_end(&mut content).await.unwrap();
    Ok(Taken { content, metadata: stream.finish.await?, object: format!("b{}.gz", runner.extension()) })
}

fn stream(content: Vec<u8>) -> ByteStream {
    let (sender, stream) = byte_stream(4);
    tokio::spawn(async move {
        for piece in content.chunks(64 << 10) {
            if sender.send(Ok(bytes::Bytes::copy_from_slice(piece))).await.is_err() {
                break;
            }
        }
    });
    stream
}

pub(crate) async fn give_back(guest: &Guest, chain: &[&Taken], target: &RestoreTarget) -> Result<()> {
    let object = &chain[0].object;
    let mut runner = guest.manager.backups().unwrap().restorer(&guest.op, None, object, target).await?;
    runner.begin(&guest.op).await?;
    for (index, taken) in chain.iter().enumerate() {
        let content = stream(taken.content.clone());
        let metadata = taken.metadata.clone();
        runner
            .apply(&guest.op, RestoreStep { index, last: index + 1 == chain.len(), checksum: index.to_string(), metadata, content })
            .await?;
    }
    runner.finish(&guest.op).await
}

/// A `prepare` that restores.
pub(crate) fn restoring(contents: &str) -> PrepareRequest {
    let backup = serde_json::json!({"location": "http://s/c/o"});
    serde_json::from_value(serde_json::json!({"config_contents": contents, "backup_info": backup})).unwrap()
}

pub(crate) async fn prepared(root: Root, name: &str, strategy: Option<&str>) -> Guest {
    let guest = Guest::new(root, name, |settings| settings.datastore.backup_strategy = strategy.map(str::to_owned));
    guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
    guest
}

/// A database of a user: a table with awkward bytes, a routine, a trigger, accounts.
pub(crate) async fn fill(guest: &Guest) {
    for sql in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (i INT PRIMARY KEY, b LONGBLOB, u VARCHAR(20) CHARACTER SET utf8mb4)",
        "INSERT INTO shop.t VALUES (1, x'000d0a1a5c2722', '\u{1d11e}'), (2, REPEAT(x'00', 1000000), 'x')",
        "CREATE PROCEDURE shop.p() SELECT 1",
        "CREATE TRIGGER shop.g BEFORE INSERT ON shop.t FOR EACH ROW SET NEW.i = NEW.i + 1000",
        "CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DO DELETE FROM shop.t WHERE i = -1",
        "CREATE USER 'owner'@'%' IDENTIFIED BY 'Owner-Pw-1'",
        "GRANT ALL PRIVILEGES ON shop.* TO 'owner'@'%'",
    ] {
        guest.sql(SqlText::new(sql)).await;
    }
    guest.manager.root().unwrap().enable(&guest.op, Some("Root-Pw-1".into())).await.unwrap();
}

pub(crate) async fn digest(guest: &Guest) -> Vec<Option<String>> {
    let rows = "SELECT CONCAT_WS(' ', i, SHA2(b, 256), HEX(u)) FROM shop.t ORDER BY i";
    let mut found = guest.column(SqlText::new(rows)).await;
    found.extend(guest.column(SqlText::new("SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'shop'")).await);
    found.extend(guest.column(SqlText::new("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop'")).await);
    found.extend(guest.column(SqlText::new("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'shop'")).await);
    let root = "SELECT authentication_string FROM mysql.user WHERE User = 'root' AND Host = '%'";
    found.extend(guest.column(SqlText::new(root)).await);
    found
}

/// The accounts are those of the backup, and the agent's is this guest's own.
pub(crate) async fn assert_accounts(guest: &Guest) {
    guest.sql_as("owner", "Owner-Pw-1", SqlText::new("SELECT COUNT(*) FROM shop.t")).await.unwrap();
    assert!(guest.manager.root().unwrap().is_enabled(&guest.op).await.unwrap(), "root@% is as it was in the backup");
    let accounts = guest.column(SqlText::new("SELECT Host FROM mysql.user WHERE User = 'os_admin'")).await;
    assert_eq!(accounts, [Some("localhost".to_owned())]);
}

fn assert_discreet(source: &Guest) {
    let admin = std::fs::read_to_string(source.dir.join("state/os_admin.cnf")).unwrap();
    let password = admin.lines().find_map(|line| line.strip_prefix("password = ")).unwrap().to_owned();
    assert!(!logged().contains(&password), "the log shows os_admin's password");
}

fn assert_tidy(target: &Guest) {
    for leftover in [".trove-restore", "data/.trove-private.err", "data/.trove-private.pid"] {
        assert!(!target.dir.join("volume").join(leftover).exists(), "{leftover}");
    }
}

async fn restored_elsewhere(source: Guest, chain: &[&Taken], before: Vec<Option<String>>) {
    let target = Guest::new(source.root, "target", |_| ());
    target.manager.prepare_server(&target.op, &request(BASE)).await.unwrap();
    target.sql(SqlText::new("CREATE DATABASE of_before")).await;
    let old = std::fs::read_to_string(target.dir.join("state/os_admin.cnf")).unwrap();
    target.manager.configure(&target.op, &restoring(BASE)).await.unwrap();
    give_back(&target, chain, &RestoreTarget::Instance).await.unwrap();
    target.manager.prepare_server(&target.op, &restoring(BASE)).await.unwrap();
    assert_eq!(digest(&target).await, before);
    assert_eq!(target.column(SqlText::new("SHOW DATABASES LIKE 'of_before'")).await, []);
    assert_accounts(&target).await;
    assert!(std::fs::read_to_string(target.dir.join("state/os_admin.cnf")).unwrap() != old);
    assert_discreet(&source);
    assert_tidy(&target);
    source.remove().await;
    target.remove().await;
}

#[test]
fn a_dump_of_every_flavor_restores_with_its_accounts() {
    with_both(|root| async move {
        let source = prepared(root, "dumped", Some("MySQLDump")).await;
        fill(&source).await;
        let before = digest(&source).await;
        let taken = take(&source, None).await.unwrap();
        restored_elsewhere(source, &[&taken], before).await;
    });
}

#[test]
fn a_chain_of_three_hot_backups_restores() {
    run(async {
        let source = prepared(Root::MariaDb, "hot", None).await;
        fill(&source).await;
        let full = take(&source, None).await.unwrap();
        source.sql(SqlText::new("INSERT INTO shop.t VALUES (3, 'second', 'y')")).await;
        let second = take(&source, Some(&full)).await.unwrap();
        source.sql(SqlText::new("CREATE TABLE shop.later (i INT) SELECT 7 AS i")).await;
        source.sql(SqlText::new("DELETE FROM shop.t WHERE i = 2")).await;
        let third = take(&source, Some(&second)).await.unwrap();
        assert!(third.content.len() < full.content.len());
        assert_eq!(third.metadata["parent_location"], "http://s/c/o");
        let before = digest(&source).await;
        restored_elsewhere(source, &[&full, &second, &third], before).await;
    });
}

#[test]
fn without_xtrabackup_the_default_is_a_dump_and_an_explicit_wish_an_error() {
    run(async {
        let guest = Guest::shared(Root::MySql).await;
        let backups = guest.manager.backups().unwrap();
        assert_eq!(backups.runner(&guest.op, false).await.unwrap().name(), "MySQLDump");
        let incremental = backups.runner(&guest.op, true).await.unwrap_err().to_string();
        assert!(incremental.contains("percona-xtrabackup"), "{incremental}");
        let wanted = Guest::new(Root::MySql, "wanted", |settings| settings.datastore.backup_strategy = Some("InnoBackupEx".into()));
        let error = wanted.manager.backups().unwrap().runner(&wanted.op, false).await.unwrap_err().to_string();
        assert!(error.contains("backup_strategy = InnoBackupEx") && error.contains("percona-xtrabackup"), "{error}");
        std::fs::remove_dir_all(&wanted.dir).unwrap();
    });
}

#[test]
fn a_dump_of_a_source_with_gtids_brings_them_along_and_restores_twice() {
    run(async {
        let base = BASE.replace("server_id = 1234", "server_id = 1234\ngtid_mode = ON\nenforce_gtid_consistency = ON\nlog_bin = binlog");
        let source = Guest::new(Root::MySql, "gtids", |_| ());
        source.manager.prepare_server(&source.op, &request(&base)).await.unwrap();
        fill(&source).await;
        let before = digest(&source).await;
        let executed = source.column(SqlText::new("SELECT REPLACE(@@gtid_executed, '\n', '')")).await;
        let taken = take(&source, None).await.unwrap();
        assert!(taken.metadata["binlog_file"].starts_with("binlog."), "{:?}", taken.metadata);
        let target = Guest::new(Root::MySql, "gtid-target", |_| ());
        for _ in 0..2 {
            target.manager.configure(&target.op, &restoring(&base)).await.unwrap();
            give_back(&target, &[&taken], &RestoreTarget::Instance).await.unwrap();
            target.manager.prepare_server(&target.op, &restoring(&base)).await.unwrap();
            assert_eq!(digest(&target).await, before);
            let purged = target.column(SqlText::new("SELECT REPLACE(@@gtid_executed, '\n', '')")).await;
            assert!(purged[0].as_deref().unwrap().contains(executed[0].as_deref().unwrap()), "{purged:?}");
        }
        source.remove().await;
        target.remove().await;
    });
}

#[test]
fn hot_backups_restore_to_a_scratch_directory_beside_the_running_server() {
    run(async {
        let guest = prepared(Root::MariaDb, "scratch", None).await;
        fill(&guest).await;
        let taken = take(&guest, None).await.unwrap();
        let scratch = guest.dir.join("drill");
        give_back(&guest, &[&taken], &RestoreTarget::Scratch(scratch.clone())).await.unwrap();
        assert!(scratch.join("shop/t.ibd").exists() && scratch.join("mysql").is_dir());
        // The instance itself has noticed nothing.
        guest.sql(SqlText::new("INSERT INTO shop.t VALUES (9, 'x', 'y')")).await;
        assert!(!guest.dir.join("state/restoring").exists());
        guest.remove().await;
    });
}
