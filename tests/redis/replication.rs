//! Replication between real servers, in the order in which the task manager asks for it (trove/taskmanager/models.py, trove/taskmanager/manager.py).

use std::time::Duration;

use serde_json::{Value, json};
use trove_guestagent::managers::{DatastoreManager, replication};
use trove_guestagent::model::{Release, ReplicaInfo};
use trove_guestagent::strategies::replication::ReplicationStrategy;

use crate::support::{Guest, logged, run, values};

pub(crate) fn strategy(guest: &Guest) -> &dyn ReplicationStrategy {
    guest.manager.replication().unwrap()
}

/// What a source tells the controller, with this machine's one address in place of the guest's.
pub(crate) async fn context(source: &Guest) -> Value {
    let mut context = Value::Object(replication::context(&source.op, &source.manager, Release::Train).await.unwrap());
    context["master"]["host"] = json!("127.0.0.1");
    context
}

pub(crate) async fn attach(replica: &Guest, source: &Guest) -> trove_guestagent::Result<()> {
    let info: ReplicaInfo = serde_json::from_value(context(source).await).unwrap();
    // As Train renders replica.config.template.
    let config = values(json!({"slave-read-only": "yes", "repl-diskless-sync": "yes", "repl-diskless-sync-delay": 0}));
    replication::attach(&replica.op, &replica.manager, &info, Some(&config)).await
}

pub(crate) async fn wait_for_value(guest: &Guest, key: &str, wanted: &str) {
    let arrived = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            look.tick().await;
            // A string, or nil while it is not there.
            if let Ok(redis::Value::BulkString(value)) = guest.try_ask(&["GET", key]).await
                && value == wanted.as_bytes()
            {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrived).await.unwrap_or_else(|_| panic!("{key} never became {wanted} on {}", guest.dir));
}

#[test]
fn a_replica_follows_detaches_and_is_promoted() {
    run(async {
        let (old, new, other) = (Guest::prepared("old", "").await, Guest::prepared("new", "").await, Guest::prepared("other", "").await);
        assert!(!strategy(&old).needs_backup() && strategy(&old).name() == "RedisSyncReplication");
        old.ask(&["SET", "x", "before"]).await;
        new.ask(&["SET", "stale", "1"]).await;
        strategy(&old).enable_as_source(&old.op, Some(&values(json!({"repl-backlog-size": "2mb"})))).await.unwrap();
        assert_eq!(old.parameter("repl-backlog-size").await, (2 << 20).to_string());
        for replica in [&new, &other] {
            attach(replica, &old).await.unwrap();
            assert_eq!((replica.ask(&["GET", "x"]).await.as_str(), replica.ask(&["EXISTS", "stale"]).await.as_str()), ("before", "0"));
            assert_eq!(replica.as_user(None, &["SET", "y", "1"]).await.unwrap_err().code(), Some("READONLY"));
        }
        // Replicas stay replicas over restarts of agent and server.
        let new = new.agent_again();
        new.manager.stop(&new.op).await.unwrap();
        new.manager.start(&new.op).await.unwrap();
        old.ask(&["SET", "x", "later"]).await;
        wait_for_value(&new, "x", "later").await;

        // promote_to_replica_source: the old source is fenced, the candidate catches up, is detached, and the others follow it.
        strategy(&old).set_read_only(&old.op, true).await.unwrap();
        assert_eq!(old.as_user(None, &["SET", "x", "lost"]).await.unwrap_err().code(), Some("NOREPLICAS"));
        let latest = strategy(&old).latest_transaction(&old.op).await.unwrap();
        assert!(strategy(&old).transaction_on_wire(latest.clone()).is_u64());
        strategy(&new).wait_for_transaction(&new.op, &latest).await.unwrap();
        assert_eq!(strategy(&new).detach(&new.op, true).await.unwrap(), Value::Null);
        assert!(new.as_user(None, &["SET", "x", "early"]).await.is_err(), "a candidate is writable before its time");
        strategy(&new).enable_as_source(&new.op, None).await.unwrap();
        attach(&old, &new).await.unwrap();
        strategy(&new).set_read_only(&new.op, false).await.unwrap();
        strategy(&other).detach(&other.op, true).await.unwrap();
        attach(&other, &new).await.unwrap();
        strategy(&old).demote(&old.op).await.unwrap();
        new.as_user(None, &["SET", "x", "promoted"]).await.unwrap();
        for replica in [&old, &other] {
            wait_for_value(replica, "x", "promoted").await;
            let last = strategy(replica).last_transaction(&replica.op).await.unwrap();
            assert!(last.0.as_deref() == Some("127.0.0.1") && last.1 > 0);
        }
        assert_eq!(strategy(&new).last_transaction(&new.op).await.unwrap().0, None);

        // Detached for good: it stands alone, and writes.
        strategy(&other).detach(&other.op, false).await.unwrap();
        other.as_user(None, &["SET", "x", "mine"]).await.unwrap();
        let other = other.agent_again();
        other.manager.stop(&other.op).await.unwrap();
        other.manager.start(&other.op).await.unwrap();
        assert_eq!(strategy(&other).last_transaction(&other.op).await.unwrap().0, None);
        for guest in [old, new, other] {
            guest.remove().await;
        }
    });
}

