//! Databases.

use trove_guestagent::Error;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::model::{DatabaseSpec, PageRequest};

use crate::support::on_both;

fn spec(name: &str, charset: Option<&str>, collate: Option<&str>) -> DatabaseSpec {
    DatabaseSpec { name: name.into(), character_set: charset.map(str::to_owned), collate: collate.map(str::to_owned) }
}

#[test]
fn databases_are_created_listed_and_dropped() {
    on_both(|guest| async move {
        let (op, admin) = (&guest.op, guest.manager.databases().unwrap());
        let wanted = [
            spec("dd1", None, None),
            spec("dd2", Some("utf8mb4"), Some("utf8mb4_bin")),
            spec("dd3", Some("utf8"), Some("utf8_general_ci")),
            spec("dd4", None, Some("latin1_bin")),
            spec("dd ?#@ 5", Some("latin1"), None),
            spec("DD0", None, None),
        ];
        admin.create(op, &wanted).await.unwrap();
        // Repeatable.
        admin.create(op, &wanted).await.unwrap();
        let page = PageRequest { limit: Some(4), marker: Some("dd".into()), include_marker: true };
        let first = admin.list(op, &page).await.unwrap();
        let rows: Vec<_> =
            first.items.iter().map(|db| (db.name.as_str(), db.character_set.as_deref().unwrap(), db.collate.as_deref().unwrap())).collect();
        assert_eq!(rows[0].0, "dd ?#@ 5");
        assert_eq!(rows[0].1, "latin1");
        assert_eq!(rows[1], ("dd1", "utf8mb3", "utf8mb3_general_ci"));
        assert_eq!(rows[2], ("dd2", "utf8mb4", "utf8mb4_bin"));
        assert_eq!(rows[3], ("dd3", "utf8mb3", "utf8mb3_general_ci"));
        assert_eq!(first.next_marker.as_deref(), Some("dd3"));
        let page = PageRequest { limit: Some(1), marker: first.next_marker, include_marker: false };
        assert_eq!(admin.list(op, &page).await.unwrap().items, [spec("dd4", Some("latin1"), Some("latin1_bin"))]);
        for database in &wanted {
            admin.delete(op, database).await.unwrap();
        }
        assert!(matches!(admin.delete(op, &wanted[0]).await, Err(Error::NotFound { .. })));
    });
}

#[test]
fn what_is_refused_leaves_nothing_behind() {
    on_both(|guest| async move {
        let (op, admin) = (&guest.op, guest.manager.databases().unwrap());
        let long = "x".repeat(300);
        for bad in [
            "",
            "a",
            "q'q",
            "q`q",
            "q\\q",
            "q\0q",
            "q😀q",
            "q%q",
            "q.q",
            " qq",
            "qq ",
            "q\u{202e}q",
            "mysql",
            "SYS",
            "information_schema",
            long.as_str(),
        ] {
            let error = admin.create(op, &[spec("qq_good", None, None), spec(bad, None, None)]).await.unwrap_err();
            assert!(matches!(error, Error::InvalidValue { .. }), "{bad:?}: {error}");
        }
        for (charset, collate) in [(Some("klingon"), None), (None, Some("x' y")), (Some("latin1"), Some("utf8mb4_bin"))] {
            let error = admin.create(op, &[spec("qq_good", None, None), spec("qq_bad", charset, collate)]).await.unwrap_err();
            assert!(matches!(error, Error::InvalidValue { .. }), "{error}");
        }
        for bad in ["mysql", "Performance_Schema", "sys"] {
            assert!(matches!(admin.delete(op, &spec(bad, None, None)).await, Err(Error::InvalidValue { .. })));
        }
        assert_eq!(guest.column(SqlText::new("SHOW DATABASES LIKE 'qq%'")).await, []);
        let listed = admin.list(op, &PageRequest::default()).await.unwrap();
        assert!(listed.items.iter().all(|db| !["mysql", "sys", "information_schema", "performance_schema"].contains(&db.name.as_str())));
    });
}
