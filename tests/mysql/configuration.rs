//! Configuration groups: in the file, and in the running server.

use serde_json::json;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::model::Overrides;

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
            json!({"x\n[client]": 1}),
            json!({"wait_timeout": "1\nx"}),
        ] {
            let refused = config.update(op, &values(bad.clone()), false).await;
            assert!(refused.is_err(), "{bad}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
        }
        config.update(op, &values(json!({"wait_timeout": 99})), false).await.unwrap();
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
            let error = config.apply(op, &values(bad)).await.unwrap_err();
            assert!(error.database_code().is_some(), "{error}");
            assert_eq!(global(&guest, "max_connections").await, "150");
            assert_eq!(global(&guest, "init_connect").await, "SET @x = 'it''s'");
        }
        guest.remove().await;
    });
}
