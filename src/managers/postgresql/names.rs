//! Rules about names and passwords: Trove's (trove/common/db/postgresql/models.py) and the server's. Everything is checked before the first statement; what
//! breaks a rule is [`Error::InvalidValue`] in Trove's words.

use secrecy::{ExposeSecret, SecretString};

use crate::config::AccountSettings;
use crate::error::{Error, Result};
use crate::managers::{Descriptor, Reserved};
use crate::system::postgresql::MAX_NAME;

/// Any host: there are no others here.
pub(super) const ANY_HOST: &str = "%";

/// The rules of this guest.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) reserved: Reserved,
}

/// A name no statement, and no dump, has trouble with. `what` is Trove's word for it.
fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(format!("{what} name empty.")));
    }
    if name.len() > MAX_NAME {
        return Err(Error::invalid(format!("{what} name '{}' is too long. Max length = {MAX_NAME}.", name.escape_debug())));
    }
    // pg_dumpall refuses names with line breaks: such a database could not be backed up.
    if name.chars().any(char::is_control) || name.ends_with(char::is_whitespace) {
        return Err(Error::invalid(format!("'{}' is not a valid {} name.", name.escape_debug(), what.to_lowercase())));
    }
    Ok(())
}

impl Rules {
    pub(super) fn new(descriptor: &Descriptor, accounts: &AccountSettings) -> Rules {
        Rules { reserved: Reserved::new(descriptor, accounts) }
    }

    /// A name a new role may have. Those that begin with `pg_` are the server's own, and two are words of its language.
    pub(super) fn check_new_user(&self, name: &str) -> Result<()> {
        check_name("User", name)?;
        if name.starts_with("pg_") || matches!(name, "public" | "none") {
            return Err(Error::invalid(format!("User name \"{name}\" is reserved by the server.")));
        }
        self.reserved.check_user(name)
    }

    /// Roles have no hosts. A caller that means one would get an account for all of them.
    pub(super) fn check_host(host: Option<&str>) -> Result<()> {
        match host {
            None | Some("" | ANY_HOST) => Ok(()),
            Some(host) => Err(Error::invalid(format!(
                "'{}' is not a valid hostname: an account of this datastore may log in from everywhere, and its host is '%'.",
                host.escape_debug()
            ))),
        }
    }

    /// A password an account may have. The error does not show it.
    pub(super) fn check_password(user: &str, password: &SecretString) -> Result<()> {
        let password = password.expose_secret();
        if password.is_empty() || password.contains('\0') {
            return Err(Error::invalid(format!("the password of user {user} is not valid: it must not be empty, or hold NUL")));
        }
        Ok(())
    }

    /// A name a new database may have.
    pub(super) fn check_database(&self, name: &str) -> Result<()> {
        check_name("Schema", name)?;
        self.reserved.check_database(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managers::postgresql::POSTGRESQL;

    fn rules() -> Rules {
        Rules::new(&POSTGRESQL, &AccountSettings::unset())
    }

    #[test]
    fn names_the_server_or_a_dump_cannot_keep_are_refused() {
        let users = rules();
        for good in ["u", "it's", "a\"b", "a;b", " a", "\u{1f600}", "a\\b", "user@host", "--", "$1", &"x".repeat(63)] {
            assert!(users.check_new_user(good).is_ok() && users.check_database(good).is_ok(), "{good}");
        }
        for bad in ["", "a ", "a\nb", "a\0b", "a\tb", &"x".repeat(64), &"é".repeat(32)] {
            assert!(users.check_new_user(bad).is_err() && users.check_database(bad).is_err(), "{bad:?}");
        }
        for reserved in ["pg_x", "public", "none", "OS_admin", "postgres", "root"] {
            assert!(users.check_new_user(reserved).is_err(), "{reserved}");
        }
        assert!(users.check_database("Template1").is_err() && users.check_database("public").is_ok());
    }

    #[test]
    fn a_host_is_refused_rather_than_forgotten() {
        assert!([None, Some(""), Some("%")].into_iter().all(|host| Rules::check_host(host).is_ok()));
        assert!(Rules::check_host(Some("192.0.2.1")).is_err());
    }

    #[test]
    fn a_refused_password_is_not_shown() {
        let error = Rules::check_password("u", &"planted\0".into()).unwrap_err();
        assert!(!error.to_string().contains("planted"), "{error}");
    }
}
