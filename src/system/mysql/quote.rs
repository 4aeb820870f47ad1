//! SQL text from typed parts: names, literals and accounts that quote themselves, and statements that hide their secrets.
//!
//! The tokens are right for a session of [`super::Client`], which sets `utf8mb4` and an SQL mode without `NO_BACKSLASH_ESCAPES` and `ANSI_QUOTES`.

use std::fmt;

use crate::error::{Error, Result};
use crate::system::sql;

/// Longest name of a database, in characters.
pub(crate) const MAX_DATABASE_NAME: usize = 64;

/// A quoted identifier: backticks included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident(String);

impl Ident {
    /// Quotes a name. Not idempotent.
    ///
    /// # Errors
    /// The name is empty, or holds NUL or a character beyond the Basic Multilingual Plane: no server can store those.
    pub fn new(name: &str) -> Result<Ident> {
        if name.is_empty() {
            return Err(Error::invalid("a name must not be empty"));
        }
        if name.chars().any(|c| c == '\0' || c > '\u{ffff}') {
            return Err(Error::invalid(format!("{name:?} holds a character that no name in the database can hold")));
        }
        Ok(Ident(format!("`{}`", name.replace('`', "``"))))
    }

    /// A database name as `GRANT ... ON db.*` wants it: a LIKE pattern, in which `_` and `%` must be escaped to mean themselves.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn grant_pattern(database: &str) -> Result<Ident> {
        Ident::new(&escape_pattern(database))
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Escapes the wildcards of a database name. A backslash stays as it is: the server takes `\_` and `\%` alone for escapes.
pub(crate) fn escape_pattern(database: &str) -> String {
    let mut pattern = String::with_capacity(database.len() + 4);
    for c in database.chars() {
        if matches!(c, '_' | '%') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// What [`escape_pattern`] made; a pattern that was never escaped comes back unchanged.
pub(crate) fn unescape_pattern(pattern: &str) -> String {
    let mut name = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match rest.peek() {
            Some('_' | '%') if c == '\\' => {}
            _ => name.push(c),
        }
    }
    name
}

/// A quoted string: apostrophes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal(String);

impl Literal {
    /// Quotes any string.
    pub fn new(value: &str) -> Literal {
        let mut token = String::with_capacity(value.len() + 2);
        token.push('\'');
        for c in value.chars() {
            match c {
                '\'' => token.push_str("''"),
                '\\' => token.push_str("\\\\"),
                '\0' => token.push_str("\\0"),
                c => token.push(c),
            }
        }
        token.push('\'');
        Literal(token)
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An account: a name and where it may log in from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account {
    /// Name.
    pub user: String,
    /// Host, lower case as the server keeps it.
    pub host: String,
}

impl Account {
    /// `user` at `host`; an absent or empty host is any host, like Trove's.
    pub fn new(user: impl Into<String>, host: Option<&str>) -> Account {
        let host = host.filter(|host| !host.is_empty()).unwrap_or("%");
        Account { user: user.into(), host: host.to_ascii_lowercase() }
    }

    fn token(&self) -> String {
        format!("{}@{}", Literal::new(&self.user).as_str(), Literal::new(&self.host).as_str())
    }
}

/// `user@host`, as the controller's markers and messages have it.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

/// The family's way to write strings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quoting;

impl sql::Quoting for Quoting {
    fn literal(value: &str) -> String {
        Literal::new(value).0
    }
}

/// A statement for a server of the family.
pub type SqlText = sql::SqlText<Quoting>;

impl SqlText {
    /// An identifier.
    #[must_use]
    pub fn ident(self, ident: &Ident) -> SqlText {
        self.token(ident.0.clone())
    }

    /// An account.
    #[must_use]
    pub fn account(self, account: &Account) -> SqlText {
        self.token(account.token())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    #[test]
    fn tokens_are_complete() {
        assert_eq!(Ident::new("a`b").unwrap().as_str(), "`a``b`");
        assert_eq!(Ident::grant_pattern("a_b%c").unwrap().as_str(), "`a\\_b\\%c`");
        assert_eq!(Literal::new("it's \\ \0").as_str(), "'it''s \\\\ \\0'");
        assert_eq!(SqlText::new("DROP USER ").account(&Account::new("o'x", None)).render().expose_secret(), "DROP USER 'o''x'@'%'");
        assert_eq!(Account::new("u", Some("FE80::1")).to_string(), "u@fe80::1");
        assert!(Ident::new("a\0").is_err() && Ident::new("").is_err() && Ident::new("😀").is_err());
    }

    #[test]
    fn a_statement_shows_no_secret() {
        let sql = SqlText::new("ALTER USER ").account(&Account::new("u", None)).raw(" IDENTIFIED BY ").secret(&"pla'nted".into());
        assert_eq!(format!("{sql:?}"), "ALTER USER 'u'@'%' IDENTIFIED BY '***'");
        assert_eq!(sql.render().expose_secret(), "ALTER USER 'u'@'%' IDENTIFIED BY 'pla''nted'");
        assert_eq!(sql.scrub("near 'pla''nted' and pla'nted"), "near '***' and ***");
    }

    proptest! {
        #[test]
        fn patterns_come_back(name in "[a-zA-Z0-9_%?# @-]{1,64}") {
            prop_assert_eq!(unescape_pattern(&escape_pattern(&name)), name.clone());
        }
    }
}
