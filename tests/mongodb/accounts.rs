//! Databases, users, roles and root.

use mongodb::bson::doc;
use secrecy::ExposeSecret;
use trove_guestagent::error::{Error, Result};
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::model::{DatabaseSpec, PageRequest, PasswordChange, UserAttributes, UserSpec};

use crate::support::{Guest, logged, run};

pub(crate) fn user(name: &str, password: &str, databases: &[&str]) -> UserSpec {
    let databases: Vec<_> = databases.iter().map(|name| serde_json::json!({"_name": name})).collect();
    serde_json::from_value(serde_json::json!({"_name": name, "_password": password, "_host": "%", "_databases": databases})).unwrap()
}

pub(crate) fn names(users: &[UserSpec]) -> Vec<&str> {
    users.iter().map(|user| user.name.as_str()).collect()
}

fn page(limit: usize, marker: Option<&str>, include_marker: bool) -> PageRequest {
    PageRequest { limit: Some(limit), marker: marker.map(str::to_owned), include_marker }
}

async fn writes(guest: &Guest, login: (&str, &str, &str), database: &str) -> Result<()> {
    let session = guest.user(Some(login)).await?;
    session.run(&guest.op, "test", database, doc! {"insert": "c", "documents": [{}]}).await.map(drop)
}

fn is_unauthorized(outcome: Result<()>) -> bool {
    matches!(outcome, Err(Error::Database { code: Some(13), .. }))
}

#[test]
fn users_have_names_of_their_databases_and_roles_in_others() {
    run(async {
        let guest = Guest::prepared("users").await;
        let (op, users) = (&guest.op, guest.manager.users().unwrap());
        let secret = "planted-Pa$$wörd\"'\\";
        users.create(op, &[user("a.u", secret, &["a", "b"]), user("a.u.v", "p1", &[]), user("b.u", "p2", &["b"])]).await.unwrap();
        writes(&guest, ("a", "u", secret), "b").await.unwrap();
        assert!(is_unauthorized(writes(&guest, ("a", "u", secret), "c").await));
        assert!(is_unauthorized(writes(&guest, ("b", "u", "p2"), "a").await));
        // Get, and pages, with a controller's question whether there is somebody.
        let found = users.get(op, "a.u", None).await.unwrap().unwrap();
        let databases: Vec<_> = found.databases.iter().map(|database| database.name.as_str()).collect();
        assert_eq!((databases, found.host.as_deref(), found.password.is_none()), (vec!["a", "b"], Some("%"), true));
        assert!(
            users.get(op, "a.nobody", None).await.unwrap().is_none() && users.get(op, "a.u", Some("10.0.0.1")).await.unwrap().is_none()
        );
        let first = users.list(op, &page(2, None, false)).await.unwrap();
        assert_eq!((names(&first.items), first.next_marker.as_deref()), (vec!["a.u", "a.u.v"], Some("a.u.v@%")));
        let rest = users.list(op, &page(2, first.next_marker.as_deref(), false)).await.unwrap();
        assert_eq!((names(&rest.items), rest.next_marker), (vec!["b.u"], None));
        let asked = users.list(op, &page(1, Some("a.u.v@%"), true)).await.unwrap();
        assert_eq!(names(&asked.items), ["a.u.v"]);
        // Access.
        users.grant_access(op, "a.u.v", None, &["c".into(), "a".into()]).await.unwrap();
        writes(&guest, ("a", "u.v", "p1"), "c").await.unwrap();
        users.revoke_access(op, "a.u.v", None, "c").await.unwrap();
        assert!(is_unauthorized(writes(&guest, ("a", "u.v", "p1"), "c").await));
        assert!(matches!(users.revoke_access(op, "a.u.v", None, "c").await, Err(Error::NotFound { .. })));
        let access = users.list_access(op, "a.u.v", None).await.unwrap();
        assert_eq!(access, [DatabaseSpec::named("a")]);
        // Passwords, and a new name, which takes the roles along.
        let change = |name: &str, password: &str| PasswordChange { name: name.into(), host: None, password: password.into() };
        assert!(matches!(users.change_passwords(op, &[change("b.u", "p3"), change("b.none", "p3")]).await, Err(Error::NotFound { .. })));
        writes(&guest, ("b", "u", "p2"), "b").await.unwrap();
        users.change_passwords(op, &[change("b.u", "planted-p3")]).await.unwrap();
        assert!(writes(&guest, ("b", "u", "p2"), "b").await.is_err());
        writes(&guest, ("b", "u", "planted-p3"), "b").await.unwrap();
        let attributes = |name: Option<&str>, password: Option<&str>| UserAttributes {
            name: name.map(str::to_owned),
            host: None,
            password: password.map(Into::into),
        };
        let renamed = users.update_attributes(op, "b.u", None, &attributes(Some("c.w"), None)).await.unwrap_err().to_string();
        assert!(renamed.contains("Send a new password"), "{renamed}");
        users.update_attributes(op, "b.u", None, &attributes(Some("c.w"), Some("planted-p4"))).await.unwrap();
        writes(&guest, ("c", "w", "planted-p4"), "b").await.unwrap();
        assert!(users.get(op, "b.u", None).await.unwrap().is_none());
        users.delete(op, &user("c.w", "", &[])).await.unwrap();
        assert!(matches!(users.delete(op, &user("c.w", "", &[])).await, Err(Error::NotFound { .. })));
        assert!(!logged().contains("planted"), "the log shows a password");
        guest.remove().await;
    });
}

