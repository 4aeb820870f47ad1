//! Users and what they may do.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use trove_guestagent::model::{PasswordChange, UserAttributes};
use trove_guestagent::system::postgresql::SqlText;

use crate::support::{Guest, logged, page, run, shared, user};

fn names<T>(items: &[T], name: impl Fn(&T) -> &str) -> Vec<String> {
    items.iter().map(|item| name(item).to_owned()).collect()
}

async fn access(guest: &Guest, name: &str) -> Vec<String> {
    names(&guest.users().list_access(&guest.op, name, Some("%")).await.unwrap(), |database| &database.name)
}

#[test]
fn users_work_in_their_databases_and_in_no_others() {
    run(async {
        let guest = shared().await;
        guest.create_databases(&["ua1", "ua2"]).await;
        guest.users().create(&guest.op, &[user("alice", "pw1", &["ua1"]), user("bob", "pw2", &[])]).await.unwrap();
        let made =
            guest.as_user("alice", "pw1", "ua1", "CREATE TABLE t (id serial, x int); INSERT INTO t (x) VALUES (7); SELECT x FROM t").await;
        assert_eq!(made, Ok(vec!["7".to_owned()]));
        assert!(guest.as_user("alice", "pw1", "ua2", "SELECT 1").await.unwrap_err().contains("permission denied"));
        assert!(guest.as_user("bob", "pw2", "ua1", "SELECT 1").await.unwrap_err().contains("permission denied"));
        // What is there already is for the new one, too.
        guest.users().grant_access(&guest.op, "bob", Some("%"), &["ua1".into(), "ua2".into()]).await.unwrap();
        assert_eq!(
            guest.as_user("bob", "pw2", "ua1", "INSERT INTO t (x) VALUES (8); SELECT count(*) FROM t").await,
            Ok(vec!["2".to_owned()])
        );
        assert_eq!(
            (access(guest, "alice").await, access(guest, "bob").await),
            (vec!["ua1".to_owned()], vec!["ua1".to_owned(), "ua2".into()])
        );
        guest.users().revoke_access(&guest.op, "bob", None, "ua1").await.unwrap();
        assert_eq!(access(guest, "bob").await, ["ua2"]);
        assert!(guest.as_user("bob", "pw2", "ua1", "SELECT 1").await.is_err());
        let error = guest.users().revoke_access(&guest.op, "bob", None, "ua1").await.unwrap_err();
        assert_eq!(error.trove_class().class, "NotFound");
        // Name and password change together; what was granted stays.
        let attributes = UserAttributes { name: Some("alicia".into()), host: None, password: Some("pw3".into()) };
        guest.users().update_attributes(&guest.op, "alice", Some("%"), &attributes).await.unwrap();
        assert!(guest.as_user("alicia", "pw1", "ua1", "SELECT 1").await.is_err());
        assert_eq!(guest.as_user("alicia", "pw3", "ua1", "SELECT x FROM t ORDER BY 1 LIMIT 1").await, Ok(vec!["7".to_owned()]));
        let change = PasswordChange { name: "alicia".into(), host: Some("%".into()), password: "pw4".into() };
        guest.users().change_passwords(&guest.op, &[change]).await.unwrap();
        assert!(guest.as_user("alicia", "pw4", "ua1", "SELECT 1").await.is_ok());
        // A user that owns tables can be deleted; the tables stay.
        guest.users().delete(&guest.op, &user("alicia", "", &[])).await.unwrap();
        assert!(guest.users().get(&guest.op, "alicia", None).await.unwrap().is_none());
        let session = guest.manager.client().session_in(&guest.op, "ua1").await.unwrap();
        let count = session.texts(&guest.op, "test", &SqlText::new("SELECT count(*) FROM public.t")).await.unwrap();
        assert_eq!(count, ["2"]);
        for secret in ["pw1", "pw2", "pw3", "pw4"] {
            assert!(!logged().contains(&format!("'{secret}'")));
        }
    });
}

