//! Rules about names, hosts and passwords: Trove's (trove/common/db/mysql/models.py), with the limits of the running server.
//! Everything is checked before the first statement; what breaks a rule is [`Error::InvalidValue`] in Trove's words.

use std::net::{IpAddr, Ipv4Addr};

use secrecy::{ExposeSecret, SecretString};

use super::flavor::Flavor;
use super::quote::{Account, MAX_DATABASE_NAME};
use crate::config::AccountSettings;
use crate::error::{Error, Result};
use crate::managers::{Descriptor, Reserved};

/// The rules of this guest.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    reserved: Reserved,
    require_valid_ip: bool,
}

/// Python's `'%r' % value` shows a backslash: something in it is not printable, or is a backslash.
fn is_unprintable(value: &str) -> bool {
    // A combining mark is escaped at the start of a string only, and is printable.
    format!("a{value}").escape_debug().any(|c| c == '\\')
}

/// What Trove refuses in user names and passwords.
fn breaks_string_rule(value: &str) -> bool {
    value.is_empty()
        || value.starts_with(char::is_whitespace)
        || value.ends_with(char::is_whitespace)
        || value.contains(['\'', '"', ';', '`', ',', '/', '\\'])
        || is_unprintable(value)
}

impl Rules {
    pub(super) fn new(descriptor: &Descriptor, accounts: &AccountSettings) -> Rules {
        Rules { reserved: Reserved::new(descriptor, accounts), require_valid_ip: accounts.hostname_require_valid_ip }
    }

    /// Reserved accounts, lower case.
    pub(super) fn ignore_users(&self) -> impl Iterator<Item = &str> {
        self.reserved.users()
    }

    /// Reserved databases, lower case.
    pub(super) fn ignore_dbs(&self) -> impl Iterator<Item = &str> {
        self.reserved.databases()
    }

    /// A name a new account may have.
    pub(super) fn check_user_name(&self, name: &str, flavor: Flavor) -> Result<()> {
        let limit = flavor.user_name_limit();
        if name.is_empty() {
            return Err(Error::invalid("User name empty."));
        }
        if name.chars().count() > limit {
            return Err(Error::invalid(format!("User name '{name}' is too long. Max length = {limit}.")));
        }
        // The server keeps names in three bytes per character at most, and would store a question mark.
        if breaks_string_rule(name) || name.chars().any(|c| c > '\u{ffff}') {
            return Err(Error::invalid(format!("'{}' is not a valid user name.", name.escape_debug())));
        }
        Ok(())
    }

    /// A name that is not the agent's or the root's.
    pub(super) fn check_user_reserved(&self, name: &str) -> Result<()> {
        self.reserved.check_user(name)
    }

    /// A host an account may have.
    pub(super) fn check_host(&self, host: &str, flavor: Flavor) -> Result<()> {
        let valid = match host {
            "%" => true,
            host if host.len() > flavor.host_limit()
                || is_unprintable(host)
                || host.contains(['@', ' ', '\'', '`'])
                || !host.is_ascii() =>
            {
                false
            }
            host => !self.require_valid_ip || is_network(&host.replace('%', "1")),
        };
        if valid { Ok(()) } else { Err(Error::invalid(format!("'{}' is not a valid hostname.", host.escape_debug()))) }
    }

    /// A password an account may have. The error does not show it.
    pub(super) fn check_password(&self, user: &str, password: &SecretString) -> Result<()> {
        if breaks_string_rule(password.expose_secret()) {
            return Err(Error::invalid(format!(
                "the password of user {user} is not valid: it must not be empty, begin or end with a space, or hold control \
                 characters or any of ' \" ; ` , / \\"
            )));
        }
        Ok(())
    }

    /// Name and host of a new account.
    pub(super) fn check_account(&self, account: &Account, flavor: Flavor) -> Result<()> {
        self.check_user_name(&account.user, flavor)?;
        self.check_host(&account.host, flavor)?;
        self.check_user_reserved(&account.user)
    }

    /// A name a new database may have.
    pub(super) fn check_database_name(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::invalid("Schema name empty."));
        }
        if name.chars().count() > MAX_DATABASE_NAME {
            return Err(Error::invalid(format!("Schema name '{name}' is too long. Max length = {MAX_DATABASE_NAME}.")));
        }
        if !is_schema_name(name) {
            return Err(Error::invalid(format!("'{}' is not a valid schema name.", name.escape_debug())));
        }
        Ok(())
    }

    /// A name that is not one of the server's own databases.
    pub(super) fn check_database_reserved(&self, name: &str) -> Result<()> {
        self.reserved.check_database(name)
    }
}

/// Trove's `^[A-Za-z0-9_-]+[\s\?\#\@]*[A-Za-z0-9_-]+$`, of printable characters: two characters at least, and at most one
/// run of blanks, `?`, `#` and `@`, in the middle.
fn is_schema_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let special = |c: char| matches!(c, ' ' | '?' | '#' | '@');
    let tail = name.trim_start_matches(word);
    if tail.is_empty() {
        return name.len() >= 2;
    }
    let end = tail.trim_start_matches(special);
    tail.len() < name.len() && end.len() < tail.len() && !end.is_empty() && end.chars().all(word)
}