#[test]
fn bad_names_get_clear_errors_and_nothing_is_done() {
    run(async {
        let guest = Guest::prepared("bad").await;
        let (op, users, databases) = (&guest.op, guest.manager.users().unwrap(), guest.manager.databases().unwrap());
        for (bad, words) in [
            (user("nodot", "p", &[]), "not in <database>.<username> format"),
            (user(".u", "p", &[]), "missing database"),
            (user("admin.os_admin", "p", &[]), "reserved list"),
            (user("a.u", "p", &["x y"]), "not a valid schema name"),
            (user("a.u", "p", &["local"]), "reserved list"),
            (user("$external.u", "p", &[]), "not a valid schema name"),
            (user("a.u", "", &[]), "must not be empty"),
        ] {
            let error = users.create(op, &[user("good.u", "p", &[]), bad]).await.unwrap_err();
            assert!(matches!(error, Error::InvalidValue { .. }) && error.to_string().contains(words), "{error}");
        }
        let twice = users.create(op, &[user("a.u", "p", &[]), user("a.u", "p", &[])]).await.unwrap_err();
        assert!(matches!(twice, Error::BadRequest { .. }), "{twice}");
        assert!(users.list(op, &PageRequest::default()).await.unwrap().items.is_empty());
        for (name, words) in [("a/b", "not a valid schema name"), ("Config", "reserved list"), ("", "empty")] {
            let error = databases.create(op, &[DatabaseSpec::named("good"), DatabaseSpec::named(name)]).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(databases.list(op, &PageRequest::default()).await.unwrap().items.is_empty());
        for reserved in ["admin.os_admin", "admin.root"] {
            assert!(users.get(op, reserved, None).await.is_err() && users.delete(op, &user(reserved, "", &[])).await.is_err());
            assert!(users.grant_access(op, reserved, None, &["a".into()]).await.is_err());
        }
        guest.remove().await;
    });
}

/// Names with everything in them that means something to somebody: to the server, to its query language, to paths.
#[test]
fn hostile_names_are_refused_or_come_back_as_they_were() {
    run(async {
        let guest = Guest::prepared("hostile").await;
        let (op, users) = (&guest.op, guest.manager.users().unwrap());
        let parts = [
            "$where",
            "{\"$gt\": \"\"}",
            "a'b\"c",
            "..",
            "a@%",
            "%",
            "@%@%",
            " ",
            "\u{202e}x",
            "ß.ẞ",
            "\u{1f600}",
            "\\",
            "../../etc",
            "x\u{7f}",
            "é",
            "e\u{301}",
        ];
        let mut taken = Vec::new();
        for part in parts {
            let name = format!("h.{part}");
            match users.create(op, &[user(&name, "planted-hostile", &["h"])]).await {
                Ok(()) => taken.push(name),
                Err(Error::InvalidValue { .. }) => {}
                Err(error) => panic!("{name:?}: {error}"),
            }
        }
        assert!(taken.len() >= parts.len() - 3, "{taken:?}");
        // One page a user, by the markers that are given.
        let (mut listed, mut marker) = (Vec::new(), None);
        loop {
            let page = users.list(op, &page(1, marker.as_deref(), false)).await.unwrap();
            listed.extend(page.items.into_iter().map(|user| user.name));
            marker = page.next_marker;
            if marker.is_none() {
                break;
            }
        }
        taken.sort_unstable();
        assert_eq!(listed, taken);
        for name in &taken {
            let login = ("h", name.strip_prefix("h.").unwrap(), "planted-hostile");
            writes(&guest, login, "h").await.unwrap();
            users.delete(op, &user(name, "", &[])).await.unwrap();
        }
        assert!(users.list(op, &PageRequest::default()).await.unwrap().items.is_empty());
        assert!(!logged().contains("planted-hostile"));
        guest.remove().await;
    });
}

#[test]
fn databases_come_in_pages_and_go() {
    run(async {
        let guest = Guest::prepared("databases").await;
        let (op, databases) = (&guest.op, guest.manager.databases().unwrap());
        let specs: Vec<_> = ["b", "a", "c-d'é"].map(DatabaseSpec::named).into();
        databases.create(op, &specs).await.unwrap();
        databases.create(op, &specs).await.unwrap();
        let first = databases.list(op, &page(2, None, false)).await.unwrap();
        assert_eq!(
            (first.items.as_slice(), first.next_marker.as_deref()),
            ([DatabaseSpec::named("a"), DatabaseSpec::named("b")].as_slice(), Some("b"))
        );
        let rest = databases.list(op, &page(2, Some("b"), true)).await.unwrap();
        assert_eq!((rest.items.len(), rest.next_marker), (2, None));
        guest.ask("a", doc! {"insert": "c", "documents": [{"x": 1}]}).await;
        databases.delete(op, &specs[1]).await.unwrap();
        assert!(matches!(databases.delete(op, &specs[1]).await, Err(Error::NotFound { .. })));
        assert!(databases.delete(op, &DatabaseSpec::named("admin")).await.is_err());
        assert_eq!(databases.list(op, &PageRequest::default()).await.unwrap().items.len(), 2);
        guest.remove().await;
    });
}

#[test]
fn root_is_off_until_enabled_and_can_be_disabled() {
    run(async {
        let guest = Guest::prepared("root").await;
        let (op, root) = (&guest.op, guest.manager.root().unwrap());
        assert!(!root.is_enabled(op).await.unwrap());
        let made = root.enable(op, None).await.unwrap();
        let password = made.password.unwrap();
        assert_eq!((made.name.as_str(), made.is_root), ("admin.root", true));
        let session = guest.user(Some(("admin", "root", password.expose_secret()))).await.unwrap();
        session.run(op, "test", "x", doc! {"createUser": "y", "pwd": "z", "roles": ["readWrite"]}).await.unwrap();
        root.enable(op, Some("planted-root".into())).await.unwrap();
        assert!(guest.user(Some(("admin", "root", password.expose_secret()))).await.is_err());
        guest.user(Some(("admin", "root", "planted-root"))).await.unwrap();
        assert!(root.is_enabled(op).await.unwrap());
        // It is never listed.
        let listed = guest.manager.users().unwrap().list(op, &PageRequest::default()).await.unwrap();
        assert_eq!(names(&listed.items), ["x.y"]);
        root.disable(op).await.unwrap();
        root.disable(op).await.unwrap();
        assert!(!root.is_enabled(op).await.unwrap() && guest.user(Some(("admin", "root", "planted-root"))).await.is_err());
        assert!(root.enable(op, Some("".into())).await.is_err());
        assert!(!logged().contains("planted-root") && !logged().contains(password.expose_secret()));
        guest.remove().await;
    });
}
