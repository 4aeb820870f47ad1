//! Users, their grants, and lists of them.

use std::collections::BTreeSet;

use trove_guestagent::Error;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::managers::{DatabaseAdmin, DatastoreManager, UserAdmin};
use trove_guestagent::model::{DatabaseSpec, PageRequest, PasswordChange, UserAttributes};

use crate::support::{BASE, Guest, logged, on_both, request, user, with_both};

fn users(guest: &Guest) -> &dyn UserAdmin {
    guest.manager.users().unwrap()
}

fn databases(guest: &Guest) -> &dyn DatabaseAdmin {
    guest.manager.databases().unwrap()
}

fn names(list: &[DatabaseSpec]) -> Vec<&str> {
    list.iter().map(|database| database.name.as_str()).collect()
}

async fn accounts(guest: &Guest) -> Vec<Option<String>> {
    guest.column(SqlText::new("SELECT CONCAT(User, '@', Host) FROM mysql.user ORDER BY 1")).await
}

#[test]
fn a_user_lives_and_dies() {
    on_both(|guest| async move {
        let (op, admin) = (&guest.op, users(guest));
        databases(guest).create(op, &[DatabaseSpec::named("life_db")]).await.unwrap();
        admin.create(op, &[user("life", None, "planted-Pw1 😀", &["life_db"])]).await.unwrap();
        guest.sql_as("life", "planted-Pw1 😀", SqlText::new("CREATE TABLE life_db.t (x INT)")).await.unwrap();
        let again = admin.create(op, &[user("life", Some("%"), "other", &[])]).await.unwrap_err();
        assert_eq!(again.to_string(), "Cannot create user: user life@% exists already.");

        let found = admin.get(op, "life", None).await.unwrap().unwrap();
        assert_eq!((found.host.as_deref(), names(&found.databases), found.password.is_none()), (Some("%"), vec!["life_db"], true));
        let change = PasswordChange { name: "life".into(), host: None, password: "planted-Pw2".into() };
        admin.change_passwords(op, &[change]).await.unwrap();
        guest.sql_as("life", "planted-Pw1 😀", SqlText::new("SELECT 1")).await.unwrap_err();
        guest.sql_as("life", "planted-Pw2", SqlText::new("SELECT 1")).await.unwrap();

        let attributes = UserAttributes { name: Some("life2".into()), host: None, password: Some("planted-Pw3".into()) };
        admin.update_attributes(op, "life", Some("%"), &attributes).await.unwrap();
        guest.sql_as("life2", "planted-Pw3", SqlText::new("SELECT * FROM life_db.t")).await.unwrap();
        let to_host = UserAttributes { host: Some("192.0.2.%".into()), ..UserAttributes::default() };
        admin.update_attributes(op, "life2", None, &to_host).await.unwrap();
        assert_eq!(names(&admin.list_access(op, "life2", Some("192.0.2.%")).await.unwrap()), ["life_db"]);

        admin.delete(op, &user("life2", Some("192.0.2.%"), "", &[])).await.unwrap();
        let gone = admin.delete(op, &user("life2", Some("192.0.2.%"), "", &[])).await.unwrap_err();
        assert_eq!(gone.to_string(), "User life2@192.0.2.% cannot be found on the instance.");
        assert!(admin.get(op, "life2", Some("192.0.2.%")).await.unwrap().is_none());
        assert!(!logged().contains("planted-Pw"), "the log shows a password");
    });
}

