//! Operations of a real PostgreSQL, killed in front of one step of each kind, or of every one.

use std::cell::Cell;

use camino::Utf8Path;
use serde_json::{Value, json};

use crate::support::{Guest, Wire};
use crate::sweeps::{
    OPTIONS, answered_at_each_point, assert_covered, backups_killed_at_each_point, call, cast_prepare_with, made_backup, mortal,
    prepare_killed_at, serves, stored_in, sweep, told,
};

/// No port: the number is in the socket's name alone.
fn config(connections: usize) -> String {
    format!("listen_addresses = ''\nport = 5432\nmax_connections = {connections}\nshared_buffers = 16MB\nfsync = off\n")
}

fn options(more: &str) -> String {
    format!("{more}\ndatastore_manager=postgresql")
}

/// Segments of a size that a whole data directory has a few of.
fn stored(folder: &Utf8Path) -> String {
    format!("{}\nbackup_segment_max_size=2097152", stored_in(folder))
}

/// Runs statements as `os_admin`, and returns what they print.
fn sql(guest: &Guest, database: &str, statements: &str) -> String {
    let output = std::process::Command::new("psql")
        .env("PGPASSFILE", guest.dir.join("state/os_admin.pgpass"))
        .args(["--no-psqlrc", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "os_admin", "-d", database, "-c", statements])
        .args(["-h", guest.dir.join("run").as_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn begin(guest: &Guest, wire: &Wire, backup: Value) {
    cast_prepare_with(guest, wire, config(20), json!({"work_mem": "7MB"}), "u1", backup).await;
}

async fn prepared(more: &str) -> (Guest, Wire) {
    let (guest, mut wire) = mortal(&options(more)).await;
    begin(&guest, &wire, Value::Null).await;
    serves(&guest, &mut wire).await;
    (guest, wire)
}

/// The database, the user, the group and the root of a preparation.
fn assert_whole(guest: &Guest, connections: usize) {
    let seen = sql(
        guest,
        "db1",
        "SELECT current_setting('max_connections'), current_setting('work_mem'), \
         (SELECT count(*) FROM pg_roles WHERE rolname = 'u1' AND rolcanlogin AND has_database_privilege('u1', 'db1', 'CONNECT')), \
         (SELECT count(*) FROM pg_authid WHERE rolname = 'postgres' AND rolpassword IS NOT NULL)",
    );
    assert_eq!(seen, format!("{connections}|7MB|1|1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepare_of_postgresql_is_finished_whichever_step_it_is_killed_at() {
    let named = [
        "/state/journal/.trove-new-",
        "/state/.trove-new-",
        "/etc/.trove-new-",
        "/etc/conf.d/.trove-new-",
        "fork",
        "bin/postgres",
        "CREATE DATABASE",
        "CREATE ROLE",
        "GRANT",
    ];
    let begin = async |guest: &Guest, wire: &Wire| begin(guest, wire, Value::Null).await;
    let options = options(OPTIONS);
    let check = async |guest: &Guest| assert_whole(guest, 20);
    sweep("prepare of PostgreSQL", &named, |kind, number| prepare_killed_at(kind, number, &options, begin, check)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_postgresql_is_finished_whichever_step_it_is_killed_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let (source, mut wire) = prepared(&stored(folder)).await;
    sql(&source, "db1", "CREATE TABLE t (i INT PRIMARY KEY); INSERT INTO t VALUES (4711)");
    let backup = made_backup(&mut wire).await;
    drop(source);
    let begin = async |guest: &Guest, wire: &Wire| begin(guest, wire, backup.clone()).await;
    let options = options(&stored(folder));
    let check = async |guest: &Guest| {
        assert_whole(guest, 20);
        assert_eq!(sql(guest, "db1", "SELECT i FROM t"), "4711\n");
    };
    let named = ["restoring", "bin/postgres", "os_admin.pgpass", "/etc/conf.d/.trove-new-"];
    sweep("restore of PostgreSQL", &named, |kind, number| prepare_killed_at(kind, number, &options, &begin, check)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_postgresql_is_told_of_whichever_step_it_is_killed_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let (guest, mut wire) = prepared(&stored(folder)).await;
    let named = ["/state/journal/.trove-new-", "/state/.trove-new-", "bin/pg_basebackup", "database_backups/.trove-new-", "statement"];
    // What a killed one has kept of the log bounds nobody: the next backup lets it go, and there are no others.
    let one_slot = || assert!(sql(&guest, "postgres", "SELECT count(*) FROM pg_replication_slots").trim().parse::<u8>().unwrap() <= 1);
    backups_killed_at_each_point("create_backup of PostgreSQL", &guest, &mut wire, folder, &named, one_slot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_postgresql_are_whole_whichever_step_they_are_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS).await;
    let nothing = async |_: &mut Wire| ();
    let group = |round: usize| json!({"overrides": {"max_connections": 30 + round, "work_mem": "7MB"}, "remove": false});
    let steps = answered_at_each_point(&guest, &mut wire, "update_overrides", group, nothing, async |_, round| {
        let text = std::fs::read_to_string(guest.dir.join("etc/conf.d/20-user-001-common.conf")).unwrap();
        assert!(text.contains(&(30 + round).to_string()) && text.contains("7MB"), "{text}");
    })
    .await;
    assert_covered(&steps, &["journal", "conf.d"]);
    let megabytes = Cell::new(9);
    let values = || json!({"overrides": {"work_mem": format!("{}MB", megabytes.get())}, "remove": false});
    let set = async |wire: &mut Wire| {
        megabytes.set(megabytes.get() + 1);
        call(wire, "update_overrides", values()).await;
    };
    let args = |_| json!({"overrides": values()["overrides"]});
    let steps = answered_at_each_point(&guest, &mut wire, "apply_overrides", args, set, async |_, _| {
        assert_eq!(sql(&guest, "postgres", "SHOW work_mem"), format!("{}MB\n", megabytes.get()));
    })
    .await;
    assert_covered(&steps, &["statement"]);
    let contents = |round: usize| json!({"configuration": {"config_contents": config(50 + round)}});
    let steps = answered_at_each_point(&guest, &mut wire, "reset_configuration", contents, nothing, async |_, round| {
        let text = std::fs::read_to_string(guest.dir.join("etc/postgresql.conf")).unwrap();
        assert!(text.contains(&(50 + round).to_string()), "{text}");
    })
    .await;
    assert_covered(&steps, &["/etc/.trove-new-"]);
}

/// `pre_upgrade` and `post_upgrade` as Train sends them, without a volume of its own; `upgrade` and `rebuild` as later releases do, to the version that is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_postgresql_comes_to_its_end_whichever_step_it_is_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS).await;
    sql(&guest, "db1", "CREATE TABLE t AS SELECT 4711 AS i");
    let version = sql(&guest, "postgres", "SELECT current_setting('server_version_num')::int / 10000");
    let is_whole = async |wire: &mut Wire, connections: usize| {
        told(wire, "running").await;
        assert_whole(&guest, connections);
        assert_eq!(sql(&guest, "db1", "SELECT i FROM t"), "4711\n");
        assert!(!guest.dir.join("data/.trove-upgrade").exists());
    };
    let none = |_| json!({});
    let arrive = async |wire: &mut Wire| drop(call(wire, "post_upgrade", json!({"upgrade_info": {}})).await);
    let steps = answered_at_each_point(&guest, &mut wire, "pre_upgrade", none, arrive, async |wire, _| {
        told(wire, "shutdown").await;
        assert!(guest.dir.join("data/.trove-upgrade/state/os_admin.pgpass").exists());
    })
    .await;
    assert_covered(&steps, &["server.pid", ".trove-upgrade/etc", ".trove-upgrade/state", "journal"]);

    let leave = async |wire: &mut Wire| drop(call(wire, "pre_upgrade", json!({})).await);
    let info = |_| json!({"upgrade_info": {}});
    let steps = answered_at_each_point(&guest, &mut wire, "post_upgrade", info, leave, async |wire, _| is_whole(wire, 20).await).await;
    assert_covered(&steps, &["etc/conf.d", ".trove-upgrade", "/state/.trove-new-"]);

    let info = |_| json!({"upgrade_info": {"datastore_version": version.trim()}});
    let nothing = async |_: &mut Wire| ();
    let steps = answered_at_each_point(&guest, &mut wire, "upgrade", info, nothing, async |wire, _| is_whole(wire, 20).await).await;
    assert_covered(&steps, &["server.pid", "/state/.trove-new-"]);

    let new_disk = async |wire: &mut Wire| {
        call(wire, "stop_db", json!({"do_not_start_on_reboot": false})).await;
        std::fs::remove_dir_all(guest.dir.join("etc")).unwrap();
        std::fs::remove_file(guest.dir.join("state/os_admin.pgpass")).unwrap();
    };
    let args =
        |round| json!({"ds_version": version.trim(), "config_contents": config(30 + round), "config_overrides": {"work_mem": "7MB"}});
    let steps =
        answered_at_each_point(&guest, &mut wire, "rebuild", args, new_disk, async |wire, round| is_whole(wire, 30 + round).await).await;
    assert_covered(&steps, &["etc/conf.d", "/etc/.trove-new-", "server.pid", "fork", "journal"]);
}