/// An address or a network, as netaddr's `IPNetwork` takes them: `192.0.2.1`, `192.0.2.0/24`, `192.0.2.0/255.255.255.0`,
/// `192.0.2` (the wildcard forms of the server end like this), `2001:db8::/32`.
fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let octets: Vec<&str> = address.split('.').collect();
    let partial = octets.len() < 4 && octets.iter().all(|octet| octet.parse::<u8>().is_ok());
    let (valid, bits) = match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => (true, 128),
        Ok(IpAddr::V4(_)) => (true, 32),
        Err(_) => (partial, 32),
    };
    let prefix_valid = match prefix {
        None => true,
        Some(prefix) => prefix.parse::<u8>().is_ok_and(|n| n <= bits) || (bits == 32 && prefix.parse::<Ipv4Addr>().is_ok_and(is_mask)),
    };
    valid && prefix_valid
}

fn is_mask(mask: Ipv4Addr) -> bool {
    let bits = u32::from(mask);
    bits.leading_ones() + bits.trailing_zeros().min(32 - bits.leading_ones()) == 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managers::mysql::MYSQL;

    fn rules(require_valid_ip: bool) -> Rules {
        let accounts = AccountSettings {
            ignore_dbs: Some(vec!["Mysql".into()]),
            root_grant: vec!["ALL".into()],
            hostname_require_valid_ip: require_valid_ip,
            ..AccountSettings::unset()
        };
        Rules::new(&MYSQL, &accounts)
    }

    fn flavor(version: &str) -> Flavor {
        Flavor::parse(version, "").unwrap()
    }

    #[test]
    fn user_names_follow_troves_rules_and_the_servers_limit() {
        let check = |name: &str, version| rules(true).check_user_name(name, flavor(version)).map_err(|error| error.to_string());
        for good in ["u", "sally@home", "ユーザー", "a b", "x%_", "é"] {
            assert_eq!(check(good, "9.7.0"), Ok(()), "{good}");
        }
        for bad in ["'", "a\"b", "a;b", "`", "a,b", "a/b", "a\\b", " a", "a ", "a\0b", "a\u{202e}b", "😀", "a\tb", "\u{a0}x"] {
            assert!(check(bad, "9.7.0").unwrap_err().ends_with("is not a valid user name."), "{bad:?}");
        }
        assert_eq!(check("", "9.7.0").unwrap_err(), "User name empty.");
        let long = "x".repeat(33);
        assert_eq!(check(&long, "8.0.1").unwrap_err(), format!("User name '{long}' is too long. Max length = 32."));
        assert_eq!(check(&long, "10.11.1-MariaDB"), Ok(()));
        assert!(check(&"x".repeat(17), "5.6.51").is_err());
    }

    #[test]
    fn reserved_names_are_refused_in_any_case() {
        let error = rules(true).check_user_reserved("OS_admin").unwrap_err().to_string();
        assert_eq!(error, "User name \"OS_admin\" is on the reserved list: os_admin, root.");
        assert!(rules(true).check_database_reserved("MySQL").is_err());
        assert!(rules(true).check_database_reserved("mysql2").is_ok());
    }

    #[test]
    fn database_names_follow_troves_rule() {
        let check = |name: &str| rules(true).check_database_name(name).is_ok();
        for good in ["db", "a-b_c", "a b", "a?#@ b", "00", &"x".repeat(64)] {
            assert!(check(good), "{good}");
        }
        for bad in ["", "a", " ab", "ab ", "a b c", "a%b", "a`b", "a.b", "a\\b", "é2", "a\nb", "ab\n", "?ab", &"x".repeat(65)] {
            assert!(!check(bad), "{bad:?}");
        }
    }

    #[test]
    fn hosts_are_addresses_unless_told_otherwise() {
        let check = |host: &str, strict| rules(strict).check_host(host, flavor("9.7.0")).is_ok();
        for good in
            ["%", "192.0.2.1", "192.0.%", "192.0.2.%", "192.0.2.0/24", "192.0.2.0/255.255.255.0", "2001:db8::1", "2001:db8::/32", "%.%.%.%"]
        {
            assert!(check(good, true), "{good}");
        }
        for bad in ["host", "localhost", "192.0.2.256", "192.0.2.0/33", "192.0.2.0/255.0.255.0", "", "1.2.3.4.5", "a'b", "192.0.2.1 "] {
            assert!(!check(bad, true), "{bad:?}");
        }
        assert!(check("db1.example.org", false) && !check("a'b", false) && !check("a\0", false) && !check(&"x".repeat(300), false));
    }

    #[test]
    fn a_refused_password_is_not_shown() {
        let check = |password: &str| rules(true).check_password("u", &password.into());
        assert!(check("pässword 😀").is_ok());
        let error = check("planted'").unwrap_err();
        assert!(!error.to_string().contains("planted"), "{error}");
        assert!(check("").is_err() && check(" x").is_err() && check("a\0b").is_err());
    }
}
