//! Incremental backups: the log since another one, and chains of them taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8PathBuf;
use tokio::io::AsyncReadExt;
use trove_guestagent::managers::backup;
use trove_guestagent::managers::{DatastoreManager, RestoreTarget};
use trove_guestagent::model::BackupRequest;
use trove_guestagent::strategies::backup::{BackupJob, Parent, RestoreStep};
use trove_guestagent::strategies::storage::byte_stream;
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands};
use trove_guestagent::system::postgresql::SqlText;

use crate::backup::{back_up_as, back_up_upon, beside, hold, restore, source};
use crate::support::{Guest, run};

const IDS: [&str; 4] = [
    "4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f20",
    "4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f21",
    "4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f22",
    "4f0c9f0e-8b7a-4c5e-9d57-1c2b6a6f1f23",
];

async fn write(guest: &Guest, note: &str) {
    let sql = SqlText::new("CREATE TABLE IF NOT EXISTS public.notes (note text); INSERT INTO public.notes VALUES (");
    guest.rows(&sql.literal(note).raw(")")).await;
}

async fn notes(guest: &Guest) -> Vec<String> {
    let rows = guest.rows(&SqlText::new("SELECT note FROM public.notes ORDER BY note")).await;
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

async fn text(guest: &Guest, sql: &'static str) -> String {
    guest.rows(&SqlText::new(sql)).await[0][0].clone().unwrap()
}

/// The server goes on in a new timeline, as after a failover.
async fn change_timeline(guest: &Guest) {
    guest.rows(&SqlText::new("ALTER SYSTEM SET restore_command = 'false'")).await;
    guest.manager.stop(&guest.op).await.unwrap();
    std::fs::write(guest.dir.join("mnt/data/pgdata/recovery.signal"), "").unwrap();
    guest.manager.start(&guest.op).await.unwrap();
    let mut look = tokio::time::interval(std::time::Duration::from_millis(100));
    let promoted = async {
        while text(guest, "SELECT pg_is_in_recovery()::text").await == "true" {
            look.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), promoted).await.unwrap();
}

#[test]
fn a_chain_of_any_depth_comes_back_to_its_end_across_a_change_of_the_timeline() {
    run(async {
        let source = source("chain", None).await;
        write(&source, "1 before the full backup").await;
        let full = back_up_as(&source, IDS[0]).await.unwrap();
        write(&source, "2 before the first incremental").await;
        let first = back_up_upon(&source, IDS[1], Some(&full)).await.unwrap();
        assert_eq!((first.runner.as_str(), first.location.contains(".tar")), ("PgBaseBackupIncremental", true));
        assert_eq!((&first.metadata["parent_location"], &first.metadata["label"]), (&full.location, &IDS[1].to_owned()));
        assert_eq!(first.metadata["start_segment"], full.metadata["stop_segment"]);
        write(&source, "3 before the second incremental").await;
        let second = back_up_upon(&source, IDS[2], Some(&first)).await.unwrap();
        change_timeline(&source).await;
        write(&source, "4 in another timeline").await;
        let third = back_up_upon(&source, IDS[3], Some(&second)).await.unwrap();
        assert!(third.metadata["stop_wal_file"].starts_with("00000002"), "{:?}", third.metadata);
        write(&source, "5 after all").await;
        let report = hold(&source, &third).await.unwrap();
        assert_eq!((report.backups, report.found.problems.as_slice()), (4, &[][..]), "{report:?}");
        for (finished, kind, count) in [(&third, "PgBaseBackupIncremental", 4), (&first, "incremental", 2)] {
            let target = beside("chained", &source);
            restore(&target, finished, kind).await.unwrap();
            assert_eq!(notes(&target).await, notes(&source).await[..count], "{kind}");
            // An ordinary server, with nothing of the recovery in it.
            assert_eq!(text(&target, "SELECT pg_is_in_recovery()::text").await, "false");
            assert_eq!(
                (target.parameter("restore_command").await, target.parameter("recovery_target_lsn").await),
                (String::new(), String::new())
            );
            // Nothing of its log is kept for the source's backups: they are no parents here.
            let refused = back_up_upon(&target, IDS[0], Some(&third)).await.unwrap_err().to_string();
            assert!(refused.contains("Make a full backup") || refused.contains("make a full backup"), "{refused}");
            target.remove().await;
        }
        source.remove().await;
    });
}

#[test]
fn what_is_kept_of_the_log_is_bounded_and_a_gap_is_told() {
    run(async {
        let source = source("kept", None).await;
        let base = source.base("max_slot_wal_keep_size = 32MB\n");
        source.manager.reset_configuration(&source.op, &base).await.unwrap();
        source.rows(&SqlText::new("SELECT pg_reload_conf()")).await;
        write(&source, "1").await;
        let full = back_up_as(&source, IDS[0]).await.unwrap();
        write(&source, "2").await;
        let first = back_up_upon(&source, IDS[1], Some(&full)).await.unwrap();
        // What came before it was let go.
        let refused = back_up_upon(&source, IDS[2], Some(&full)).await.unwrap_err().to_string();
        assert!(refused.contains("only what a later backup needs is kept"), "{refused}");
        // A full backup that could not be stored has taken nothing from the chain.
        let request: BackupRequest = serde_json::from_value(serde_json::json!({"id": IDS[2]})).unwrap();
        let runner = backup::runner(&source.op, source.manager.backups().unwrap(), &request).await.unwrap();
        let job = BackupJob { id: IDS[2].into(), parent: None, extra_options: Vec::new() };
        let mut stream = runner.start(&source.op, &job).await.unwrap();
        tokio::io::copy(&mut stream.reader, &mut tokio::io::sink()).await.unwrap();
        stream.finish.await.unwrap();
        let second = back_up_upon(&source, IDS[2], Some(&first)).await.unwrap();
        // More than the bound is written.
        for _ in 0..6 {
            write(&source, "3").await;
            source.rows(&SqlText::new("SELECT pg_switch_wal()")).await;
        }
        source.rows(&SqlText::new("CHECKPOINT")).await;
        let refused = back_up_upon(&source, IDS[3], Some(&second)).await.unwrap_err().to_string();
        assert!(refused.contains("max_slot_wal_keep_size (32MB)") && refused.contains("Make a full backup"), "{refused}");
        let sql = SqlText::new("SELECT name FROM pg_ls_waldir() WHERE name = ").literal(&second.metadata["stop_wal_file"]);
        assert_eq!(source.rows(&sql).await, Vec::<Vec<_>>::new(), "the server has dropped what is beyond the bound");
        // A full one begins a new chain.
        let full = back_up_as(&source, IDS[3]).await.unwrap();
        write(&source, "4").await;
        back_up_upon(&source, IDS[0], Some(&full)).await.unwrap();
        source.remove().await;
    });
}

#[test]
fn a_volume_bounds_the_kept_log_unless_somebody_has_said_how_much() {
    run(async {
        let guest = crate::support::shared().await;
        let bound: u64 = text(guest, "SELECT pg_size_bytes(current_setting('max_slot_wal_keep_size'))::text").await.parse().unwrap();
        let stats = trove_guestagent::volume::filesystem_stats(&guest.dir.join("mnt")).unwrap();
        assert_eq!(bound >> 20, (stats.size() / 5) >> 20);
    });
}

type Made = (Vec<u8>, trove_guestagent::model::BackupMetadata);

async fn bytes(guest: &Guest, id: &str, parent: Option<&Made>) -> Made {
    let incremental = parent.is_some();
    let runner = guest.manager.backups().unwrap().runner(&guest.op, incremental).await.unwrap();
    let parent = parent.map(|(_, metadata)| Parent { location: "l".into(), checksum: "c".into(), metadata: metadata.clone() });
    let mut stream = runner.start(&guest.op, &BackupJob { id: id.into(), parent, extra_options: Vec::new() }).await.unwrap();
    let mut bytes = Vec::new();
    stream.reader.read_to_end(&mut bytes).await.unwrap();
    (bytes, stream.finish.await.unwrap())
}

/// What becomes of a base backup and a log upon it.
async fn put_together(guest: &Guest, base: &Made, log: &Made) -> trove_guestagent::Result<()> {
    let directory: Utf8PathBuf = guest.dir.join("mnt/.trove-drill/data");
    std::fs::create_dir_all(&directory).unwrap();
    let backups = guest.manager.backups().unwrap();
    let mut runner = backups.restorer(&guest.op, Some("incremental"), "x.tar", &RestoreTarget::Scratch(directory.clone())).await?;
    let restored = async {
        runner.begin(&guest.op).await?;
        for (index, (bytes, metadata)) in [base, log].into_iter().enumerate() {
            let (sender, content) = byte_stream(1);
            let bytes = bytes.clone();
            tokio::spawn(async move { sender.send(Ok(bytes.into())).await.is_ok() });
            let step = RestoreStep { index, last: index == 1, checksum: String::new(), metadata: metadata.clone(), content };
            runner.apply(&guest.op, step).await?;
        }
        runner.finish(&guest.op).await?;
        backups.examine(&guest.op, &directory).await.map(drop)
    };
    let restored = restored.await;
    drop(runner);
    backups.clear_scratch(&guest.op, &directory).await?;
    restored
}

/// The files of an archive, changed, as an archive.
async fn repacked(guest: &Guest, bytes: &[u8], change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Vec<u8> {
    let directory = guest.dir.join("repacked");
    std::fs::create_dir_all(directory.join("in")).unwrap();
    std::fs::write(directory.join("a.tar"), bytes).unwrap();
    let tar = |args: Vec<String>| async move {
        let commands = Arc::new(SystemCommands);
        commands.run(&guest.op, CommandSpec::new("tar").args(args)).await.unwrap();
    };
    tar(vec!["-xf".into(), directory.join("a.tar").into(), "-C".into(), directory.join("in").into()]).await;
    let mut files: BTreeMap<String, Vec<u8>> = directory
        .join("in")
        .read_dir_utf8()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_owned(), std::fs::read(entry.path()).unwrap()))
        .collect();
    change(&mut files);
    std::fs::remove_dir_all(directory.join("in")).unwrap();
    std::fs::create_dir(directory.join("in")).unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(directory.join("in").join(name), bytes).unwrap());
    let names = files.into_keys();
    let args = ["-cf".to_owned(), directory.join("b.tar").into(), "-C".into(), directory.join("in").into()];
    tar(args.into_iter().chain(names).collect()).await;
    let made = std::fs::read(directory.join("b.tar")).unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    made
}

