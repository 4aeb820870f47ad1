//! Operations that stop and start the server, killed in front of one step of each kind, what differs in made-up names alone being alike; or in front of every
//! step ([`points`]).

use serde_json::{Value, json};

use crate::certificates::{Authority, VALID};
use crate::crash_points::{config, prepared};
use crate::sql::sql;
use crate::support::Wire;
use crate::sweeps::{OPTIONS, answered_at_each_point, assert_covered, call, told};

async fn stop(wire: &mut Wire) {
    call(wire, "stop_db", json!({"do_not_start_on_reboot": false})).await;
}

/// As trove/taskmanager/models.py resizes: `stop_db`, another flavor, `start_db_with_conf_changes`; or, when that fails, `reset_configuration` and `restart`.
#[tokio::test(flavor = "multi_thread")]
async fn a_flavor_resize_comes_to_its_end_whichever_step_it_is_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS).await;
    let contents = |round: usize| json!({"config_contents": config(&guest, 100 + round)});
    let start = async |wire: &mut Wire| drop(call(wire, "start_db_with_conf_changes", contents(0)).await);
    let args = |_| json!({"do_not_start_on_reboot": false});
    let steps = answered_at_each_point(&guest, &mut wire, "stop_db", args, start, async |wire, _| {
        // Its caller waits for this before it goes on, and nobody starts the server behind its back.
        told(wire, "shutdown").await;
        assert!(!guest.dir.join("state/server.pid").exists());
    })
    .await;
    assert_covered(&steps, &["server.pid", "/state/.trove-new-", "journal"]);

    let is_whole = async |wire: &mut Wire, connections: usize| {
        told(wire, "running").await;
        assert_eq!(sql(&guest, "SELECT @@max_connections, @@wait_timeout"), format!("{connections}\t77\n"));
    };
    let steps = answered_at_each_point(&guest, &mut wire, "start_db_with_conf_changes", contents, stop, async |wire, round| {
        is_whole(wire, 100 + round).await;
    })
    .await;
    assert_covered(&steps, &["my.cnf", "server.stopped", "journal"]);

    stop(&mut wire).await;
    call(&mut wire, "reset_configuration", json!({"configuration": {"config_contents": config(&guest, 55)}})).await;
    call(&mut wire, "restart", json!({})).await;
    is_whole(&mut wire, 55).await;
}

/// `pre_upgrade` and `post_upgrade` as Train sends them, without a volume of its own; `upgrade` as later releases do, to the version that is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_comes_to_its_end_whichever_step_it_is_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS).await;
    let is_whole = async |wire: &mut Wire| {
        told(wire, "running").await;
        assert_eq!(sql(&guest, "SELECT @@max_connections, @@wait_timeout; SHOW DATABASES LIKE 'db1'"), "20\t77\ndb1\n");
        assert!(!guest.dir.join("data/.trove-upgrade").exists());
    };
    let none = |_| json!({});
    let arrive = async |wire: &mut Wire| drop(call(wire, "post_upgrade", json!({"upgrade_info": {}})).await);
    let steps = answered_at_each_point(&guest, &mut wire, "pre_upgrade", none, arrive, async |wire, _| {
        told(wire, "shutdown").await;
        assert!(guest.dir.join("data/.trove-upgrade/state/os_admin.cnf").exists());
    })
    .await;
    assert_covered(&steps, &["server.pid", ".trove-upgrade/etc", ".trove-upgrade/state", "journal"]);

    let leave = async |wire: &mut Wire| drop(call(wire, "pre_upgrade", json!({})).await);
    let info = |_| json!({"upgrade_info": {}});
    let steps = answered_at_each_point(&guest, &mut wire, "post_upgrade", info, leave, async |wire, _| is_whole(wire).await).await;
    assert_covered(&steps, &["etc/conf.d", ".trove-upgrade", "/state/.trove-new-"]);

    let info = |_| json!({"upgrade_info": {"datastore_version": "10.11"}});
    let nothing = async |_: &mut Wire| ();
    let steps = answered_at_each_point(&guest, &mut wire, "upgrade", info, nothing, async |wire, _| is_whole(wire).await).await;
    assert_covered(&steps, &["server.pid", "/state/.trove-new-"]);
}

/// `rebuild` on what a new root disk leaves of an instance without a volume of its own: the data, and no configuration nor account.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_comes_to_its_end_whichever_step_it_is_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS).await;
    let new_disk = async |wire: &mut Wire| {
        stop(wire).await;
        std::fs::remove_dir_all(guest.dir.join("etc")).unwrap();
        std::fs::remove_file(guest.dir.join("state/os_admin.cnf")).unwrap();
    };
    let args =
        |round| json!({"ds_version": "10.11", "config_contents": config(&guest, 100 + round), "config_overrides": {"wait_timeout": 78}});
    let steps = answered_at_each_point(&guest, &mut wire, "rebuild", args, new_disk, async |wire, round| {
        told(wire, "running").await;
        let seen = sql(
            &guest,
            "SELECT @@max_connections, @@wait_timeout; SHOW DATABASES LIKE 'db1'; SELECT COUNT(*) FROM mysql.user WHERE User = 'u1'",
        );
        assert_eq!(seen, format!("{}\t78\ndb1\n1\n", 100 + round));
        assert!(guest.dir.join("state/os_admin.cnf").exists());
        assert!(!guest.dir.join("etc/conf.d/99-system-001-init.cnf").exists(), "the server would run the agent's statements at each start");
    })
    .await;
    assert_covered(&steps, &["etc/conf.d", "my.cnf", "server.pid", "/state/.trove-new-", "journal", "mariadbd"]);
}

/// The container of `ssl_action`.
pub(crate) fn container(authority: &Authority, name: &str) -> Value {
    let issued = authority.issue(name, &["127.0.0.1"], VALID);
    let read = |path: &camino::Utf8Path| std::fs::read_to_string(path).unwrap();
    json!({"private_key": read(&issued.key), "certificate": read(&issued.cert), "ca": read(&authority.file)})
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_come_with_the_way_back_whichever_step_their_change_is_killed_at() {
    let (guest, mut wire) = prepared(OPTIONS).await;
    let authority = Authority::new(&guest.dir, "authority");
    let (first, second) = (container(&authority, "first"), container(&authority, "second"));
    let enable = |container: &Value, mode: &str| json!({"mode": mode, "container": container, "enable": true, "disable": null});
    call(&mut wire, "ssl_action", enable(&first, "basic")).await;
    call(&mut wire, "restart", json!({})).await;
    let used = || json!(std::fs::read_to_string(guest.dir.join("data/tls/current/server-cert.pem")).unwrap());
    let required = || sql(&guest, "SELECT ssl_type FROM mysql.user WHERE User = 'u1'");
    let nothing = async |_: &mut Wire| ();
    let args = |_| enable(&second, "enforced");
    let steps = answered_at_each_point(&guest, &mut wire, "ssl_action", args, nothing, async |wire, _| {
        assert_eq!((used(), required()), (second["certificate"].clone(), "ANY\n".to_owned()));
        let id = wire.call_in_time("ssl_rollback", json!({})).await;
        let back = wire.reply_to(&id).await;
        assert_eq!(back["result"], json!({"status": "on", "restart_required": false, "mode": "basic"}), "{back:?}");
        assert_eq!((used(), required()), (first["certificate"].clone(), "\n".to_owned()));
    })
    .await;
    assert_covered(&steps, &["/data/tls/", "sbin/mariadbd", "statement FLUSH", "statement ALTER USER", "journal"]);
}
