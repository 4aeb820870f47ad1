//! Configuration groups.

use serde_json::json;
use trove_guestagent::managers::{ConfigGroups, DatastoreManager};
use trove_guestagent::model::Overrides;

use crate::support::{Guest, run, values};

fn groups(guest: &Guest) -> &dyn ConfigGroups {
    guest.manager.config().unwrap()
}

async fn restart(guest: &Guest) {
    guest.manager.stop(&guest.op).await.unwrap();
    guest.manager.start(&guest.op).await.unwrap();
}

#[test]
fn a_group_is_written_applied_kept_and_taken_back() {
    run(async {
        let guest = Guest::prepared("groups", "").await;
        let group = values(json!({"maxmemory-policy": "allkeys-lru", "save": "60 5 30 7", "timeout": 17, "lazyfree-lazy-eviction": true,
            "client-output-buffer-limit": "pubsub 8mb 2mb 30"}));
        groups(&guest).update(&guest.op, &group, false).await.unwrap();
        assert_eq!((guest.parameter("timeout").await.as_str(), guest.parameter("save").await.as_str()), ("0", "900 1 300 10 60 10000"));
        groups(&guest).apply(&guest.op, &group).await.unwrap();
        let of = async |guest: &Guest| {
            (
                guest.parameter("timeout").await,
                guest.parameter("save").await,
                guest.parameter("maxmemory-policy").await,
                guest.parameter("lazyfree-lazy-eviction").await,
            )
        };
        let wanted = ("17".to_owned(), "60 5 30 7".to_owned(), "allkeys-lru".to_owned(), "yes".to_owned());
        assert_eq!(of(&guest).await, wanted);
        // Agent, server and flavor may change: the group stays.
        let again = guest.agent_again();
        restart(&again).await;
        assert_eq!(of(&again).await, wanted);
        again.manager.start_with_configuration(&again.op, &again.base("maxclients 55\n")).await.unwrap();
        assert_eq!((of(&again).await, again.parameter("maxclients").await), (wanted, "55".to_owned()));
        assert!(again.parameter("client-output-buffer-limit").await.contains("pubsub 8388608 2097152 30"));
        // Taken back, in the running server too.
        groups(&again).update(&again.op, &values(json!({})), true).await.unwrap();
        assert_eq!((again.parameter("timeout").await.as_str(), again.parameter("maxmemory-policy").await.as_str()), ("0", "noeviction"));
        restart(&again).await;
        assert_eq!((again.parameter("timeout").await.as_str(), again.parameter("save").await.as_str()), ("0", "900 1 300 10 60 10000"));
        again.remove().await;
    });
}

#[test]
fn what_the_server_does_not_take_changes_nothing() {
    run(async {
        let guest = Guest::prepared("bad", "").await;
        let (before, memory) = (guest.file(), guest.parameter("maxmemory").await);
        for bad in [
            json!({"no-such-directive": 1}),
            json!({"maxmemory": "banana"}),
            json!({"maxmemory": "1mb", "hz": "often"}),
            json!({"dir": "/"}),
            json!({"rename-command": "CONFIG CONFIG"}),
            json!({"unixsocket": "/tmp/x"}),
            json!({"loadmodule": "/tmp/x.so"}),
            json!({"INCLUDE": "/etc/shadow"}),
            json!({"x y": 1}),
            json!({"maxmemory": {"a": 1}}),
        ] {
            assert!(groups(&guest).update(&guest.op, &values(bad.clone()), false).await.is_err(), "{bad}");
            assert!(groups(&guest).apply(&guest.op, &values(bad.clone())).await.is_err(), "{bad}");
            assert_eq!((guest.file(), guest.parameter("maxmemory").await), (before.clone(), memory.clone()), "{bad}");
        }
        // A value cannot become another line.
        let group = values(json!({"proc-title-template": "x\nrequirepass planted"}));
        groups(&guest).update(&guest.op, &group, false).await.ok();
        restart(&guest).await;
        assert_eq!(guest.parameter("requirepass").await, "");
        guest.remove().await;
    });
}

#[test]
fn what_is_taken_at_the_start_only_waits_for_one() {
    run(async {
        let guest = Guest::prepared("fixed", "").await;
        let group = Overrides::Text("tcp-backlog 99\ntimeout 5\n".into());
        assert!(groups(&guest).apply(&guest.op, &group).await.unwrap_err().to_string().contains("tcp-backlog"));
        groups(&guest).update(&guest.op, &group, false).await.unwrap();
        groups(&guest).apply(&guest.op, &group).await.unwrap();
        assert_eq!((guest.parameter("tcp-backlog").await.as_str(), guest.parameter("timeout").await.as_str()), ("511", "5"));
        let status = guest.manager.status().probe(&guest.op).await;
        assert_eq!(status, trove_guestagent::model::ServiceStatus::RestartRequired);
        restart(&guest).await;
        assert_eq!(guest.manager.status().probe(&guest.op).await, trove_guestagent::model::ServiceStatus::Running);
        assert_eq!(guest.parameter("tcp-backlog").await, "99");
        guest.remove().await;
    });
}

/// `CONFIG REWRITE` has nothing to add to what the agent writes, and the agent reads what it leaves.
#[test]
fn the_servers_own_rewriting_of_its_file_loses_nothing() {
    run(async {
        let guest = Guest::prepared("rewrite", "").await;
        let group = values(json!({"timeout": 5, "save": "60 5"}));
        groups(&guest).update(&guest.op, &group, false).await.unwrap();
        groups(&guest).apply(&guest.op, &group).await.unwrap();
        let mut session = guest.manager.client().session(&guest.op).await.unwrap();
        session.rewrite_configuration(&guest.op).await.unwrap();
        drop(session);
        let again = guest.agent_again();
        restart(&again).await;
        assert_eq!((again.parameter("timeout").await.as_str(), again.parameter("save").await.as_str()), ("5", "60 5"));
        groups(&again).update(&again.op, &values(json!({})), true).await.unwrap();
        restart(&again).await;
        assert_eq!((again.parameter("timeout").await.as_str(), again.parameter("save").await.as_str()), ("0", "900 1 300 10 60 10000"));
        again.remove().await;
    });
}

#[test]
fn a_password_in_a_group_is_the_servers_password() {
    run(async {
        let guest = Guest::prepared("password", "").await;
        let group = values(json!({"requirepass": "planted-in-a-group"}));
        groups(&guest).update(&guest.op, &group, false).await.unwrap();
        groups(&guest).apply(&guest.op, &group).await.unwrap();
        guest.as_user(Some("planted-in-a-group"), &["PING"]).await.unwrap();
        groups(&guest).update(&guest.op, &values(json!({})), true).await.unwrap();
        guest.as_user(None, &["PING"]).await.unwrap();
        assert!(!crate::support::logged().contains("planted-in-a-group"));
        guest.remove().await;
    });
}
