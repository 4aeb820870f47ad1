//! A snapshot of the volume, taken as Cinder does while `pre_create_backup` holds the database still: on loop devices.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trove_guestagent::error::Result;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::managers::{DatastoreManager, VolumeSnapshots};
use trove_guestagent::model::{PrepareRequest, ServiceStatus};
use trove_guestagent::op::Op;
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands};
use trove_guestagent::volume::Freezer;

use crate::support::{BASE, Guest, Root, request, with_both};

async fn tool(argv: &[&str]) -> Result<String> {
    let op = Op::internal(CancellationToken::new());
    let done = SystemCommands.run(&op, CommandSpec::new(argv[0]).args(&argv[1..])).await?;
    Ok(done.stdout.trim().to_owned())
}

/// A file system in a file, mounted as a guest's volume.
struct Disk {
    image: Utf8PathBuf,
    point: Utf8PathBuf,
    device: String,
}

impl Disk {
    async fn mount(image: Utf8PathBuf, point: Utf8PathBuf) -> Disk {
        std::fs::create_dir_all(&point).unwrap();
        let device = tool(&["losetup", "--find", "--show", image.as_str()]).await.unwrap();
        let disk = Disk { image, point, device };
        tool(&["mount", &disk.device, disk.point.as_str()]).await.unwrap();
        disk
    }

    async fn new(guest: &Guest) -> Disk {
        let image = guest.dir.join("disk");
        tool(&["truncate", "--size=1G", image.as_str()]).await.unwrap();
        tool(&["mkfs.ext4", "-q", image.as_str()]).await.unwrap();
        Disk::mount(image, guest.dir.join("volume")).await
    }

    /// What is frozen cannot be frozen.
    async fn is_frozen(&self) -> bool {
        let frozen = tool(&["fsfreeze", "--freeze", self.point.as_str()]).await.is_err();
        if !frozen {
            tool(&["fsfreeze", "--unfreeze", self.point.as_str()]).await.unwrap();
        }
        frozen
    }

    async fn unmount(self) {
        tool(&["umount", self.point.as_str()]).await.unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let (point, device) = (self.point.clone(), self.device.clone());
        // A frozen file system outlives its mount. Drop cannot wait for the runtime it runs in.
        let undo = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tool(&["fsfreeze", "--unfreeze", point.as_str()]).await.ok();
                tool(&["umount", "--lazy", point.as_str()]).await.ok();
                tool(&["losetup", "--detach", &device]).await.ok();
            });
        });
        undo.join().ok();
    }
}

/// A guest with a binary log; `backup` is what its volume was made from.
async fn prepare(guest: &Guest, backup: Value) {
    let base = BASE
        .replace("[mysqld]\nport", "[mysqld]\nlog_bin = mysql-bin\nport")
        .replace("innodb_buffer_pool_size = 300M", "innodb_buffer_pool_size = 32M");
    let request = PrepareRequest { backup_info: serde_json::from_value(backup).unwrap(), ..request(&base) };
    guest.manager.prepare_server(&guest.op, &request).await.unwrap();
}

/// How to follow a source that nobody is, to begin with that, and to look whom it follows.
fn dialect(root: Root) -> (&'static str, &'static str, &'static str) {
    if root.is_mariadb() {
        ("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'nobody'", "START SLAVE", "SHOW SLAVE STATUS")
    } else {
        (
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = 1, SOURCE_USER = 'nobody'",
            "START REPLICA",
            "SHOW REPLICA STATUS",
        )
    }
}

/// What no two servers have in common; MariaDB has no such thing.
async fn uuid(guest: &Guest) -> Option<String> {
    if guest.root.is_mariadb() {
        return None;
    }
    guest.column(SqlText::new("SELECT @@server_uuid")).await.pop().flatten()
}

fn snapshots(guest: &Guest) -> &dyn VolumeSnapshots {
    guest.manager.snapshots().unwrap()
}

async fn numbers(guest: &Guest) -> Vec<Option<String>> {
    guest.column(SqlText::new("SELECT CAST(i AS CHAR) FROM kept.t ORDER BY i")).await
}

async fn insert(guest: &Guest, number: u64) {
    guest.sql(SqlText::new("INSERT INTO kept.t VALUES (").number(number).raw(")")).await;
}

async fn with_a_table(root: Root, name: &str) -> (Guest, Disk) {
    let guest = Guest::new(root, name, |_| ());
    let disk = Disk::new(&guest).await;
    prepare(&guest, Value::Null).await;
    guest.sql(SqlText::new("CREATE DATABASE kept")).await;
    guest.sql(SqlText::new("CREATE TABLE kept.t (i INT PRIMARY KEY) ENGINE=InnoDB")).await;
    insert(&guest, 1).await;
    (guest, disk)
}

async fn remove(guest: Guest, disk: Disk) {
    guest.manager.stop(&guest.op).await.unwrap();
    disk.unmount().await;
    guest.remove().await;
}

