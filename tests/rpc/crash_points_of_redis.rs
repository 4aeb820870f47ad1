//! Operations of a real Redis, killed in front of one step of each kind, or of every one.

use camino::Utf8Path;
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::crash_points_of_servers::container;
use crate::support::{Guest, PLANTED, Wire, free_port};
use crate::sweeps::{
    OPTIONS, answered_at_each_point, assert_covered, backups_killed_at_each_point, call, made_backup, mortal, prepare_killed_at, serves,
    stored_in, sweep, told,
};

fn config(clients: usize) -> String {
    // No port: while the server is down, somebody else could take it.
    config_at(0, clients)
}

fn config_at(port: u16, clients: usize) -> String {
    format!("port {port}\nsave 900 1\nmaxclients {clients}\ndbfilename dump.rdb\n")
}

/// What the server answers to a command, as a client that knows its password gets it.
fn ask(guest: &Guest, password: &str, words: &[&str]) -> String {
    let socket = guest.dir.join("run/redis.sock");
    let output =
        std::process::Command::new("redis-cli").args(["-s", socket.as_str()]).args(words).env("REDISCLI_AUTH", password).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

fn options(more: &str) -> String {
    format!("{more}\ndatastore_manager=redis")
}

/// What a preparation that [`begin`] asks for makes root's.
fn password() -> String {
    format!("{PLANTED}-R1")
}

/// `prepare` with a root, who has the one password there is.
async fn begin(guest: &Guest, wire: &Wire, contents: String, backup: Value) {
    let args = json!({"packages": [], "databases": [], "users": [], "memory_mb": 512, "device_path": null, "mount_point": guest.dir.join("data"),
                      "config_contents": contents, "overrides": {"timeout": 77}, "root_password": password(), "backup_info": backup});
    let more = json!({"_context_tenant": "T", "_context_roles": [], "_context_auth_token": PLANTED,
                      "_context_trove_notification": {"server_type": "guest", "request_id": "r"}});
    wire.cast_with("prepare", args, more).await;
}

async fn prepared(more: &str, contents: String) -> (Guest, Wire) {
    let (guest, mut wire) = mortal(&options(more)).await;
    begin(&guest, &wire, contents, Value::Null).await;
    serves(&guest, &mut wire).await;
    (guest, wire)
}

/// The configuration, the group and the password of a preparation.
fn assert_whole(guest: &Guest, clients: usize) {
    assert!(ask(guest, "", &["PING"]).contains("NOAUTH"));
    assert!(ask(guest, &password(), &["INFO", "clients"]).contains(&format!("maxclients:{clients}\r")));
    assert!(std::fs::read_to_string(guest.dir.join("etc/redis.conf")).unwrap().contains("timeout 77"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepare_of_redis_is_finished_whichever_step_it_is_killed_at() {
    let begin = async |guest: &Guest, wire: &Wire| begin(guest, wire, config(20), Value::Null).await;
    let options = options(OPTIONS);
    let check = async |guest: &Guest| assert_whole(guest, 20);
    let named = ["/state/journal/.trove-new-", "/state/.trove-new-", "/etc/.trove-new-", "/etc/overrides/.trove-new-", "fork"];
    sweep("prepare of Redis", &named, |kind, number| prepare_killed_at(kind, number, &options, begin, check)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_redis_is_finished_whichever_step_it_is_killed_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let (source, mut wire) = prepared(&stored_in(folder), config(20)).await;
    assert_eq!(ask(&source, &password(), &["SET", "kept", "4711"]), "OK\n");
    let backup = made_backup(&mut wire).await;
    drop(source);
    let begin = async |guest: &Guest, wire: &Wire| begin(guest, wire, config(20), backup.clone()).await;
    let options = options(&stored_in(folder));
    let check = async |guest: &Guest| {
        assert_whole(guest, 20);
        assert_eq!(ask(guest, &password(), &["GET", "kept"]), "4711\n");
    };
    let named = ["restoring", "fork", "/etc/.trove-new-"];
    sweep("restore of Redis", &named, |kind, number| prepare_killed_at(kind, number, &options, &begin, check)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_redis_is_told_of_whichever_step_it_is_killed_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let (guest, mut wire) = prepared(&stored_in(folder), config(20)).await;
    let named = ["/state/journal/.trove-new-", "/state/.trove-new-", "database_backups/.trove-new-"];
    backups_killed_at_each_point("create_backup of Redis", &guest, &mut wire, folder, &named, || ()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_passwords_of_redis_are_whole_whichever_step_they_are_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS, config(20)).await;
    let nothing = async |_: &mut Wire| ();
    let group = |round: usize| json!({"overrides": {"timeout": 77, "hz": 20 + round}, "remove": false});
    let steps = answered_at_each_point(&guest, &mut wire, "update_overrides", group, nothing, async |_, round| {
        let text = std::fs::read_to_string(guest.dir.join("etc/redis.conf")).unwrap();
        assert!(text.contains(&format!("hz {}", 20 + round)) && text.contains("timeout 77"), "{text}");
    })
    .await;
    assert_covered(&steps, &["journal", "/etc/.trove-new-", "/etc/overrides/.trove-new-"]);
    let set = |round: usize| json!({"root_password": format!("{PLANTED}-{round}")});
    let steps = answered_at_each_point(&guest, &mut wire, "enable_root_with_password", set, nothing, async |_, round| {
        assert_eq!(ask(&guest, &format!("{PLANTED}-{round}"), &["PING"]), "PONG\n");
        assert!(ask(&guest, "", &["PING"]).contains("NOAUTH"));
    })
    .await;
    assert_covered(&steps, &["journal", "/etc/.trove-new-"]);
}

/// At a TCP port, verifying a server that speaks TLS.
fn ping(port: u16, authority: Option<&Authority>) -> String {
    let mut command = std::process::Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).env("REDISCLI_AUTH", password());
    if let Some(authority) = authority {
        command.args(["--tls", "--cacert", authority.file.as_str()]);
    }
    String::from_utf8(command.arg("PING").output().unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_redis_come_with_the_way_back_whichever_step_their_change_is_killed_at() {
    let port = free_port();
    let (guest, mut wire) = prepared(OPTIONS, config_at(port, 20)).await;
    let authority = Authority::new(&guest.dir, "authority");
    let container = container(&authority, "server");
    let nothing = async |_: &mut Wire| ();
    let args = |_| json!({"mode": "enforced", "container": container, "enable": true, "disable": null});
    let steps = answered_at_each_point(&guest, &mut wire, "ssl_action", args, nothing, async |wire, _| {
        assert_eq!((ping(port, Some(&authority)).as_str(), ping(port, None).as_str()), ("PONG\n", ""));
        let back = call(wire, "ssl_rollback", json!({})).await;
        assert_eq!(back, json!({"status": "off", "restart_required": false, "mode": null}));
        // A server without TLS takes a greeting of TLS for the begin of a command, and waits for the rest of it.
        assert_eq!(ping(port, None), "PONG\n");
    })
    .await;
    assert_covered(&steps, &["/data/tls/", "/etc/overrides/.trove-new-", "/etc/.trove-new-", "journal"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_redis_comes_to_its_end_whichever_step_it_is_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS, config(20)).await;
    let password = password();
    assert_eq!(ask(&guest, &password, &["SET", "kept", "4711"]), "OK\n");
    let is_whole = async |wire: &mut Wire, clients: usize| {
        told(wire, "running").await;
        assert_eq!(ask(&guest, &password, &["GET", "kept"]), "4711\n");
        assert!(ask(&guest, &password, &["CONFIG", "GET", "*"]).contains("unknown command"));
        assert_whole(&guest, clients);
        assert!(!guest.dir.join("data/.trove-upgrade").exists());
    };
    let none = |_| json!({});
    let info = |_| json!({"upgrade_info": {}});
    let arrive = async |wire: &mut Wire| drop(call(wire, "post_upgrade", json!({"upgrade_info": {}})).await);
    let steps = answered_at_each_point(&guest, &mut wire, "pre_upgrade", none, arrive, async |wire, _| {
        told(wire, "shutdown").await;
        assert!(guest.dir.join("data/.trove-upgrade/etc/base.rev").exists());
    })
    .await;
    assert_covered(&steps, &["server.pid", ".trove-upgrade/etc", "journal"]);

    // The next root disk has a configuration of its package's.
    let leave = async |wire: &mut Wire| {
        call(wire, "pre_upgrade", json!({})).await;
        new_disk(&guest);
    };
    let steps = answered_at_each_point(&guest, &mut wire, "post_upgrade", info, leave, async |wire, _| is_whole(wire, 20).await).await;
    assert_covered(&steps, &["/etc/overrides/.trove-new-", "/etc/.trove-new-", ".trove-upgrade", "fork", "/state/.trove-new-"]);

    let version = |_| json!({"upgrade_info": {"datastore_version": "7.0"}});
    let nothing = async |_: &mut Wire| ();
    let steps = answered_at_each_point(&guest, &mut wire, "upgrade", version, nothing, async |wire, _| is_whole(wire, 20).await).await;
    assert_covered(&steps, &["server.pid", "/state/.trove-new-"]);

    let args =
        |round| -> Value { json!({"ds_version": "7.0", "config_contents": config(100 + round), "config_overrides": {"timeout": 77}}) };
    let stopped = async |wire: &mut Wire| {
        call(wire, "stop_db", json!({"do_not_start_on_reboot": false})).await;
        new_disk(&guest);
    };
    let steps =
        answered_at_each_point(&guest, &mut wire, "rebuild", args, stopped, async |wire, round| is_whole(wire, 100 + round).await).await;
    assert_covered(&steps, &["/etc/overrides/.trove-new-", "/etc/.trove-new-", "fork", "server.pid"]);
}

fn new_disk(guest: &Guest) {
    std::fs::remove_dir_all(guest.dir.join("etc")).unwrap();
    std::fs::create_dir(guest.dir.join("etc")).unwrap();
    std::fs::write(guest.dir.join("etc/redis.conf"), "bind 127.0.0.1\nprotected-mode yes\n").unwrap();
}
