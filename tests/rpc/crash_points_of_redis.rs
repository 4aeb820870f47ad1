//! Upgrades of a real Redis, killed in front of one step of each kind, or of every one.

use serde_json::{Value, json};

use crate::crash_points::{OPTIONS, assert_covered, mortal};
use crate::crash_points_of_servers::{answered_at_each_point, call, told};
use crate::support::{Guest, Wire};

fn config(clients: usize) -> String {
    // No port: while the server is down, somebody else could take it.
    format!("port 0\nsave 900 1\nmaxclients {clients}\ndbfilename dump.rdb\n")
}

/// What the server answers to a command, as a client that knows its password gets it.
fn ask(guest: &Guest, password: &str, words: &[&str]) -> String {
    let socket = guest.dir.join("run/redis.sock");
    let output =
        std::process::Command::new("redis-cli").args(["-s", socket.as_str()]).args(words).env("REDISCLI_AUTH", password).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

async fn prepared() -> (Guest, Wire) {
    let (guest, mut wire) = mortal(&format!("{OPTIONS}\ndatastore_manager=redis")).await;
    let args = json!({"packages": [], "databases": [], "users": [], "memory_mb": 512, "device_path": null, "mount_point": guest.dir.join("data"),
                      "config_contents": config(20), "overrides": {"timeout": 77}});
    let more =
        json!({"_context_tenant": "T", "_context_roles": [], "_context_trove_notification": {"server_type": "guest", "request_id": "r"}});
    wire.cast_with("prepare", args, more).await;
    while wire.heartbeat().await != "running" {}
    wire.cast("notify_end").await;
    guest.nothing_is_left("the preparation").await;
    (guest, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_redis_comes_to_its_end_whichever_step_it_is_killed_at() {
    let (guest, mut wire) = prepared().await;
    let id = wire.call_in_time("enable_root", json!({})).await;
    let root = wire.reply_to(&id).await;
    let password = root["result"]["_password"].as_str().unwrap().to_owned();
    assert_eq!(ask(&guest, &password, &["SET", "kept", "4711"]), "OK\n");
    let is_whole = async |wire: &mut Wire, clients: usize| {
        told(wire, "running").await;
        assert_eq!(ask(&guest, &password, &["GET", "kept"]), "4711\n");
        assert!(ask(&guest, "", &["GET", "kept"]).contains("NOAUTH"));
        assert!(ask(&guest, &password, &["CONFIG", "GET", "*"]).contains("unknown command"));
        assert!(ask(&guest, &password, &["INFO", "clients"]).contains(&format!("maxclients:{clients}\r")));
        assert!(std::fs::read_to_string(guest.dir.join("etc/redis.conf")).unwrap().contains("timeout 77"));
        assert!(!guest.dir.join("data/.trove-upgrade").exists());
    };
    let none = |_| json!({});
    let info = |_| json!({"upgrade_info": {}});
    let arrive = async |wire: &mut Wire| call(wire, "post_upgrade", json!({"upgrade_info": {}})).await;
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