/// Another instance, whose volume is the copy: what `prepare` does with a snapshot.
async fn restored(root: Root, image: &Utf8Path, place: &str, source_uuid: Option<String>) {
    let guest = Guest::new(root, "snapshot-copy", |_| ());
    let copy = guest.dir.join("disk");
    std::fs::rename(image, &copy).unwrap();
    let disk = Disk::mount(copy, guest.dir.join("volume")).await;
    let note = std::fs::read_to_string(disk.point.join("data/xtrabackup_binlog_info")).unwrap();
    assert!(note.starts_with(place), "{note} is not {place}");
    prepare(&guest, json!({"location": "cinder://snapshot", "storage_driver": "cinder"})).await;
    assert_eq!(numbers(&guest).await, [Some("1".to_owned())]);
    assert!(guest.column(SqlText::new(dialect(root).2)).await.is_empty(), "it follows the source of the server it is a copy of");
    assert!(!guest.dir.join("etc/conf.d/99-system-002-alone.cnf").exists());
    assert!(root.is_mariadb() || uuid(&guest).await != source_uuid);
    remove(guest, disk).await;
}

fn place_of(held: &serde_json::Map<String, Value>) -> String {
    let names: Vec<&str> = held.keys().map(String::as_str).collect();
    assert_eq!(names, ["log_executed_gtid_set", "log_file", "log_position"]);
    assert!(held["log_executed_gtid_set"].is_string(), "{held:?}");
    format!("{}\t{}\t", held["log_file"].as_str().unwrap(), held["log_position"].as_u64().unwrap())
}

#[test]
fn a_snapshot_of_the_held_volume_is_a_database_and_who_writes_waits() {
    with_both(|root| async move {
        let (guest, disk) = with_a_table(root, "snapshot").await;
        // It is somebody's replica: the copy must not become one.
        let (follow, start, _) = dialect(root);
        guest.sql(SqlText::new(follow)).await;
        guest.sql(SqlText::new(start)).await;
        let uuid = uuid(&guest).await;
        let held = snapshots(&guest).hold(&guest.op).await.unwrap();
        let place = place_of(&held);
        assert!(disk.is_frozen().await);
        assert_eq!(guest.manager.status().probe(&guest.op).await, ServiceStatus::Running);
        let copy = guest.dir.join("copy");
        let (writing, released) = tokio::join!(insert(&guest, 2), async {
            tool(&["cp", "--sparse=always", disk.image.as_str(), copy.as_str()]).await.unwrap();
            snapshots(&guest).release().await
        });
        let ((), ()) = (writing, released.unwrap());
        assert!(!disk.is_frozen().await && !guest.dir.join("state/frozen").exists());
        assert_eq!(numbers(&guest).await, [Some("1".to_owned()), Some("2".to_owned())]);
        restored(root, &copy, &place, uuid).await;
        remove(guest, disk).await;
    });
}

#[test]
fn a_hold_that_was_lost_makes_the_snapshot_worthless_and_lets_everybody_write() {
    with_both(|root| async move {
        let (guest, disk) = with_a_table(root, "snapshot-lost").await;
        let error = snapshots(&guest).release().await.unwrap_err().to_string();
        assert!(error.contains("nothing is held still"), "{error}");

        // Somebody ends the session with the lock. The tools for that wait for nothing that is frozen.
        snapshots(&guest).hold(&guest.op).await.unwrap();
        let others = "SELECT CAST(PROCESSLIST_ID AS CHAR) FROM performance_schema.threads WHERE PROCESSLIST_USER = 'os_admin' AND \
                      PROCESSLIST_COMMAND = 'Sleep'";
        let others = if root.is_mariadb() {
            "SELECT CAST(ID AS CHAR) FROM information_schema.PROCESSLIST WHERE USER = 'os_admin' AND COMMAND = 'Sleep'"
        } else {
            others
        };
        let session = guest.column(SqlText::new(others)).await.pop().unwrap().unwrap();
        guest.sql(SqlText::new("KILL ").number(session.parse::<u64>().unwrap())).await;
        let error = snapshots(&guest).release().await.unwrap_err().to_string();
        assert!(error.contains("was lost") && error.contains("make another one"), "{error}");
        assert!(!disk.is_frozen().await);
        insert(&guest, 2).await;

        // The server is stopped: it could not end on a frozen volume.
        snapshots(&guest).hold(&guest.op).await.unwrap();
        guest.manager.stop(&guest.op).await.unwrap();
        let error = snapshots(&guest).release().await.unwrap_err().to_string();
        assert!(error.contains("nothing is held still"), "{error}");
        guest.manager.start(&guest.op).await.unwrap();
        insert(&guest, 3).await;

        // A controller that never came back, and another one after it.
        snapshots(&guest).hold(&guest.op).await.unwrap();
        snapshots(&guest).hold(&guest.op).await.unwrap();
        assert!(disk.is_frozen().await);

        // What an agent's start does after one that was killed.
        Freezer::thaw_left_over(Arc::new(SystemCommands), &guest.dir.join("state")).await.unwrap();
        assert!(!disk.is_frozen().await && !guest.dir.join("state/frozen").exists());
        snapshots(&guest).release().await.unwrap();
        insert(&guest, 4).await;
        assert_eq!(numbers(&guest).await.len(), 4);
        remove(guest, disk).await;
    });
}

#[test]
fn without_a_volume_nothing_is_held() {
    with_both(|root| async move {
        let guest = Guest::shared(root).await;
        let error = snapshots(guest).hold(&guest.op).await.unwrap_err().to_string();
        assert!(error.contains("no volume is mounted"), "{error}");
        guest.sql(SqlText::new("CREATE DATABASE after_no_hold")).await;
        guest.sql(SqlText::new("DROP DATABASE after_no_hold")).await;
    });
}