#[test]
fn a_missing_segment_is_named_and_a_damaged_one_ends_the_restore() {
    run(async {
        let guest = source("pieces", None).await;
        let base = bytes(&guest, IDS[0], None).await;
        write(&guest, "x").await;
        guest.rows(&SqlText::new("SELECT pg_switch_wal()")).await;
        write(&guest, "y").await;
        let log = bytes(&guest, IDS[1], Some(&base)).await;
        put_together(&guest, &base, &log).await.unwrap();
        let mut taken = String::new();
        // The base backup has the first one itself.
        let gap = repacked(&guest, &log.0, |files| {
            let second = files.keys().nth(1).unwrap().clone();
            files.remove(&second);
            taken = second;
        });
        let gap = gap.await;
        let error = put_together(&guest, &base, &(gap, log.1.clone())).await.unwrap_err().to_string();
        assert!(error.contains(&taken) && error.contains("is missing, or not whole"), "{error}");
        let damaged = repacked(&guest, &log.0, |files| files.values_mut().for_each(|bytes| bytes[4096..8192].fill(0xa5)));
        let error = put_together(&guest, &base, &(damaged.await, log.1.clone())).await.unwrap_err();
        assert!(error.to_string().contains("recovery ended before configured recovery target was reached"), "{error}");
        assert!(trove_guestagent::managers::drill::tells_of_damage(&error), "{error}");
        let strange = repacked(&guest, &log.0, |files| {
            files.insert("pg_hba.conf".into(), b"local all all trust".to_vec());
        });
        let error = put_together(&guest, &base, &(strange.await, log.1)).await.unwrap_err().to_string();
        assert!(error.contains("is no file of the server's log"), "{error}");
        guest.remove().await;
    });
}
