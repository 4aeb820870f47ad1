//! Base configuration and configuration groups.

use serde_json::{Value, json};
use trove_guestagent::managers::{ConfigGroups, DatastoreManager};
use trove_guestagent::model::{Overrides, ServiceStatus};
use trove_guestagent::system::postgresql::SqlText;

use crate::support::{Guest, run};

fn values(value: Value) -> Overrides {
    serde_json::from_value(value).unwrap()
}

fn groups(guest: &Guest) -> &dyn ConfigGroups {
    guest.manager.config().unwrap()
}

async fn restart(guest: &Guest) {
    guest.manager.stop(&guest.op).await.unwrap();
    guest.manager.start(&guest.op).await.unwrap();
}

/// All files of the configuration.
fn files(guest: &Guest) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for directory in ["etc", "etc/conf.d"] {
        for entry in guest.dir.join(directory).read_dir_utf8().unwrap().flatten().filter(|entry| entry.path().is_file()) {
            found.push((entry.path().to_string(), std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_group_is_applied_kept_and_taken_back_and_what_needs_a_restart_says_so() {
    run(async {
        let guest = Guest::prepared("groups", "work_mem = 5MB\n").await;
        let group = values(json!({"work_mem": "7MB", "log_min_duration_statement": 250, "max_connections": 55, "autovacuum": false}));
        groups(&guest).update(&guest.op, &group, false).await.unwrap();
        assert_eq!(guest.parameter("work_mem").await, "5MB");
        groups(&guest).apply(&guest.op, &group).await.unwrap();
        assert_eq!(guest.parameter("work_mem").await, "7MB");
        assert_eq!(guest.parameter("log_min_duration_statement").await, "250ms");
        assert_eq!((guest.parameter("autovacuum").await, guest.parameter("max_connections").await), ("off".into(), "100".into()));
        guest.until(ServiceStatus::RestartRequired).await;
        restart(&guest).await;
        guest.until(ServiceStatus::Running).await;
        assert_eq!(guest.parameter("max_connections").await, "55");
        // Agent, server and flavor may change: the group stays.
        let again = guest.agent_again();
        again.manager.start_with_configuration(&again.op, &again.base("work_mem = 6MB\nmaintenance_work_mem = 20MB\n")).await.unwrap();
        assert_eq!((again.parameter("work_mem").await, again.parameter("maintenance_work_mem").await), ("7MB".into(), "20MB".into()));
        // Taken back in the running server, as far as that goes.
        groups(&again).update(&again.op, &values(json!({})), true).await.unwrap();
        assert_eq!((again.parameter("work_mem").await, again.parameter("autovacuum").await), ("6MB".into(), "on".into()));
        assert_eq!(again.parameter("max_connections").await, "55");
        again.until(ServiceStatus::RestartRequired).await;
        restart(&again).await;
        assert_eq!(again.parameter("max_connections").await, "100");
        again.until(ServiceStatus::Running).await;
        again.remove().await;
    });
}

#[test]
fn a_restart_that_is_wanted_no_more_is_not_required_any_more() {
    run(async {
        let guest = Guest::prepared("back", "").await;
        let group = values(json!({"max_connections": 70}));
        groups(&guest).update(&guest.op, &group, false).await.unwrap();
        groups(&guest).apply(&guest.op, &group).await.unwrap();
        guest.until(ServiceStatus::RestartRequired).await;
        groups(&guest).update(&guest.op, &values(json!({})), true).await.unwrap();
        guest.until(ServiceStatus::Running).await;
        guest.remove().await;
    });
}

#[test]
fn what_the_server_does_not_take_changes_nothing() {
    run(async {
        let guest = Guest::prepared("bad", "").await;
        let before = files(&guest);
        for bad in [
            json!({"no_such_parameter": 1}),
            json!({"work_mem": "banana"}),
            json!({"max_connections": 0}),
            json!({"wal_level": "maximal"}),
            json!({"work_mem": "6MB", "log_destination": "nowhere"}),
            json!({"data_directory": "/tmp"}),
            json!({"PORT": 1}),
            json!({"include": "/etc/shadow"}),
            json!({"work_mem": null}),
        ] {
            let error = groups(&guest).update(&guest.op, &values(bad.clone()), false).await.unwrap_err();
            assert!(matches!(error.trove_class().class, "BadRequest" | "ValueError"), "{bad}: {error}");
            assert_eq!(files(&guest), before, "{bad}");
        }
        let error = guest.manager.reset_configuration(&guest.op, &guest.base("work_mem = banana\n")).await.unwrap_err().to_string();
        assert!(error.contains("invalid value for parameter \"work_mem\": \"banana\""), "{error}");
        assert_eq!(files(&guest), before);
        let error = groups(&guest).apply(&guest.op, &values(json!({"work_mem": "9MB"}))).await.unwrap_err().to_string();
        assert!(error.contains("does not have 'work_mem'"), "{error}");
        // The server has stopped in good order, and what stops it from starting is told.
        guest.manager.stop(&guest.op).await.unwrap();
        let file = guest.dir.join("etc/postgresql.conf");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}shared_buffers = none\n")).unwrap();
        let error = guest.manager.start(&guest.op).await.unwrap_err().to_string();
        assert!(error.contains("shared_buffers"), "{error}");
        std::fs::write(&file, text).unwrap();
        guest.remove().await;
    });
}

#[test]
fn parameters_of_other_versions_in_a_base_are_left_out() {
    run(async {
        let unknown: String = (0..20).map(|number| format!("parameter_of_tomorrow_{number} = {number}\n")).collect();
        let guest = Guest::prepared(
            "unknown",
            &format!("{unknown}my.own = 'kept'\nlc_messages = 'xx_YY.utf8'\ninclude_dir = 'conf.d'\nwork_mem = 8MB\n"),
        )
        .await;
        assert_eq!((guest.parameter("work_mem").await, guest.parameter("my.own").await), ("8MB".into(), "kept".into()));
        let text = std::fs::read_to_string(guest.dir.join("etc/postgresql.conf")).unwrap();
        assert!(
            !text.contains("tomorrow")
                && !text.contains("xx_YY")
                && text.starts_with("# rendered\n")
                && text.matches("include_dir").count() == 1,
            "{text}"
        );
        guest.remove().await;
    });
}

#[test]
fn what_slots_keep_of_the_log_follows_the_size_of_the_volume() {
    run(async {
        let guest = Guest::prepared("volume", "").await;
        let (bound, file) = ("max_slot_wal_keep_size", guest.dir.join("etc/conf.d/10-system-005-kept-log.conf"));
        let of_this_volume = guest.parameter(bound).await;
        assert_ne!(of_this_volume, "-1");
        // As written on a smaller one.
        let smaller = async || {
            std::fs::write(&file, "max_slot_wal_keep_size = '65MB'\n").unwrap();
            guest.rows(&SqlText::new("SELECT pg_reload_conf()")).await;
        };
        smaller().await;
        let pid = guest.pid().await;
        guest.manager.volume_grown(&guest.op).await.unwrap();
        assert_eq!((guest.parameter(bound).await, guest.pid().await), (of_this_volume.clone(), pid));
        smaller().await;
        restart(&guest).await;
        assert_eq!(guest.parameter(bound).await, of_this_volume);
        // A user's own value is the user's.
        let group = values(json!({"max_slot_wal_keep_size": "70MB"}));
        groups(&guest).update(&guest.op, &group, false).await.unwrap();
        restart(&guest).await;
        guest.manager.volume_grown(&guest.op).await.unwrap();
        assert_eq!(guest.parameter(bound).await, "70MB");
        guest.remove().await;
    });
}
