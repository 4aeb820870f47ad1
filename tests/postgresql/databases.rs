//! Databases.

use trove_guestagent::model::DatabaseSpec;

use crate::support::{page, run, shared};

#[test]
fn databases_are_made_listed_in_pages_and_dropped() {
    run(async {
        let guest = shared().await;
        let latin = DatabaseSpec { name: "db_latin".into(), character_set: Some("LATIN1".into()), collate: Some("C".into()) };
        let mysql = DatabaseSpec { name: "db_mysql".into(), character_set: Some("utf8".into()), collate: Some("utf8_general_ci".into()) };
        guest.databases().create(&guest.op, &[latin, mysql]).await.unwrap();
        guest.create_databases(&["db_a", "db_B", "db_\u{e9}", "db_a"]).await;
        let all = guest.databases().list(&guest.op, &page(None, None, false)).await.unwrap();
        let ours: Vec<&DatabaseSpec> = all.items.iter().filter(|database| database.name.starts_with("db_")).collect();
        let names: Vec<&str> = ours.iter().map(|database| database.name.as_str()).collect();
        assert_eq!(names, ["db_B", "db_a", "db_latin", "db_mysql", "db_\u{e9}"]);
        assert_eq!((ours[2].character_set.as_deref(), ours[2].collate.as_deref()), (Some("LATIN1"), Some("C")));
        assert_eq!((ours[3].character_set.as_deref(), ours[3].collate.as_deref()), (Some("UTF8"), Some("C.UTF-8")));
        assert!(all.items.iter().all(|database| !["postgres", "template0", "template1"].contains(&database.name.as_str())));
        let first = guest.databases().list(&guest.op, &page(Some(2), Some("db_B"), true)).await.unwrap();
        assert_eq!((first.items[0].name.as_str(), first.items.len(), first.next_marker.as_deref()), ("db_B", 2, Some("db_a")));
        let next = guest.databases().list(&guest.op, &page(Some(1), first.next_marker.as_deref(), false)).await.unwrap();
        assert_eq!(next.items[0].name, "db_latin");
        // A session in it is no obstacle.
        let session = guest.manager.client().session_in(&guest.op, "db_a").await.unwrap();
        for name in names {
            guest.databases().delete(&guest.op, &DatabaseSpec::named(name)).await.unwrap();
        }
        drop(session);
        let error = guest.databases().delete(&guest.op, &DatabaseSpec::named("db_a")).await.unwrap_err();
        assert_eq!(error.trove_class().class, "NotFound");
    });
}

#[test]
fn what_cannot_be_made_is_refused_before_anything_is() {
    run(async {
        let guest = shared().await;
        let bad = |name: &str, character_set: Option<&str>, collate: Option<&str>| DatabaseSpec {
            name: name.into(),
            character_set: character_set.map(str::to_owned),
            collate: collate.map(str::to_owned),
        };
        for spec in [
            bad("", None, None),
            bad("a\nb", None, None),
            bad("postgres", None, None),
            bad("template1", None, None),
            bad(&"x".repeat(64), None, None),
            bad("fine", Some("klingon"), None),
            bad("fine", None, Some("x'; DROP")),
        ] {
            let error = guest.databases().create(&guest.op, &[DatabaseSpec::named("never_made"), spec]).await.unwrap_err();
            assert_eq!(error.trove_class().class, "ValueError", "{error}");
        }
        let all = guest.databases().list(&guest.op, &page(None, None, false)).await.unwrap();
        assert!(all.items.iter().all(|database| database.name != "never_made"));
        for name in ["postgres", "template0"] {
            assert!(guest.databases().delete(&guest.op, &DatabaseSpec::named(name)).await.is_err());
        }
    });
}
