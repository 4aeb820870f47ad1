//! Configuration groups and base configurations.

use mongodb::bson::{Bson, doc};
use serde_json::json;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::model::{Overrides, ServiceStatus};

use crate::support::{Guest, run, values};

#[test]
fn a_group_takes_effect_at_once_where_the_server_can_and_waits_where_it_cannot() {
    run(async {
        let guest = Guest::prepared("group").await;
        let (op, groups) = (&guest.op, guest.manager.config().unwrap());
        let at_once = values(
            json!({"systemLog.verbosity": 1, "setParameter.cursorTimeoutMillis": 123_456, "operationProfiling.slowOpThresholdMs": 77}),
        );
        groups.update(op, &at_once, false).await.unwrap();
        groups.apply(op, &at_once).await.unwrap();
        assert_eq!(
            (guest.parameter("logLevel").await, guest.parameter("cursorTimeoutMillis").await),
            (Bson::Int32(1), Bson::Int64(123_456))
        );
        assert_eq!(guest.ask("admin", doc! {"profile": -1}).await.get_i32("slowms").unwrap(), 77);
        guest.becomes(ServiceStatus::Running).await;
        // One that is read at the start only, by the file's words and by the server's.
        let waits = values(
            json!({"systemLog.verbosity": 1, "net.maxIncomingConnections": 321, "setParameter.wiredTigerSessionCloseIdleTimeSecs": 5,
            "setParameter.connPoolMaxConnsPerHost": 50}),
        );
        groups.update(op, &waits, false).await.unwrap();
        groups.apply(op, &waits).await.unwrap();
        guest.becomes(ServiceStatus::RestartRequired).await;
        // Another life of the agent knows it, too; lines of the base are as they were.
        let again = guest.agent_again();
        again.becomes(ServiceStatus::RestartRequired).await;
        assert!(again.file().contains("# small, for tests\n"));
        // Its supervisor goes with it.
        drop(again);
        guest.manager.stop(op).await.unwrap();
        guest.manager.start(op).await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        assert_eq!(
            guest
                .ask("admin", doc! {"getCmdLineOpts": 1})
                .await
                .get_document("parsed")
                .unwrap()
                .get_document("net")
                .unwrap()
                .get_i32("maxIncomingConnections")
                .unwrap(),
            321
        );
        assert_eq!(guest.parameter("cursorTimeoutMillis").await, Bson::Int64(600_000));
        guest.manager.config().unwrap().update(op, &Overrides::Text(String::new()), true).await.unwrap();
        guest.becomes(ServiceStatus::RestartRequired).await;
        assert!(!guest.file().contains("321"));
        guest.remove().await;
    });
}

#[test]
fn what_the_server_refuses_changes_nothing() {
    run(async {
        let guest = Guest::prepared("refuse").await;
        let (op, groups) = (&guest.op, guest.manager.config().unwrap());
        let good = values(json!({"systemLog.verbosity": 1}));
        groups.update(op, &good, false).await.unwrap();
        let before = guest.file();
        for (bad, words) in [
            (json!({"no.such.option": 1}), "no.such.option"),
            (json!({"net.maxIncomingConnections": "many"}), "maxIncomingConnections"),
            (json!({"net.port": 1}), "belongs to the guest agent"),
            (json!({"security.authorization": "disabled"}), "belongs to the guest agent"),
            (json!({"storage": {"dbPath": "/etc"}}), "belongs to the guest agent"),
        ] {
            let error = groups.update(op, &values(bad), false).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(guest.file(), before);
        let error = groups.apply(op, &values(json!({"systemLog.quiet": true}))).await.unwrap_err().to_string();
        assert!(error.contains("does not have 'systemLog.quiet'"), "{error}");
        // All or nothing: the second value is refused by the running server.
        let half = values(json!({"setParameter.cursorTimeoutMillis": 5_000, "setParameter.ttlMonitorSleepSecs": -1}));
        let outcome = groups.update(op, &half, false).await;
        let outcome = if outcome.is_ok() { groups.apply(op, &half).await } else { outcome };
        assert!(outcome.is_err());
        assert_eq!(guest.parameter("cursorTimeoutMillis").await, Bson::Int64(600_000));
        guest.remove().await;
    });
}

#[test]
fn a_new_base_keeps_the_group_and_the_agents_own_layer() {
    run(async {
        let guest = Guest::prepared("base").await;
        let op = &guest.op;
        guest.manager.config().unwrap().update(op, &values(json!({"systemLog.verbosity": 2})), false).await.unwrap();
        // As Kilo's controller renders it, with what no server knows any more.
        let kilo = format!(
            "smallfiles = false\ndbpath=/somewhere/else\nlogpath=/var/log/x.log\nlogappend=true\njournal=true\nnoauth = true\nport = {}\nmaxConns = 555\n",
            guest.port
        );
        guest.manager.start_with_configuration(op, &kilo).await.unwrap();
        let parsed = guest.ask("admin", doc! {"getCmdLineOpts": 1}).await.get_document("parsed").unwrap().clone();
        let section = |name: &str| parsed.get_document(name).unwrap();
        assert_eq!(section("storage").get_str("dbPath").unwrap(), guest.dir.join("volume").as_str());
        assert_eq!(
            (section("security").get_str("authorization").unwrap(), section("net").get_i32("maxIncomingConnections").unwrap()),
            ("enabled", 555)
        );
        assert_eq!(guest.parameter("logLevel").await, Bson::Int32(2));
        // A resize: a smaller base again.
        guest.manager.start_with_configuration(op, &guest.base("net.maxIncomingConnections: 99\n")).await.unwrap();
        assert!(guest.file().contains("99") && !guest.file().contains("555"));
        guest.remove().await;
    });
}
