//! What is quoted comes back from the server as it was, whatever it holds.

use std::collections::BTreeSet;

use trove_guestagent::error::Error;
use trove_guestagent::system::postgresql::{Ident, MAX_NAME, SqlText};

use crate::hostile::{CASES, hostile, samples};
use crate::support::{Guest, run, shared, user};

#[test]
fn every_string_comes_back() {
    run(async {
        let guest = shared().await;
        let session = guest.manager.client().session(&guest.op).await.unwrap();
        for value in samples(hostile()) {
            let sql = SqlText::new("SELECT ").literal(&value).raw(", 'untouched'");
            match session.rows(&guest.op, "read", &sql).await {
                Ok(rows) => assert_eq!(rows, [[Some(value), Some("untouched".to_owned())]]),
                // No string of this server's holds it: nothing is sent.
                Err(error) => assert!(value.contains('\0'), "{value:?}: {error}"),
            }
        }
        assert_eq!(session.texts(&guest.op, "read", &SqlText::new("SELECT 1")).await.unwrap(), ["1"]);
    });
}

#[test]
fn every_name_comes_back() {
    run(async {
        let guest = shared().await;
        let session = guest.manager.client().session(&guest.op).await.unwrap();
        let mut kept = 0;
        for name in samples(hostile()) {
            let Ok(ident) = Ident::new(&name) else {
                assert!(name.is_empty() || name.len() > MAX_NAME || name.contains('\0'), "{name:?}");
                continue;
            };
            // A cursor by its name, which the server's own catalogue tells again.
            let sql = SqlText::new("BEGIN; DECLARE ").ident(&ident).raw(" CURSOR FOR SELECT 1; SELECT name FROM pg_cursors; ROLLBACK");
            assert_eq!(session.texts(&guest.op, "read", &sql).await.unwrap(), [name.as_str()]);
            kept += 1;
        }
        assert!(kept > CASES / 4, "only {kept} names were tried");
    });
}

/// Settings of the server, of a role or of a database do not change what a session of the agent's reads.
#[test]
fn sessions_do_not_depend_on_the_servers_settings() {
    run(async {
        let guest = Guest::prepared("modes", "").await;
        for setting in [
            "ALTER SYSTEM SET standard_conforming_strings = off",
            "ALTER SYSTEM SET backslash_quote = on",
            "ALTER SYSTEM SET escape_string_warning = off",
            "ALTER ROLE os_admin SET standard_conforming_strings = off",
            "ALTER DATABASE postgres SET search_path = public",
        ] {
            guest.rows(&SqlText::new(setting)).await;
        }
        guest.rows(&SqlText::new("SELECT pg_reload_conf()")).await;
        for value in ["a\\' \" ` \\\\ 😀", "\\'; DROP ROLE os_admin; --", "$$ $1 \\"] {
            let read = guest.rows(&SqlText::new("SELECT ").literal(value)).await;
            assert_eq!(read, [[Some(value.to_owned())]]);
        }
        guest.remove().await;
    });
}

async fn names(guest: &Guest, sql: &'static str) -> BTreeSet<String> {
    guest.rows(&SqlText::new(sql)).await.into_iter().flatten().flatten().collect()
}

/// Any text at all as the name of a user and of a database, and as a password.
#[test]
fn hostile_names_are_taken_exactly_or_refused_and_nothing_else_is_touched() {
    run(async {
        let guest = Guest::prepared("hostile", "").await;
        let (roles, databases) = ("SELECT rolname FROM pg_roles", "SELECT datname FROM pg_database");
        let (roles_before, databases_before) = (names(&guest, roles).await, names(&guest, databases).await);
        let (mut taken, mut refused) = (0, 0);
        // A database takes its time.
        for (round, text) in samples(hostile()).into_iter().step_by(CASES / 40).enumerate() {
            let (name, password) = (format!("h{round}{text}"), format!("p{text}"));
            match guest.users().create(&guest.op, &[user(&name, &password, &[])]).await {
                Ok(()) => {
                    taken += 1;
                    let expected = roles_before.iter().cloned().chain([name.clone()]).collect();
                    assert_eq!(names(&guest, roles).await, expected);
                    assert_eq!(guest.as_user(&name, &password, "postgres", "SELECT current_user").await, Ok(vec![name.clone()]));
                    guest.create_databases(&[&name]).await;
                    let expected = databases_before.iter().cloned().chain([name.clone()]).collect();
                    assert_eq!(names(&guest, databases).await, expected);
                    guest.users().grant_access(&guest.op, &name, None, std::slice::from_ref(&name)).await.unwrap();
                    let who = guest.as_user(&name, &password, &name, "SELECT current_database()").await;
                    assert_eq!(who, Ok(vec![name.clone()]));
                    guest.databases().delete(&guest.op, &trove_guestagent::model::DatabaseSpec::named(&name)).await.unwrap();
                    guest.users().delete(&guest.op, &user(&name, "", &[])).await.unwrap();
                }
                Err(error) => {
                    refused += 1;
                    assert!(matches!(error, Error::InvalidValue { .. }), "{name:?}: {error}");
                    assert!(!error.to_string().contains(&password), "{error}");
                }
            }
            assert_eq!((names(&guest, roles).await, names(&guest, databases).await), (roles_before.clone(), databases_before.clone()));
        }
        assert!(taken > 5 && refused > 5, "{taken} were taken, {refused} refused");
        guest.remove().await;
    });
}
