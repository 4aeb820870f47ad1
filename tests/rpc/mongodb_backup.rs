//! Backups of a real MongoDB by a stand-in of `mongodump` (the program is in no package registry): what is made of its exit status, its log, its archive and its end.

use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::backup::{Folder, cast_backup, files, update};
use crate::crash_points_of_mongodb::begin;
use crate::support::{Guest, Wire, shared_broker, until};
use crate::sweeps::{serves, stored_in};

const STAND_IN: &str = include_str!("mongodump");
/// Made by the real one.
const ARCHIVE: &[u8] = include_bytes!("../mongodb/mongodump.archive");

/// Puts the stand-in into a directory of the guest's.
fn install(guest: &Guest) -> Utf8PathBuf {
    let tools = guest.dir.join("tools");
    std::fs::create_dir(&tools).unwrap();
    std::fs::write(tools.join("mongodump"), STAND_IN).unwrap();
    std::fs::set_permissions(tools.join("mongodump"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(tools.join("archive"), ARCHIVE).unwrap();
    std::os::unix::fs::symlink("/bin/sleep", tools.join("child")).unwrap();
    tools
}

fn start(guest: &Guest, tools: &Utf8Path) {
    let path = format!("{tools}:{}", std::env::var("PATH").unwrap());
    guest.start_with(&[("PATH", &path)]);
}

/// A backup that the stand-in makes in this mode.
async fn back_up(wire: &mut Wire, tools: &Utf8Path, mode: &str) {
    std::fs::write(tools.join("mode"), mode).unwrap();
    cast_backup(wire, &uuid::Uuid::new_v4().to_string(), Value::Null).await;
    update(wire, "BUILDING").await;
}

/// The stand-in's processes, its child among them.
fn running(tools: &Utf8Path) -> usize {
    let found = std::process::Command::new("pgrep").args(["-f", tools.as_str()]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_by_a_stand_in_of_mongodump_is_judged_by_its_status_its_log_and_its_archive() {
    let folder = Folder::new();
    let guest = Guest::new(&shared_broker(), &format!("{}\ndatastore_manager=mongodb", stored_in(folder.path())));
    let tools = install(&guest);
    start(&guest, &tools);
    guest.consuming(1).await;
    let mut wire = guest.wire().await;
    begin(&guest, &wire).await;
    serves(&guest, &mut wire).await;

    for (mode, why) in [
        ("failing", "planted reason"),
        ("complaining", "but it says: Failed: oplog overflow"),
        ("half", "what it wrote is no whole archive"),
    ] {
        back_up(&mut wire, &tools, mode).await;
        let failed = update(&mut wire, "FAILED").await;
        assert!(failed["note"].as_str().unwrap().contains(why), "{mode}: {failed:?}");
        assert_eq!(files(folder.path()), [] as [Utf8PathBuf; 0], "{mode}");
    }

    // In the middle, with segments stored: the agent dies, and nothing of it is left.
    back_up(&mut wire, &tools, "stuck").await;
    until("segments", async || (files(folder.path()).len() > 2 && running(&tools) > 1).then_some(())).await;
    guest.kill();
    start(&guest, &tools);
    let failed = update(&mut wire, "FAILED").await;
    assert!(failed["note"].as_str().unwrap().contains("restarted in the middle of 'create_backup'"), "{failed:?}");
    assert_eq!(files(folder.path()), [] as [Utf8PathBuf; 0]);
    until("the tool's end, and its child's", async || (running(&tools) == 0).then_some(())).await;

    back_up(&mut wire, &tools, "whole").await;
    let completed = update(&mut wire, "COMPLETED").await;
    assert_eq!(completed["backup_type"], "MongoDump");
    let asked = std::fs::read_to_string(tools.join("arguments")).unwrap();
    let credentials = std::fs::read_to_string(guest.dir.join("state/os_mongo_admin_creds.json")).unwrap();
    let credentials: Value = serde_json::from_str(&credentials).unwrap();
    assert!(asked.contains("--username=os_admin") && !asked.contains(credentials["password"].as_str().unwrap()), "{asked}");
    // It is the archive that is stored: another guest, without the program, restores it.
    let target = Guest::new(&shared_broker(), &format!("{}\ndatastore_manager=mongodb", stored_in(folder.path())));
    target.start();
    target.consuming(1).await;
    let mut wire = target.wire().await;
    let mut backup = serde_json::json!({"id": completed["backup_id"]});
    for (key, name) in [("location", "location"), ("type", "backup_type"), ("checksum", "checksum")] {
        backup[key] = completed[name].clone();
    }
    crate::crash_points_of_mongodb::begin_with(&target, &wire, backup).await;
    serves(&target, &mut wire).await;
    crate::crash_points_of_mongodb::assert_lets_in(&target, ("shop", "ann", "planted-ann")).await;
}
