//! Restore drills on real servers: of sound backups, and of damaged ones.

use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use camino::Utf8PathBuf;
use trove_guestagent::error::Result;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::backup::{self, BackupEnv, Finished};
use trove_guestagent::managers::drill::{Drill, Report};
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::model::{ParentBackup, Release, RestoreRequest};
use trove_guestagent::strategies::storage::{Storage, StorageRequest, storage_for};

use crate::backup_tools::fill;
use crate::support::{BASE, Guest, Root, request, run, with_both};

async fn prepared(root: Root, name: &str) -> Guest {
    drilled(root, name, false).await
}

/// With `backup_drill`, or without.
async fn drilled(root: Root, name: &str, drill: bool) -> Guest {
    let guest = Guest::new(root, name, |settings| {
        settings.backup.drill = drill;
        settings.backup.storage_strategy = "local".into();
        settings.storage.local_dir = Some(settings.state_dir.with_file_name("backups"));
    });
    guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
    guest
}

async fn storage(guest: &Guest) -> Arc<dyn Storage> {
    storage_for(&guest.op, &guest.settings, &StorageRequest::default()).await.unwrap()
}

async fn try_back_up(guest: &Guest, id: &str, parent: Option<&Finished>) -> Result<Finished> {
    let parent = parent.map(|parent| ParentBackup { location: parent.location.clone(), checksum: Some(parent.checksum.clone()) });
    let mut wanted: trove_guestagent::model::BackupRequest = serde_json::from_value(serde_json::json!({"id": id})).unwrap();
    wanted.parent = parent;
    let runner = backup::runner(&guest.op, guest.manager.backups().unwrap(), &wanted).await.unwrap();
    let (settings, storage) = (guest.settings.clone(), storage(guest).await);
    let env = BackupEnv { settings, storage, release: Release::Gazpacho, mount_point: guest.dir.join("volume") };
    env.create(&guest.op, guest.manager.backups().unwrap(), &*runner, &wanted).await
}

async fn back_up(guest: &Guest, id: &str, parent: Option<&Finished>) -> Finished {
    try_back_up(guest, id, parent).await.unwrap()
}

async fn hold(guest: &Guest, finished: &Finished) -> Result<Report> {
    let room = guest.dir.clone();
    let drill =
        Drill { settings: &guest.settings.backup, storage: storage(guest).await, state_dir: &guest.settings.state_dir, room: &room };
    let wanted = RestoreRequest::of(finished.location.clone(), Some(finished.checksum.clone()), None);
    let report = drill.hold(&guest.op, guest.manager.backups().unwrap(), &wanted).await;
    assert!(!room.join(".trove-drill").exists(), "a drill leaves nothing");
    report
}

/// Files of the local storage.
fn stored_files(guest: &Guest) -> Vec<Utf8PathBuf> {
    let (mut pending, mut found) = (vec![guest.dir.join("backups")], Vec::new());
    while let Some(directory) = pending.pop() {
        for entry in directory.read_dir_utf8().unwrap().flatten() {
            if entry.path().is_dir() { pending.push(entry.into_path()) } else { found.push(entry.into_path()) }
        }
    }
    found
}

fn stored_names(guest: &Guest) -> Vec<String> {
    stored_files(guest).iter().filter_map(|path| path.file_name()).map(str::to_owned).collect()
}

/// The content of a backup.
fn stored(guest: &Guest, prefix: &str) -> Utf8PathBuf {
    let is_it = |path: &Utf8PathBuf| path.file_name().unwrap().starts_with(prefix) && path.metadata().unwrap().len() > 1000;
    stored_files(guest).into_iter().find(is_it).unwrap()
}

#[test]
fn a_sound_backup_passes_while_the_instance_goes_on() {
    with_both(|root| async move {
        let guest = prepared(root, "drill").await;
        fill(&guest).await;
        let pid = guest.pid().await;
        let finished = back_up(&guest, "b1", None).await;
        let report = hold(&guest, &finished).await.unwrap();
        assert_eq!((report.found.databases, report.found.items.count, report.backups), (1, 1, 1), "{report:?}");
        assert_eq!(report.found.problems, Vec::<String>::new());
        assert!(report.stored > 0);
        assert_eq!(guest.pid().await, pid, "the instance's own server was not touched");
        guest.remove().await;
    });
}

#[test]
fn a_chain_is_restored_whole() {
    run(async {
        let guest = prepared(Root::MariaDb, "drill-chain").await;
        fill(&guest).await;
        let full = back_up(&guest, "b1", None).await;
        guest.sql(SqlText::new("CREATE TABLE shop.later (i INT) SELECT 7 AS i")).await;
        let second = back_up(&guest, "b2", Some(&full)).await;
        let report = hold(&guest, &second).await.unwrap();
        assert_eq!((report.backups, report.found.items.count), (2, 2));
        guest.remove().await;
    });
}

#[test]
fn a_flipped_byte_in_storage_is_found() {
    run(async {
        let guest = prepared(Root::MariaDb, "drill-flip").await;
        fill(&guest).await;
        let finished = back_up(&guest, "b1", None).await;
        let path = stored(&guest, "b1");
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(500)).unwrap();
        file.write_all(b"\xa5\x5a\xa5").unwrap();
        let error = hold(&guest, &finished).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains("md5") || error.contains("checksum"), "{error}");
        guest.remove().await;
    });
}

/// A table whose file was damaged behind the server's back.
async fn break_a_table(guest: &Guest) {
    guest.sql(SqlText::new("CREATE TABLE shop.old (i INT PRIMARY KEY, t VARCHAR(100)) ENGINE=MyISAM")).await;
    guest.sql(SqlText::new("INSERT INTO shop.old SELECT seq, REPEAT('x', 90) FROM shop.seq_1_to_5000")).await;
    guest.sql(SqlText::new("FLUSH TABLES shop.old")).await;
    let path = guest.dir.join("volume/data/shop/old.MYD");
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(20_000)).unwrap();
    file.write_all(&[0xff; 4096]).unwrap();
}

#[test]
fn a_backup_that_is_whole_but_of_a_broken_table_is_damaged() {
    run(async {
        let guest = prepared(Root::MariaDb, "drill-table").await;
        fill(&guest).await;
        break_a_table(&guest).await;
        let finished = back_up(&guest, "b1", None).await;
        let report = hold(&guest, &finished).await.unwrap();
        assert!(report.found.problems.iter().any(|problem| problem.starts_with("shop.old: ")), "{report:?}");
        guest.remove().await;
    });
}

#[test]
fn with_backup_drill_a_damaged_backup_is_none_and_a_sound_one_is() {
    run(async {
        let guest = drilled(Root::MariaDb, "drill-each", true).await;
        fill(&guest).await;
        back_up(&guest, "b1", None).await;
        assert!(!guest.dir.join("volume/.trove-drill").exists());
        break_a_table(&guest).await;
        let error = try_back_up(&guest, "b2", None).await.unwrap_err().to_string();
        assert!(error.contains("it is damaged: shop.old: "), "{error}");
        backup::undo(&guest.op, &guest.settings, &*storage(&guest).await, "b2").await.unwrap();
        let left = stored_names(&guest);
        assert!(left.iter().any(|name| name.starts_with("b1")) && !left.iter().any(|name| name.starts_with("b2")), "{left:?}");
        guest.remove().await;
    });
}