#[test]
fn callers_are_told_what_is_wrong() {
    run(async {
        let guest = shared().await;
        guest.create_databases(&["uc1"]).await;
        guest.users().create(&guest.op, &[user("carol", "pw", &["uc1"])]).await.unwrap();
        let class = |result: Result<(), trove_guestagent::Error>| result.unwrap_err().trove_class().class;
        let users = guest.users();
        assert_eq!(class(users.create(&guest.op, &[user("dora", "pw", &[]), user("carol", "pw", &[])]).await), "BadRequest");
        assert_eq!(class(users.create(&guest.op, &[user("dora", "pw", &["no_such"])]).await), "NotFound");
        assert_eq!(class(users.create(&guest.op, &[user("dora", "pw", &[]), user("dora", "pw", &[])]).await), "BadRequest");
        assert_eq!(class(users.create(&guest.op, &[user("os_admin", "pw", &[])]).await), "ValueError");
        assert_eq!(class(users.create(&guest.op, &[user("dora", "", &[])]).await), "ValueError");
        let mut elsewhere = user("dora", "pw", &[]);
        elsewhere.host = Some("192.0.2.1".into());
        assert_eq!(class(users.create(&guest.op, &[elsewhere]).await), "ValueError");
        // None of them is half there.
        assert!(users.get(&guest.op, "dora", None).await.unwrap().is_none());
        assert_eq!(class(users.delete(&guest.op, &user("nobody", "", &[])).await), "NotFound");
        assert_eq!(class(users.delete(&guest.op, &user("postgres", "", &[])).await), "ValueError");
        assert_eq!(class(users.grant_access(&guest.op, "carol", None, &["postgres".into()]).await), "BadRequest");
        assert_eq!(class(users.grant_access(&guest.op, "carol", None, &["no_such".into()]).await), "NotFound");
        assert_eq!(class(users.grant_access(&guest.op, "nobody", None, &["uc1".into()]).await), "NotFound");
        assert_eq!(class(users.list_access(&guest.op, "postgres", None).await.map(drop)), "BadRequest");
        let rename = UserAttributes { name: Some("pg_carol".into()), host: None, password: None };
        assert_eq!(class(users.update_attributes(&guest.op, "carol", None, &rename).await), "ValueError");
    });
}

/// Names of any characters that the rules allow, up to the server's limit in bytes.
fn hostile_name() -> impl Strategy<Value = String> {
    let piece =
        prop_oneof!["['\"\\\\;`$%_ -]", "[a-zA-Z0-9]", "\\PC", Just("--".to_owned()), Just("@%".to_owned()), Just("$do$".to_owned())];
    proptest::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat()).prop_filter("a rule forbids it", |name| {
        name.len() < 60 && !name.ends_with(char::is_whitespace) && !name.chars().any(char::is_control) && !name.starts_with("pg_")
    })
}

#[test]
fn hostile_names_mean_themselves() {
    run(async {
        let guest = shared().await;
        let mut runner = TestRunner::deterministic();
        for round in 0..12 {
            let name = format!("{round}{}", hostile_name().new_tree(&mut runner).unwrap().current());
            let password = format!("pw{}", hostile_name().new_tree(&mut runner).unwrap().current());
            guest.create_databases(&[&name]).await;
            guest.users().create(&guest.op, &[user(&name, &password, &[&name])]).await.unwrap();
            assert_eq!(access(guest, &name).await, std::slice::from_ref(&name));
            let who = guest.as_user(&name, &password, &name, "SELECT current_user || '/' || current_database()").await;
            assert_eq!(who, Ok(vec![format!("{name}/{name}")]));
            let key = format!("{name}@%");
            let found = guest.users().list(&guest.op, &page(Some(1), Some(&key), true)).await.unwrap();
            assert_eq!((found.items[0].name.as_str(), found.items[0].databases.len()), (name.as_str(), 1));
            guest.users().revoke_access(&guest.op, &name, None, &name).await.unwrap();
            guest.users().delete(&guest.op, &user(&name, "", &[])).await.unwrap();
            guest.databases().delete(&guest.op, &trove_guestagent::model::DatabaseSpec::named(&name)).await.unwrap();
        }
    });
}

#[test]
fn ten_thousand_users_come_in_pages_and_in_order() {
    run(async {
        let guest = Guest::prepared("many", "").await;
        guest.create_databases(&["shop"]).await;
        let make = SqlText::new("DO $do$ BEGIN FOR i IN 1..10000 LOOP EXECUTE format('CREATE ROLE %I LOGIN', 'user' || i); ")
            .raw("IF i % 100 = 0 THEN EXECUTE format('GRANT ALL ON DATABASE shop TO %I', 'user' || i); END IF; END LOOP; END $do$");
        guest.rows(&make).await;
        let (mut seen, mut marker, mut granted) = (Vec::new(), None::<String>, 0);
        loop {
            let found = guest.users().list(&guest.op, &page(Some(999), marker.as_deref(), false)).await.unwrap();
            granted += found.items.iter().filter(|user| !user.databases.is_empty()).count();
            seen.extend(names(&found.items, |user| &user.name));
            marker = found.next_marker;
            if marker.is_none() {
                break;
            }
        }
        let keys: Vec<String> = seen.iter().map(|name| format!("{name}@%")).collect();
        assert!(keys.is_sorted());
        assert_eq!((seen.len(), granted), (10_000, 100));
        assert_eq!(guest.users().list(&guest.op, &page(None, None, false)).await.unwrap().items.len(), 10_000);
        guest.remove().await;
    });
}
