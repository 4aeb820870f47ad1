//! The agent killed in front of every step of every operation that changes something, with a real MariaDB: the controller is told the truth, nothing half
//! done is left, and the operation comes to its end.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use crate::crash::{End, report};
use crate::sql::sql;
use crate::support::{Guest, Wire, free_port, until};
use crate::sweeps::{
    MOST, OPTIONS, assert_covered, backup_killed_at, called_killed_at, cast_prepare_with, made_backup, mortal, prepare_killed_at, serves,
    stored_in, sweep,
};

pub(crate) fn config(guest: &Guest, connections: usize) -> String {
    format!(
        "[mysqld]\nport={}\nmax_connections={connections}\ninnodb_buffer_pool_size=32M\ninnodb_log_file_size=8M\n!includedir {}/etc/conf.d/\n",
        free_port(),
        guest.dir
    )
}

async fn cast_prepare(guest: &Guest, wire: &Wire, backup: Value) {
    cast_prepare_with(guest, wire, config(guest, 20), json!({"wait_timeout": 77}), "u1", backup).await;
}

pub(crate) async fn prepared(options: &str) -> (Guest, Wire) {
    let (guest, mut wire) = mortal(options).await;
    cast_prepare(&guest, &wire, Value::Null).await;
    serves(&guest, &mut wire).await;
    (guest, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn prepare_is_finished_whichever_step_it_is_killed_at() {
    let check = async |guest: &Guest| {
        assert_eq!(sql(guest, "SHOW DATABASES LIKE 'db1'; SELECT @@wait_timeout"), "db1\n77\n");
        assert_eq!(sql(guest, "SELECT User FROM mysql.user WHERE User IN ('u1', 'root') AND Host = '%' ORDER BY User"), "root\nu1\n");
        assert_eq!(sql(guest, "SELECT COUNT(*) FROM mysql.user WHERE User = ''"), "0\n");
    };
    let named = [
        "/state/journal/.trove-new-",
        "/state/.trove-new-",
        "/etc/.trove-new-",
        "/etc/conf.d/.trove-new-",
        "start mariadb-install-db",
        "mariadbd",
        "CREATE DATABASE",
        "CREATE USER",
        "GRANT",
    ];
    let begin = async |guest: &Guest, wire: &Wire| cast_prepare(guest, wire, Value::Null).await;
    sweep("prepare", &named, |kind, number| prepare_killed_at(kind, number, OPTIONS, begin, check)).await;
}

/// A backup of a database with a table, in `folder`: what `prepare` takes.
async fn backed_up(folder: &Utf8Path) -> Value {
    let (guest, mut wire) = prepared(&stored_in(folder)).await;
    sql(&guest, "CREATE TABLE db1.t (i INT PRIMARY KEY) ENGINE=InnoDB; INSERT INTO db1.t VALUES (4711)");
    made_backup(&mut wire).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_is_finished_whichever_step_it_is_killed_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let backup = backed_up(folder).await;
    let options = stored_in(folder);
    let check = async |guest: &Guest| assert_eq!(sql(guest, "SELECT i FROM db1.t"), "4711\n");
    let named = ["restoring", "start mbstream", "start mariadb-backup", "sync", "os_admin.cnf"];
    let begin = async |guest: &Guest, wire: &Wire| cast_prepare(guest, wire, backup.clone()).await;
    sweep("restore", &named, |kind, number| prepare_killed_at(kind, number, &options, &begin, check)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_backup_is_gone_when_it_is_taken_up_again_fails_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let backup = backed_up(folder).await;
    let (guest, mut wire) = mortal(&stored_in(folder)).await;
    guest.crash_at(30);
    cast_prepare(&guest, &wire, backup).await;
    until("the crash", async || guest.has_ended().then_some(())).await;
    std::fs::remove_dir_all(folder.join("database_backups")).unwrap();
    assert_eq!(guest.survive(async || false).await, End::Killed);
    while wire.heartbeat().await != "failed to spawn" {}
    let cast = wire.cast("notify_exc_info").await;
    assert!(cast["args"]["message"].as_str().unwrap().contains("look at the backup"), "{cast:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preparation_of_a_failed_instance_is_not_taken_for_the_one_that_failed_whichever_step_it_is_killed_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let (guest, mut wire) = mortal(&stored_in(folder)).await;
    let missing =
        |round| json!({"id": "b", "location": format!("file://{folder}/gone-{round}.gz"), "type": "MariaBackup", "checksum": "c"});
    cast_prepare(&guest, &wire, missing(0)).await;
    wire.cast("notify_exc_info").await;
    for round in 1..MOST {
        guest.crash_at(round);
        cast_prepare(&guest, &wire, missing(round)).await;
        // That of the last round may come once more: it was told when the agent was killed, and nobody knew it any more.
        let name = format!("gone-{round}.gz");
        let mut told = async || wire.failures().iter().any(|reason| reason.contains(&name));
        let mut is_told = false;
        let end = guest
            .survive(async || {
                is_told |= told().await;
                is_told
            })
            .await;
        let at = format!("step {round}, {:?}", guest.steps().last());
        until(&format!("the end for its own reason after {at}"), async || (is_told || told().await).then_some(())).await;
        guest.nothing_is_left(&at).await;
        if end == End::Done {
            return report("prepare of a failed instance", round - 1, guest.steps().len());
        }
    }
    panic!("a preparation without an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_told_of_whichever_step_it_is_killed_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let (guest, mut wire) = prepared(&stored_in(folder)).await;
    let mut outcomes = Vec::new();
    let steps = loop {
        let step = outcomes.len() + 1;
        let (end, steps, outcome) = backup_killed_at(&guest, &mut wire, folder, "", step).await;
        outcomes.push(outcome);
        if end == End::Done {
            report("create_backup", step - 1, steps.len());
            break steps;
        }
    };
    assert_covered(&steps, &["/state/journal/.trove-new-", "/state/.trove-new-", "start mariadb-backup", "database_backups/.trove-new-"]);
    assert_eq!(outcomes.last().map(String::as_str), Some("COMPLETED"));
    assert!(outcomes.iter().any(|state| state == "FAILED"));
}

/// Calls a method again and again, killed at one step after the other; each time its caller gets an answer that is no failure.
async fn answered_at_every_step(
    guest: &Guest,
    wire: &mut Wire,
    method: &str,
    args: impl Fn(usize) -> Value,
    mut check: impl AsyncFnMut(&mut Wire, usize),
) -> Vec<String> {
    for step in 1..MOST {
        let (end, steps) = called_killed_at(guest, wire, method, args(step), "", step).await;
        check(wire, step).await;
        if end == End::Done {
            report(method, step - 1, steps.len());
            return steps;
        }
    }
    panic!("an operation without an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_groups_are_whole_whichever_step_they_are_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS).await;
    let group = |step: usize| json!({"overrides": {"max_connections": 100 + step, "wait_timeout": 77}, "remove": false});
    let steps = answered_at_every_step(&guest, &mut wire, "update_overrides", group, async |_, step| {
        let text: String = guest
            .dir
            .join("etc/conf.d")
            .read_dir_utf8()
            .unwrap()
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        assert!(text.contains(&format!("max_connections = {}\n", 100 + step)) && text.contains("wait_timeout = 77"), "{text}");
    })
    .await;
    assert_covered(&steps, &["journal", "conf.d", "mariadbd"]);
    let values = |step: usize| json!({"overrides": {"max_connections": 200 + step}});
    let steps = answered_at_every_step(&guest, &mut wire, "apply_overrides", values, async |_, step| {
        assert_eq!(sql(&guest, "SELECT @@max_connections"), format!("{}\n", 200 + step));
    })
    .await;
    assert_covered(&steps, &["statement SET GLOBAL"]);
    let contents = |step: usize| json!({"configuration": {"config_contents": config(&guest, 300 + step)}});
    let steps = answered_at_every_step(&guest, &mut wire, "reset_configuration", contents, async |_, step| {
        let text = std::fs::read_to_string(guest.dir.join("etc/my.cnf")).unwrap();
        assert!(text.contains(&(300 + step).to_string()), "{text}");
    })
    .await;
    assert_covered(&steps, &["my.cnf"]);
    let remove = |_| json!({"overrides": {}, "remove": true});
    let steps = answered_at_every_step(&guest, &mut wire, "update_overrides", remove, async |_, _| {}).await;
    assert_covered(&steps, &["journal"]);
}

/// A loop device with a file system on it.
struct Disk {
    image: Utf8PathBuf,
    device: String,
}

fn run(argv: &[&str]) -> String {
    let output = std::process::Command::new(argv[0]).args(&argv[1..]).output().unwrap();
    assert!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Disk {
    fn new(directory: &Utf8Path) -> Disk {
        let image = directory.join("image");
        run(&["truncate", "-s", "32M", image.as_str()]);
        let device = run(&["losetup", "--find", "--show", image.as_str()]);
        run(&["mkfs.ext4", "-q", &device]);
        Disk { image, device }
    }

    fn mounted_at(&self, point: &Utf8Path) -> bool {
        std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().any(|line| line.contains(&format!(" {point} ")))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not mounted is as good.
        std::process::Command::new("umount").args(["-q", &self.device]).status().ok();
        run(&["losetup", "--detach", &self.device]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_resize_comes_to_its_end_whichever_step_it_is_killed_at() {
    let (guest, mut wire) = mortal(OPTIONS).await;
    let point = guest.dir.join("volume");
    std::fs::create_dir(&point).unwrap();
    let disk = Disk::new(&guest.dir);
    let args = || json!({"device_path": disk.device, "mount_point": point});
    let call = async |wire: &mut Wire, method: &str| {
        let id = wire.call_in_time(method, args()).await;
        let reply = wire.reply_to(&id).await;
        assert!(reply["failure"].is_null(), "{method}: {reply:?}");
    };
    let steps = answered_at_every_step(
        &guest,
        &mut wire,
        "mount_volume",
        |_| args(),
        async |wire, _| {
            assert!(disk.mounted_at(&point));
            call(wire, "unmount_volume").await;
        },
    )
    .await;
    assert_covered(&steps, &["start mount"]);
    call(&mut wire, "mount_volume").await;
    let steps = answered_at_every_step(
        &guest,
        &mut wire,
        "unmount_volume",
        |_| args(),
        async |wire, _| {
            assert!(!disk.mounted_at(&point));
            call(wire, "mount_volume").await;
        },
    )
    .await;
    assert_covered(&steps, &["umount"]);
    let size = |step: usize| 32 + 4 * step;
    let grow = |step: usize| {
        run(&["truncate", "-s", &format!("{}M", size(step)), disk.image.as_str()]);
        run(&["losetup", "--set-capacity", &disk.device]);
        json!({"device_path": disk.device})
    };
    let steps = answered_at_every_step(&guest, &mut wire, "resize_fs", grow, async |wire, step| {
        let facts = run(&["dumpe2fs", "-h", &disk.device]);
        let fact = |name: &str| -> usize { facts.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap() };
        assert_eq!(fact("Block count:") * fact("Block size:"), size(step) << 20);
        call(wire, "mount_volume").await;
    })
    .await;
    assert_covered(&steps, &["start e2fsck", "start resize2fs"]);
}