#[test]
fn unknown_and_reserved_users_are_errors_of_their_own() {
    on_both(|guest| async move {
        let (op, admin) = (&guest.op, users(guest));
        // Other tests have accounts of other names meanwhile.
        let ours = async || {
            let names = ["os_admin@", "root@", "ROOT@", "nobody_here@", "no_password@", "first_of_two@", "bad"];
            let all = accounts(guest).await.into_iter().flatten();
            all.filter(|account| names.iter().any(|name| account.starts_with(name))).collect::<Vec<_>>()
        };
        let before = ours().await;
        let nobody = |result: Result<(), Error>| assert!(matches!(result, Err(Error::NotFound { .. })), "{result:?}");
        nobody(admin.grant_access(op, "nobody_here", None, &["some_db".into()]).await);
        nobody(admin.revoke_access(op, "nobody_here", None, "some_db").await);
        nobody(admin.list_access(op, "nobody_here", None).await.map(drop));
        nobody(admin.update_attributes(op, "nobody_here", None, &UserAttributes::default()).await);
        nobody(admin.change_passwords(op, &[PasswordChange { name: "nobody_here".into(), host: None, password: "pass".into() }]).await);
        for name in ["os_admin", "root", "ROOT"] {
            assert!(matches!(admin.create(op, &[user(name, None, "pass", &[])]).await, Err(Error::InvalidValue { .. })));
            assert!(matches!(admin.delete(op, &user(name, Some("localhost"), "", &[])).await, Err(Error::InvalidValue { .. })));
            assert!(matches!(admin.get(op, name, None).await, Err(Error::BadRequest { .. })));
        }
        assert!(admin.create(op, &[user("no_password", None, "", &[])]).await.is_err());
        // The second one is refused: the first must not be there.
        assert!(admin.create(op, &[user("first_of_two", None, "pass", &[]), user("bad'", None, "pass", &[])]).await.is_err());
        assert!(admin.create(op, &[user("first_of_two", None, "pass", &["mysql"])]).await.is_err());
        assert_eq!(ours().await, before);
    });
}

#[test]
fn a_grant_on_a_name_with_wildcards_is_for_that_name_alone() {
    on_both(|guest| async move {
        let (op, admin) = (&guest.op, users(guest));
        let specs: Vec<_> = ["wa_b", "waxb", "wac"].into_iter().map(DatabaseSpec::named).collect();
        databases(guest).create(op, &specs).await.unwrap();
        guest.sql(SqlText::new("CREATE TABLE wa_b.t (x INT)")).await;
        guest.sql(SqlText::new("CREATE TABLE waxb.t (x INT)")).await;
        admin.create(op, &[user("wild", None, "pass1", &[])]).await.unwrap();
        admin.grant_access(op, "wild", None, &["wa_b".into(), "wac".into()]).await.unwrap();
        guest.sql_as("wild", "pass1", SqlText::new("SELECT * FROM wa_b.t")).await.unwrap();
        let denied = guest.sql_as("wild", "pass1", SqlText::new("SELECT * FROM waxb.t")).await.unwrap_err();
        assert_eq!(denied.database_code(), Some(1142));
        assert_eq!(names(&admin.list_access(op, "wild", None).await.unwrap()), ["wa_b", "wac"]);
        admin.revoke_access(op, "wild", None, "wa_b").await.unwrap();
        assert_eq!(names(&admin.list_access(op, "wild", None).await.unwrap()), ["wac"]);
        guest.sql_as("wild", "pass1", SqlText::new("SELECT * FROM wa_b.t")).await.unwrap_err();
        assert!(matches!(admin.revoke_access(op, "wild", None, "wa_b").await, Err(Error::NotFound { .. })));
        // What the Python agent granted, without escapes, is shown and taken back too.
        guest.sql(SqlText::new("GRANT ALL ON `wa_b`.* TO wild@`%`")).await;
        assert_eq!(names(&admin.list_access(op, "wild", None).await.unwrap()), ["wa_b", "wac"]);
        admin.revoke_access(op, "wild", None, "wa_b").await.unwrap();
        assert_eq!(names(&admin.list_access(op, "wild", None).await.unwrap()), ["wac"]);
        let refused = admin.grant_access(op, "wild", None, &["wac".into(), "mysql".into()]).await.unwrap_err();
        assert_eq!(refused.to_string(), "Grant access to mysql is not allowed");
    });
}

