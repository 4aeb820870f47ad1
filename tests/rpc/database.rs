//! With a real MariaDB: the words of each era, and operations on the server that the agent's end cuts short.

use serde_json::{Value, json};

use crate::support::{Guest, PLANTED, Wire, envelope, free_port, fresh, until};

/// Has a guest prepared by a controller that sends this context.
async fn prepared(context: Value) -> (Guest, Wire) {
    let guest = Guest::serving("").await;
    let mut wire = guest.wire().await;
    let config = format!("[mysqld]\nport={}\ninnodb_buffer_pool_size=32M\n!includedir {}/etc/conf.d/\n", free_port(), guest.dir);
    let prepare = json!({"packages": [], "databases": [{"_name": "db1"}], "users": [{"_name": "u1", "_password": PLANTED, "_databases": [{"_name": "db1"}]}],
                         "memory_mb": 512, "device_path": null, "mount_point": guest.dir.join("data"), "config_contents": config, "overrides": {},
                         "root_password": format!("{PLANTED}-Root1")});
    let mut more = context;
    more["_context_auth_token"] = json!(PLANTED);
    more["_context_trove_notification"] = json!({"server_type": "guest", "request_id": "r"});
    wire.cast_with("prepare", prepare, more).await;
    assert_eq!(wire.heartbeat().await, "building");
    let end = wire.cast("notify_end").await;
    assert_eq!(end["args"]["serialized_notification"]["instance_id"], guest.id.as_str());
    assert_eq!(wire.cast("report_root").await["args"]["user"], "root");
    (guest, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_era_hears_its_own_word() {
    let contexts = [
        (json!({"_context_tenant": "T", "_context_instance_uuid": null}), "running"),
        (json!({"_context_tenant": "T", "_context_roles": []}), "running"),
        (json!({"_context_project_id": "T", "version": "1.1"}), "healthy"),
    ];
    for (context, word) in contexts {
        let (guest, mut wire) = prepared(context).await;
        assert_eq!(wire.heartbeat().await, word);
        let id = wire.call("list_users", json!({"limit": 10, "marker": null, "include_marker": false})).await;
        let users = wire.reply_to(&id).await;
        assert_eq!(users["result"][0][0]["_name"], "u1", "{users:?}");
        guest.terminate();
        assert!(guest.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_cut_short_is_finished_and_a_user_is_still_created() {
    let (guest, mut wire) = prepared(json!({"_context_project_id": "T", "version": "1.1"})).await;
    guest.terminate();
    assert!(guest.ended().await.success());
    // What a kill in the middle of `restart`, and before the turn of `create_user`, leaves: the server is down.
    let journal = guest.dir.join("state/journal");
    let entry = |method: &str, args: Value, call: Option<&str>| {
        let mut message = json!({"method": method, "args": args, "version": "1.0", "_unique_id": fresh(), "_context_project_id": "T"});
        if let Some(id) = call {
            let more = json!({"_msg_id": id, "_reply_q": wire.reply_queue, "_timeout": null});
            message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        let body = String::from_utf8(envelope(&message)).unwrap();
        let (head, entry) = (
            json!({"unique_id": message["_unique_id"]}),
            json!({"method": method, "unique_id": message["_unique_id"],
            "received": 0.0, "expires_after": null, "body": body}),
        );
        format!("{head}\n{entry}")
    };
    let (restart, stop) = (fresh(), fresh());
    std::fs::write(journal.join("0000000000000100.started"), entry("restart", json!({}), Some(&restart))).unwrap();
    std::fs::write(journal.join("0000000000000101.started"), entry("stop_db", json!({}), Some(&stop))).unwrap();
    let users = json!({"users": [{"_name": "u2", "_password": PLANTED, "_databases": []}]});
    std::fs::write(journal.join("0000000000000102.accepted"), entry("create_user", users, None)).unwrap();
    let before = guest.journal("done");
    guest.start();
    let reply = wire.reply_to(&restart).await;
    assert!(reply["failure"].is_null(), "{reply:?}");
    let (_, text) = wire.failure_of(&stop).await;
    assert!(text.contains("restarted in the middle of 'stop_db'"), "a late stop would surprise: {text}");
    guest.journalled("done", before + 3).await;
    let found = until("the user", async || {
        let id = wire.call("get_user", json!({"username": "u2", "hostname": null})).await;
        let reply = wire.reply_to(&id).await;
        (!reply["result"].is_null()).then_some(reply)
    })
    .await;
    assert_eq!(found["result"]["_name"], "u2");
    guest.terminate();
    assert!(guest.ended().await.success());
}