#[test]
fn a_password_goes_with_the_context_and_not_into_the_log() {
    run(async {
        let (source, replica) = (Guest::prepared("closed", "").await, Guest::prepared("follower", "").await);
        assert!(context(&source).await["master"]["requirepass"].is_null());
        source.manager.root().unwrap().enable(&source.op, Some("planted-replica".into())).await.unwrap();
        assert_eq!(context(&source).await["master"]["requirepass"], "planted-replica");
        source.ask(&["SET", "x", "1"]).await;
        attach(&replica, &source).await.unwrap();
        // The controller enables it on the source, and then on each replica.
        replica.manager.root().unwrap().enable(&replica.op, Some("planted-replica".into())).await.unwrap();
        source.ask(&["SET", "x", "2"]).await;
        wait_for_value(&replica, "x", "2").await;
        // Detached, the replica still logs in to others with the password it has itself.
        strategy(&replica).detach(&replica.op, false).await.unwrap();
        assert_eq!(replica.parameter("masterauth").await, "planted-replica");
        assert!(!logged().contains("planted-replica"), "the log shows the password");
        source.remove().await;
        replica.remove().await;
    });
}

#[test]
fn who_cannot_follow_is_what_it_was() {
    run(async {
        let guest = Guest::prepared("alone", "").await;
        guest.ask(&["SET", "x", "1"]).await;
        let before = guest.file();
        let nobody = json!({"master": {"host": "127.0.0.1", "port": 1, "requirepass": null}});
        let info: ReplicaInfo = serde_json::from_value(nobody).unwrap();
        let op = guest.op.clone().for_at_most(Some(Duration::from_secs(5)));
        let error = replication::attach(&op, &guest.manager, &info, None).await.unwrap_err().to_string();
        assert!(error.contains("source is not reached"), "{error}");
        assert_eq!(guest.file(), before);
        guest.as_user(None, &["SET", "x", "2"]).await.unwrap();
        // Another datastore's source.
        let info: ReplicaInfo =
            serde_json::from_value(json!({"master": {"host": "127.0.0.1", "port": 1}, "replication_strategy": "MysqlGTIDReplication"}))
                .unwrap();
        let error = replication::attach(&guest.op, &guest.manager, &info, None).await.unwrap_err();
        assert_eq!(error.trove_class().class, "IncompatibleReplicationStrategy");
        // An offset that is never reached.
        let op = guest.op.clone().for_at_most(Some(Duration::from_secs(3)));
        let error = strategy(&guest).wait_for_transaction(&op, "999999999999").await.unwrap_err().to_string();
        assert!(error.contains("of 999999999999"), "{error}");
        assert!(strategy(&guest).wait_for_transaction(&op, "0-1-5").await.is_err());
        guest.remove().await;
    });
}
