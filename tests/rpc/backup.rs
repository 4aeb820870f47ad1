//! Backup and restore with a real MariaDB and `mariadb-backup`, into a folder: what the conductor hears, and what is left after each fault.

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use crate::sql::sql;
use crate::support::{Guest, PLANTED, Wire, free_port, until};

/// Segments are small, so that there are some before a backup ends.
fn options(folder: &Utf8Path) -> String {
    format!(
        "storage_strategy=local\nbackup_local_dir={folder}\nbackup_segment_max_size=65536\nbackup_aes_cbc_key={PLANTED}\ncontroller_release=train"
    )
}

fn prepare_args(guest: &Guest, backup: Value) -> Value {
    let config = format!(
        "[mysqld]\nport={}\ninnodb_buffer_pool_size=32M\ninnodb_log_file_size=8M\n!includedir {}/etc/conf.d/\n",
        free_port(),
        guest.dir
    );
    json!({"packages": [], "databases": [], "users": [], "memory_mb": 512, "device_path": null, "mount_point": guest.dir.join("data"),
           "config_contents": config, "overrides": {}, "backup_info": backup})
}

/// A guest that stores into `folder`, and has this prepared.
async fn guest(folder: &Utf8Path) -> (Guest, Wire) {
    let guest = Guest::serving(&options(folder)).await;
    let wire = guest.wire().await;
    (guest, wire)
}

async fn prepare(guest: &Guest, wire: &mut Wire, backup: Value) -> String {
    let more = json!({"_context_tenant": "T", "_context_roles": [], "_context_auth_token": PLANTED});
    wire.cast_with("prepare", prepare_args(guest, backup), more).await;
    // Those of a preparation that failed before may still be on their way.
    while wire.heartbeat().await != "building" {}
    wire.heartbeat().await
}

/// Enough that cannot be compressed for a backup to be caught in the middle.
const BALLAST: &str = "CREATE DATABASE d; CREATE TABLE d.ballast (i INT PRIMARY KEY, b BLOB); \
    INSERT INTO d.ballast SELECT seq, RANDOM_BYTES(1024) FROM mysql.seq_1_to_30000";

pub(crate) async fn cast_backup(wire: &Wire, id: &str, parent: Value) {
    let info = json!({"id": id, "name": "b", "description": null, "instance_id": "i", "backup_type": null, "checksum": null, "parent": parent,
                      "datastore": "mariadb", "datastore_version": "10.11"});
    let more = json!({"_context_tenant": "T", "_context_roles": [], "_context_auth_token": PLANTED});
    wire.cast_with("create_backup", json!({"backup_info": info}), more).await;
}

pub(crate) async fn update(wire: &mut Wire, state: &str) -> Map<String, Value> {
    let cast = wire.cast("update_backup").await;
    assert_eq!(cast["args"]["state"], state, "{cast:?}");
    cast["args"].as_object().unwrap().clone()
}

async fn back_up(wire: &mut Wire, parent: Value) -> Map<String, Value> {
    let id = uuid::Uuid::new_v4().to_string();
    cast_backup(wire, &id, parent).await;
    let building = update(wire, "BUILDING").await;
    let completed = update(wire, "COMPLETED").await;
    assert_eq!((&building["backup_id"], &completed["backup_id"]), (&json!(id), &json!(id)));
    assert!(building["size"].as_f64().unwrap() > 0.0);
    assert!(completed["sent"].as_f64() > building["sent"].as_f64());
    completed
}

pub(crate) fn files(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let Ok(entries) = folder.join("database_backups").read_dir_utf8() else { return Vec::new() };
    entries.map(|entry| entry.unwrap().into_path()).collect()
}

/// Processes of the tool for this guest.
fn tools(guest: &Guest) -> String {
    let found = std::process::Command::new("pgrep").args(["-f", &format!("mariadb-backup.*{}", guest.dir)]).output().unwrap();
    String::from_utf8(found.stdout).unwrap()
}

fn signal_tools(guest: &Guest, signal: Signal) {
    for pid in tools(guest).split_whitespace() {
        kill(Pid::from_raw(pid.parse().unwrap()), signal).unwrap();
    }
}

/// A backup under way that has stopped, with segments stored.
async fn stuck(guest: &Guest, wire: &mut Wire, folder: &Utf8Path) {
    sql(guest, BALLAST);
    cast_backup(wire, &uuid::Uuid::new_v4().to_string(), Value::Null).await;
    update(wire, "BUILDING").await;
    until("segments", async || (files(folder).len() > 1).then_some(())).await;
    signal_tools(guest, Signal::SIGSTOP);
    assert!(!tools(guest).is_empty(), "it was not caught in the middle");
}

