//! Configuration groups: in the file, and in the running server.

use serde_json::json;
use trove_guestagent::codec::{Document, OptionFile};
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::configuration::Group;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::model::{Overrides, ServiceStatus};

use crate::support::{BASE, Guest, request, with_both};

fn values(value: serde_json::Value) -> Overrides {
    serde_json::from_value(value).unwrap()
}

async fn global(guest: &Guest, name: &'static str) -> String {
    guest.column(SqlText::new("SELECT CAST(@@GLOBAL.").raw(name).raw(" AS CHAR)")).await[0].clone().unwrap()
}

#[test]
fn groups_are_written_checked_merged_and_removed() {
    with_both(|root| async move {
        let guest = Guest::new(root, "groups", |_| ());
        let mut prepare = request(BASE);
        prepare.overrides = Some(values(json!({"max_connections": 123, "lock_wait_timeout": 44})));
        guest.manager.prepare_server(&guest.op, &prepare).await.unwrap();
        assert_eq!((global(&guest, "max_connections").await, global(&guest, "lock_wait_timeout").await), ("123".into(), "44".into()));

        let (op, config) = (&guest.op, guest.manager.config().unwrap());
        let file = guest.dir.join("etc/conf.d/20-user-001-common.cnf");
        let before = std::fs::read_to_string(&file).unwrap();
        for bad in [
            json!({"no_such_option": 1}),
            json!({"max_connections": "many"}),
            json!({"datadir": "/x"}),
            json!({"data-dir": "/x"}),
            json!({"wait_timeout": 99, "max_connections": 99_999_999, "lock_wait_timeout": 50}),
            json!({"sql_mode": "NONSENSE"}),
            json!({"default_storage_engine": "NOPE"}),
            json!({"character_set_server": "nope"}),
            json!({"x\n[client]": 1}),
            json!({"wait_timeout": "1\nx"}),
        ] {
            let refused = config.update(op, &values(bad.clone()), false).await;
            assert!(refused.is_err(), "{bad}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
        }
        config.update(op, &values(json!({"max_connections": 123, "wait_timeout": 99})), false).await.unwrap();
        guest.manager.stop(op).await.unwrap();
        guest.manager.start_with_configuration(op, &BASE.replace("max_connections = 200", "max_connections = 77")).await.unwrap();
        assert_eq!((global(&guest, "max_connections").await, global(&guest, "wait_timeout").await), ("123".into(), "99".into()));
        config.update(op, &values(json!({})), true).await.unwrap();
        assert!(!file.exists());
        // As Kilo sends it.
        config.update(op, &Overrides::Text("[mysqld]\nmax_connections = 55\n".into()), false).await.unwrap();
        guest.manager.reset_configuration(op, BASE).await.unwrap();
        guest.manager.stop(op).await.unwrap();
        guest.manager.start(op).await.unwrap();
        assert_eq!(global(&guest, "max_connections").await, "55");
        let left: Vec<_> = guest.dir.join("etc").read_dir_utf8().unwrap().flatten().map(|entry| entry.file_name().to_owned()).collect();
        assert!(left.iter().all(|name| !name.starts_with(".trove")), "{left:?}");
        guest.remove().await;
    });
}

#[test]
fn variables_are_set_all_or_none() {
    with_both(|root| async move {
        let guest = Guest::new(root, "variables", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        let (op, config) = (&guest.op, guest.manager.config().unwrap());
        let good = json!({"max_connections": "150", "key_buffer_size": "16M", "local_infile": true, "long_query_time": 0.5, "init_connect": "SET @x = 'it''s'"});
        config.apply(op, &values(good)).await.unwrap();
        assert_eq!(global(&guest, "max_connections").await, "150");
        assert_eq!(global(&guest, "key_buffer_size").await, (16 << 20).to_string());
        assert_eq!(global(&guest, "long_query_time").await, "0.500000");
        assert_eq!(global(&guest, "init_connect").await, "SET @x = 'it''s'");
        for bad in [
            json!({"max_connections": 60, "port": 1}),
            json!({"init_connect": "x", "sql_mode": "NONSENSE"}),
            json!({"max_connections": 60, "no_such": 1}),
        ] {
            config.apply(op, &values(bad)).await.unwrap_err();
            assert_eq!(global(&guest, "max_connections").await, "150");
            assert_eq!(global(&guest, "init_connect").await, "SET @x = 'it''s'");
        }
        guest.remove().await;
    });
}

/// The variables of the running server that a test looks at.
async fn globals(guest: &Guest, names: &[&'static str]) -> Vec<String> {
    let mut values = Vec::new();
    for name in names {
        values.push(global(guest, name).await);
    }
    values
}

const LOOKED_AT: [&str; 6] = ["max_connections", "lock_wait_timeout", "long_query_time", "init_connect", "sort_buffer_size", "sql_mode"];

#[test]
fn a_detached_group_is_gone_from_file_and_server() {
    with_both(|root| async move {
        let guest = Guest::new(root, "detach", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        let (op, config) = (&guest.op, guest.manager.config().unwrap());
        let base = globals(&guest, &LOOKED_AT).await;
        // Two are in the base file, the others are the server's defaults.
        let group = json!({
            "max_connections": 150, "sort_buffer_size": "2M", "lock_wait_timeout": 44, "long_query_time": 0.5,
            "init_connect": "SET @x = 'a # b'", "sql_mode": "ANSI_QUOTES",
        });
        config.update(op, &values(group.clone()), false).await.unwrap();
        assert_eq!(globals(&guest, &LOOKED_AT).await, base, "update writes, apply sets");
        config.apply(op, &values(group)).await.unwrap();
        let set = ["150", "44", "0.500000", "SET @x = 'a # b'", "2097152", "ANSI_QUOTES"];
        assert_eq!(globals(&guest, &LOOKED_AT).await, set);

        // What a changed group has no longer goes back at once, the rest stays.
        config.update(op, &values(json!({"max_connections": 151, "long_query_time": 0.5})), false).await.unwrap();
        let changed = globals(&guest, &LOOKED_AT).await;
        assert_eq!((changed[0].as_str(), changed[2].as_str()), ("150", "0.500000"));
        assert_eq!((&changed[1], &changed[3..]), (&base[1], &base[3..]));

        config.update(op, &values(json!({})), true).await.unwrap();
        assert_eq!(globals(&guest, &LOOKED_AT).await, base);
        assert_eq!(guest.manager.status().probe(op).await, ServiceStatus::Running);
        guest.manager.stop(op).await.unwrap();
        guest.manager.start(op).await.unwrap();
        assert_eq!(globals(&guest, &LOOKED_AT).await, base);
        guest.remove().await;
    });
}

#[test]
fn what_needs_a_restart_is_told_until_there_was_one() {
    with_both(|root| async move {
        let guest = Guest::new(root, "pending", |_| ());
        let mut prepare = request(BASE);
        prepare.overrides = Some(values(json!({"back_log": 77, "innodb_log_buffer_size": "9M", "ft_min_word_len": 3})));
        guest.manager.prepare_server(&guest.op, &prepare).await.unwrap();
        let (op, config) = (&guest.op, guest.manager.config().unwrap());
        assert_eq!(guest.manager.status().probe(op).await, ServiceStatus::Running);
        assert_eq!(global(&guest, "ft_min_word_len").await, "3");
        config.update(op, &values(json!({})), true).await.unwrap();
        assert_eq!(guest.manager.status().probe(op).await, ServiceStatus::RestartRequired);
        // The agent's own restart does not make it untrue; the server's does.
        assert_eq!(guest.agent_again().manager.status().probe(op).await, ServiceStatus::RestartRequired);
        guest.manager.stop(op).await.unwrap();
        guest.manager.start(op).await.unwrap();
        assert_eq!(guest.manager.status().probe(op).await, ServiceStatus::Running);
        assert_eq!(global(&guest, "ft_min_word_len").await, "4");

        // Kilo applies everything, dynamic or not: the dynamic part is in effect, the rest waits.
        let mixed = json!({"ft_min_word_len": 2, "max_connections": 111});
        config.update(op, &Overrides::Text("[mysqld]\nft_min_word_len = 2\nmax_connections = 111\n".into()), false).await.unwrap();
        config.apply(op, &values(mixed)).await.unwrap();
        assert_eq!(globals(&guest, &["ft_min_word_len", "max_connections"]).await, ["4", "111"]);
        assert_eq!(guest.manager.status().probe(op).await, ServiceStatus::RestartRequired);
        // Something else is changed meanwhile; what waits is taken back, and waits no more.
        config.apply(op, &values(json!({"max_connections": 112}))).await.unwrap();
        assert_eq!(guest.manager.status().probe(op).await, ServiceStatus::RestartRequired);
        config.update(op, &Overrides::Text("[mysqld]\nmax_connections = 111\n".into()), false).await.unwrap();
        assert_eq!(guest.manager.status().probe(op).await, ServiceStatus::Running);

        // Its detachment comes with the template's values. They are not held fast: a later template may have others.
        config.update(op, &Overrides::Text("[mysqld]\nmax_connections = 200\n".into()), true).await.unwrap();
        assert!(!guest.dir.join("etc/conf.d/20-user-001-common.cnf").exists());
        assert_eq!(globals(&guest, &["ft_min_word_len", "max_connections"]).await, ["4", "200"]);
        guest.remove().await;
    });
}

#[test]
fn layers_never_overwrite_one_another() {
    with_both(|root| async move {
        let guest = Guest::new(root, "layers", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        let (op, config, manager) = (&guest.op, guest.manager.config().unwrap(), &guest.manager);
        let before = OptionFile::parse("[mysqld]\nlong_query_time = 3\nlog_output = TABLE\n");
        let after = OptionFile::parse("[mysqld]\nmax_allowed_packet = 8M\nlock_wait_timeout = 70\n");
        assert!(manager.change_system(op, Group::SystemBeforeUser, "enable_slow_query_log", Some(before)).await.unwrap().is_empty());
        assert!(manager.change_system(op, Group::System, "tls", Some(after)).await.unwrap().is_empty());
        let names = ["long_query_time", "log_output", "max_allowed_packet", "lock_wait_timeout", "wait_timeout"];
        assert_eq!(globals(&guest, &names).await, ["3.000000", "TABLE", "8388608", "70", "120"]);

        // The user's group wins over the defaults of the agent, and not over what the agent needs.
        let group = values(json!({"long_query_time": 2, "lock_wait_timeout": 50, "wait_timeout": 99}));
        config.update(op, &group, false).await.unwrap();
        manager.stop(op).await.unwrap();
        manager.start_with_configuration(op, &BASE.replace("wait_timeout = 120", "wait_timeout = 121")).await.unwrap();
        assert_eq!(globals(&guest, &names).await, ["2.000000", "TABLE", "8388608", "70", "99"]);
        let files = || {
            let directory = guest.dir.join("etc/conf.d");
            let mut names: Vec<_> = directory.read_dir_utf8().unwrap().flatten().map(|entry| entry.file_name().to_owned()).collect();
            names.sort_unstable();
            names
        };
        let system = "50-system-001-common.cnf";
        let all = ["10-system-001-enable_slow_query_log.cnf", "20-user-001-common.cnf", system, "50-system-002-tls.cnf"];
        assert_eq!(files(), all);
        manager.reset_configuration(op, BASE).await.unwrap();
        assert_eq!(files(), all);

        config.update(op, &values(json!({})), true).await.unwrap();
        assert_eq!(globals(&guest, &names).await, ["3.000000", "TABLE", "8388608", "70", "120"]);
        // A refused change of the system's leaves everything as it was, too.
        let bad = OptionFile::parse("[mysqld]\nlong_query_time = 1\nlog_output = NONSENSE\n");
        manager.change_system(op, Group::SystemBeforeUser, "enable_slow_query_log", Some(bad)).await.unwrap_err();
        assert!(manager.change_system(op, Group::System, "tls", None).await.unwrap().is_empty());
        assert_eq!(globals(&guest, &names[..2]).await, ["3.000000", "TABLE"]);
        assert_ne!(global(&guest, "lock_wait_timeout").await, "70");
        assert_eq!(files(), [all[0], system]);
        guest.remove().await;
    });
}
