//! Rules about names and passwords: Trove's (trove/common/db/mongodb/models.py) and the server's. Everything is checked before the first command; what breaks a
//! rule is [`Error::InvalidValue`] in Trove's words.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::config::AccountSettings;
use crate::error::{Error, Result};
use crate::managers::{Descriptor, Reserved};

/// Any host: users of this datastore have none.
pub(super) const ANY_HOST: &str = "%";
/// Trove's `MongoDBUser._max_user_name_length`.
const MAX_USER: usize = 128;
/// Bytes of a database's name (manual, "MongoDB Limits and Thresholds": fewer than 64).
const MAX_DATABASE: usize = 63;
/// What no name of a database has (manual, the same; Trove's `MongoDBSchema`).
const NOT_IN_DATABASE: &str = "/\\. \"$";

/// A user's whole name: users belong to a database, and Trove writes `<database>.<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UserName {
    pub(super) database: String,
    pub(super) user: String,
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.user)
    }
}

impl UserName {
    /// Reads `<database>.<name>`: the first dot divides, as no database has one in its name.
    ///
    /// # Errors
    /// One of them is missing, or is none that the server takes.
    pub(super) fn parse(name: &str) -> Result<UserName> {
        if name.is_empty() {
            return Err(Error::invalid("User name empty."));
        }
        let shown = name.escape_debug();
        if name.chars().count() > MAX_USER {
            return Err(Error::invalid(format!("User name '{shown}' is too long. Max length = {MAX_USER}.")));
        }
        let Some((database, user)) = name.split_once('.') else {
            return Err(Error::invalid(format!("MongoDB user name \"{shown}\" not in <database>.<username> format.")));
        };
        if database.is_empty() || user.is_empty() {
            let missing = if database.is_empty() { "database" } else { "username" };
            return Err(Error::invalid(format!("MongoDB user's name missing {missing}.")));
        }
        // Of a user the server makes names of its own, which cannot begin with a dot.
        if name.chars().any(char::is_control) || user.starts_with('.') {
            return Err(Error::invalid(format!("'{shown}' is not a valid user name.")));
        }
        check_database_name(database)?;
        Ok(UserName { database: database.to_owned(), user: user.to_owned() })
    }
}

/// A name that a database can have.
fn check_database_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("Schema name empty."));
    }
    let shown = name.escape_debug();
    if name.len() > MAX_DATABASE {
        return Err(Error::invalid(format!("Schema name '{shown}' is too long. Max length = {MAX_DATABASE}.")));
    }
    match name.chars().any(|c| c.is_control() || NOT_IN_DATABASE.contains(c)) {
        true => Err(Error::invalid(format!("'{shown}' is not a valid schema name."))),
        false => Ok(()),
    }
}

/// The rules of this guest.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) reserved: Reserved,
}

impl Rules {
    pub(super) fn new(descriptor: &Descriptor, accounts: &AccountSettings) -> Rules {
        Rules { reserved: Reserved::new(descriptor, accounts) }
    }

    /// A name that a user may have.
    pub(super) fn check_user(&self, name: &str) -> Result<UserName> {
        let parsed = UserName::parse(name)?;
        self.reserved.check_user(name)?;
        if parsed.database == "local" {
            // What is in it is of this member of a replica set alone.
            return Err(Error::invalid("MongoDB has no users in the database \"local\"."));
        }
        Ok(parsed)
    }

    /// A name that a new database may have.
    pub(super) fn check_database(&self, name: &str) -> Result<()> {
        check_database_name(name)?;
        self.reserved.check_database(name)
    }

    /// Users have no hosts. A caller that means one would get a user for all of them.
    pub(super) fn check_host(host: Option<&str>) -> Result<()> {
        match host {
            None | Some("" | ANY_HOST) => Ok(()),
            Some(host) => Err(Error::invalid(format!(
                "'{}' is not a valid hostname: a user of this datastore may log in from everywhere, and its host is '%'.",
                host.escape_debug()
            ))),
        }
    }

    /// A password a user may have. The error does not show it. Drivers prepare passwords (RFC 4013), which has no control characters.
    pub(super) fn check_password(user: &str, password: &SecretString) -> Result<()> {
        let password = password.expose_secret();
        match password.is_empty() || password.chars().any(char::is_control) {
            true => {
                let user = user.escape_debug();
                Err(Error::invalid(format!("the password of user {user} is not valid: it must not be empty, or hold control characters")))
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managers::mongodb::MONGODB;
    use proptest::prelude::*;

    fn rules() -> Rules {
        Rules::new(&MONGODB, &AccountSettings::unset())
    }

    #[test]
    fn names_the_server_cannot_keep_are_refused() {
        let rules = rules();
        for good in ["a.b", "a.b.c", "a.$x", "a.it's \"x\"", "a-b_c.\u{1f600}", "admin.me", "a. ", &format!("{}.u", "x".repeat(63))] {
            let name = rules.check_user(good).unwrap();
            assert_eq!(name.to_string(), good);
        }
        for bad in
            ["", "ab", ".b", "a.", "a b.c", "$external.x", "a/b.c", "a.b\0", "a.b\nc", "a..b", "admin.os_admin", "admin.ROOT", "local.x"]
        {
            assert!(rules.check_user(bad).is_err(), "{bad:?}");
        }
        assert!(
            rules.check_user(&format!("{}.u", "x".repeat(64))).is_err() && rules.check_user(&format!("a.{}", "u".repeat(127))).is_err()
        );
        for bad in ["", "a.b", "a b", "a/b", "a\\b", "a\"b", "a$", "a\0", "Admin", "local", "config", &"é".repeat(32)] {
            assert!(rules.check_database(bad).is_err(), "{bad:?}");
        }
        assert!(["a", "a-b", "a'b", "a:b", &"x".repeat(63)].into_iter().all(|name| rules.check_database(name).is_ok()));
    }

    #[test]
    fn a_host_is_refused_rather_than_forgotten_and_a_password_is_not_shown() {
        assert!([None, Some(""), Some("%")].into_iter().all(|host| Rules::check_host(host).is_ok()));
        assert!(Rules::check_host(Some("192.0.2.1")).is_err());
        let error = Rules::check_password("a.b", &"planted\n".into()).unwrap_err();
        assert!(!error.to_string().contains("planted"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_taken_comes_back(name in "\\PC{0,140}|[a-z]{1,3}\\.\\PC{1,5}") {
            if let Ok(parsed) = rules().check_user(&name) {
                prop_assert_eq!(parsed.to_string(), name);
                prop_assert!(!parsed.database.contains('.'));
            }
        }
    }
}