async fn assert_failed(guest: &Guest, wire: &mut Wire, folder: &Utf8Path, why: &str) {
    let failed = update(wire, "FAILED").await;
    assert!(failed["note"].as_str().unwrap().contains(why), "{failed:?}");
    assert!(!failed.contains_key("checksum"));
    assert_eq!(files(folder), [] as [Utf8PathBuf; 0]);
    until("the tool's end", async || tools(guest).is_empty().then_some(())).await;
    assert!(!guest.dir.join("state/backup.json").exists());
}

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }
    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.0.path()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_three_restores_into_another_guest_and_two_at_once_follow_each_other() {
    let folder = Folder::new();
    let (source, mut wire) = guest(folder.path()).await;
    assert_eq!(prepare(&source, &mut wire, Value::Null).await, "running");
    sql(
        &source,
        "CREATE DATABASE d; CREATE TABLE d.t (i INT PRIMARY KEY, s TEXT); INSERT INTO d.t SELECT seq, MD5(seq) FROM mysql.seq_1_to_5000",
    );
    let mut parent = Value::Null;
    let mut last = Map::new();
    for turn in 0..3 {
        sql(&source, &format!("INSERT INTO d.t VALUES (-{turn} - 1, 'turn {turn}')"));
        last = back_up(&mut wire, parent).await;
        assert_eq!(last["backup_type"], if turn == 0 { "MariaBackup" } else { "MariaBackupIncremental" });
        assert!(last["location"].as_str().unwrap().ends_with(".xbstream.gz.enc"), "{last:?}");
        parent = json!({"location": last["location"], "checksum": last["checksum"]});
    }
    let wanted = sql(&source, "SELECT COUNT(*), SUM(CRC32(s)) FROM d.t");
    // Both at once: the second waits for its turn.
    let (first, second) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
    cast_backup(&wire, &first, Value::Null).await;
    cast_backup(&wire, &second, Value::Null).await;
    for (id, state) in [(&first, "BUILDING"), (&first, "COMPLETED"), (&second, "BUILDING"), (&second, "COMPLETED")] {
        assert_eq!(update(&mut wire, state).await["backup_id"], id.as_str());
    }

    let (target, mut wire) = guest(folder.path()).await;
    let info = json!({"id": last["backup_id"], "location": last["location"], "type": last["backup_type"], "checksum": last["checksum"]});
    assert_eq!(prepare(&target, &mut wire, info).await, "running", "{}", target.log());
    assert_eq!(sql(&target, "SELECT COUNT(*), SUM(CRC32(s)) FROM d.t"), wanted);
    assert_eq!(sql(&target, "SELECT Host FROM mysql.user WHERE User = 'os_admin'"), "localhost\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_in_the_middle_of_a_backup_it_is_failed_and_nothing_of_it_is_left() {
    let folder = Folder::new();
    let (guest, mut wire) = guest(folder.path()).await;
    assert_eq!(prepare(&guest, &mut wire, Value::Null).await, "running");
    stuck(&guest, &mut wire, folder.path()).await;
    guest.kill();
    guest.start();
    assert_failed(&guest, &mut wire, folder.path(), "restarted in the middle of 'create_backup'").await;
    back_up(&mut wire, Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_fails_a_backup_and_says_so_before_the_end() {
    let folder = Folder::new();
    let (guest, mut wire) = guest(folder.path()).await;
    assert_eq!(prepare(&guest, &mut wire, Value::Null).await, "running");
    stuck(&guest, &mut wire, folder.path()).await;
    guest.terminate();
    assert!(guest.ended().await.success());
    assert_failed(&guest, &mut wire, folder.path(), "restarted in the middle of 'create_backup'").await;
    assert_eq!(guest.journal("started") + guest.journal("ended"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_killed_in_the_middle_of_a_backup_fails_it() {
    let folder = Folder::new();
    let (guest, mut wire) = guest(folder.path()).await;
    assert_eq!(prepare(&guest, &mut wire, Value::Null).await, "running");
    stuck(&guest, &mut wire, folder.path()).await;
    let server: Value = serde_json::from_str(&std::fs::read_to_string(guest.dir.join("state/server.pid")).unwrap()).unwrap();
    kill(Pid::from_raw(i32::try_from(server["pid"].as_i64().unwrap()).unwrap()), Signal::SIGKILL).unwrap();
    signal_tools(&guest, Signal::SIGCONT);
    assert_failed(&guest, &mut wire, folder.path(), "mariadb-backup").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_fails_the_restore_and_the_half_of_it_is_never_started() {
    let folder = Folder::new();
    let (source, mut wire) = guest(folder.path()).await;
    assert_eq!(prepare(&source, &mut wire, Value::Null).await, "running");
    let made = back_up(&mut wire, Value::Null).await;
    let mut segments: Vec<_> = files(folder.path()).into_iter().filter(|path| path.extension() != Some("json")).collect();
    segments.sort();
    let victim = &segments[segments.len() / 2];
    let good = std::fs::read(victim).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    std::fs::write(victim, &bad).unwrap();

    let (target, mut wire) = guest(folder.path()).await;
    let info = json!({"id": made["backup_id"], "location": made["location"], "type": made["backup_type"], "checksum": made["checksum"]});
    assert_eq!(prepare(&target, &mut wire, info.clone()).await, "failed to spawn");
    let restart = wire.call("restart", json!({})).await;
    let (_, text) = wire.failure_of(&restart).await;
    assert!(text.contains("half of a restored backup"), "{text}");
    std::fs::write(victim, &good).unwrap();
    assert_eq!(prepare(&target, &mut wire, info).await, "running", "{}", target.log());
}

/// A file system of its own for the data of a guest.
struct Tiny(Utf8PathBuf);

impl Tiny {
    fn mount(path: Utf8PathBuf, options: &str) -> Tiny {
        std::fs::create_dir_all(&path).unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), path.as_std_path(), Some("tmpfs"), flags, Some(options)).unwrap();
        Tiny(path)
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        nix::mount::umount2(self.0.as_std_path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_restore_in_words() {
    let folder = Folder::new();
    let (source, mut wire) = guest(folder.path()).await;
    assert_eq!(prepare(&source, &mut wire, Value::Null).await, "running");
    let made = back_up(&mut wire, Value::Null).await;
    let info = json!({"id": made["backup_id"], "location": made["location"], "type": made["backup_type"], "checksum": made["checksum"]});

    // Too small by what is known before; and, without files to spare, too small only while it is unpacked.
    for (options, words) in [("size=4m", "there is not enough space"), ("size=900m,nr_inodes=12", "unpack backup 0")] {
        let (target, mut wire) = guest(folder.path()).await;
        let _tiny = Tiny::mount(target.dir.join("data"), options);
        assert_eq!(prepare(&target, &mut wire, info.clone()).await, "failed to spawn");
        target.logged(words, 1).await;
    }
}