#[test]
fn hostile_names_are_taken_exactly_or_refused_and_nothing_else_is_touched() {
    on_both(|guest| async move {
        let (op, admin) = (&guest.op, users(guest));
        let long = "y".repeat(300);
        let hostile = [
            "h'x",
            "h\"x",
            "h`x",
            "h\0x",
            "h\\x",
            "h😀x",
            long.as_str(),
            "h%x",
            "h_x",
            "h\u{202e}x",
            " hx",
            "hx ",
            "h x",
            "h\tx",
            "h@x",
            "hüx",
            "h;x",
            "h--x",
            "h*x",
            "ユーザー",
        ];
        let mut expected = accounts(guest).await;
        for name in hostile {
            match admin.create(op, &[user(name, None, "pass1", &[])]).await {
                Ok(()) => {
                    expected.push(Some(format!("{name}@%")));
                    guest.sql_as(name, "pass1", SqlText::new("SELECT 1")).await.unwrap();
                    assert_eq!(admin.get(op, name, None).await.unwrap().unwrap().name, name);
                    let page = PageRequest { limit: Some(1), marker: Some(format!("{name}@%")), include_marker: true };
                    assert_eq!(admin.list(op, &page).await.unwrap().items[0].name, name);
                }
                Err(error) => assert!(matches!(error, Error::InvalidValue { .. }), "{name:?}: {error}"),
            }
            for password in ["p'x", "p\\", " p", "p\0"] {
                let error = admin.create(op, &[user("refused", None, password, &[])]).await.unwrap_err();
                assert!(matches!(error, Error::InvalidValue { .. }), "{error}");
            }
            let found = accounts(guest).await;
            // Other tests create accounts meanwhile: only those of this test's shape are compared.
            let ours = |list: &[Option<String>]| {
                let shaped = list
                    .iter()
                    .flatten()
                    .filter(|name| name.trim_start().starts_with(['h', 'ユ', 'y', 'r']))
                    .filter(|name| !name.starts_with("ro"));
                shaped.cloned().collect::<BTreeSet<_>>()
            };
            assert_eq!(ours(&found), ours(&expected), "after {name:?}");
        }
        for name in hostile {
            if admin.get(op, name, None).await.is_ok_and(|found| found.is_some()) {
                admin.delete(op, &user(name, None, "", &[])).await.unwrap();
            }
        }
    });
}

#[test]
fn ten_thousand_users_are_paged_in_order_and_each_once() {
    with_both(|root| async move {
        let guest = Guest::new(root, "many", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        let mut session = guest.manager.client().session(&guest.op).await.unwrap();
        let mut expected = Vec::new();
        for chunk in 0..20 {
            let mut sql = SqlText::new("CREATE USER ");
            for index in 0..500 {
                // Upper and lower case, so that a collation that folds them would show.
                let name = format!("{}{:05}", if index % 2 == 0 { "U" } else { "u" }, chunk * 500 + index);
                sql = sql.raw(if index == 0 { "" } else { ", " }).literal(&name).raw("@'%'");
                expected.push(name);
            }
            session.run(&guest.op, "create", &sql).await.unwrap();
        }
        session.run(&guest.op, "grant", &SqlText::new("GRANT ALL ON `a\\_b`.* TO 'U00000'@'%'")).await.unwrap();
        session.close().await;
        expected.sort();
        let mut found = Vec::new();
        let mut page = PageRequest { limit: Some(999), ..PageRequest::default() };
        loop {
            let got = users(&guest).list(&guest.op, &page).await.unwrap();
            assert!(got.items.len() <= 999);
            found.extend(got.items.iter().map(|user| user.name.clone()));
            if found.len() == 999 {
                assert_eq!(names(&got.items[0].databases), ["a_b"]);
            }
            match got.next_marker {
                Some(marker) => page.marker = Some(marker),
                None => break,
            }
        }
        assert_eq!(found, expected);
        let all = users(&guest).list(&guest.op, &PageRequest::default()).await.unwrap();
        assert_eq!((all.items.len(), all.next_marker), (10_000, None));
        let one = PageRequest { limit: Some(1), marker: Some("u00001@%".into()), include_marker: true };
        assert_eq!(users(&guest).list(&guest.op, &one).await.unwrap().next_marker.as_deref(), Some("u00001@%"));
        guest.remove().await;
    });
}

#[test]
fn roles_and_local_accounts_are_not_listed() {
    on_both(|guest| async move {
        if guest.root == crate::support::Root::MariaDb {
            guest.sql(SqlText::new("CREATE ROLE zz_role")).await;
        }
        guest.sql(SqlText::new("CREATE USER zz_local@localhost")).await;
        let page = PageRequest { limit: None, marker: Some("zz_".into()), include_marker: true };
        let listed = users(guest).list(&guest.op, &page).await.unwrap();
        assert!(listed.items.iter().all(|user| user.name != "zz_role" && user.name != "zz_local"), "{:?}", listed.items);
        assert!(users(guest).get(&guest.op, "zz_local", Some("localhost")).await.unwrap().is_none());
    });
}
