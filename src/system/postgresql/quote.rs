//! Tokens of PostgreSQL's SQL: names and strings that quote themselves. They are right for a session of [`super::Client`], which reads a backslash in a
//! plain string as itself.

use crate::error::{Error, Result};
use crate::system::sql;

/// Longest name, in bytes of UTF-8 (`NAMEDATALEN` - 1). The server cuts longer ones off, and then means something else.
pub const MAX_NAME: usize = 63;

/// A quoted identifier: quotes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident(String);

impl Ident {
    /// Quotes a name. Not idempotent.
    ///
    /// # Errors
    /// The name is empty, too long, or holds NUL: no server can keep those.
    pub fn new(name: &str) -> Result<Ident> {
        match name {
            "" => Err(Error::invalid("a name must not be empty")),
            name if name.len() > MAX_NAME => {
                Err(Error::invalid(format!("the name '{}' is longer than {MAX_NAME} bytes", name.escape_debug())))
            }
            name if name.contains('\0') => Err(Error::invalid(format!("{name:?} holds a character that no name in the database can hold"))),
            name => Ok(Ident(format!("\"{}\"", name.replace('"', "\"\"")))),
        }
    }

    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// PostgreSQL's way to write strings. NUL is in none of them: a statement that holds one is not sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quoting;

impl sql::Quoting for Quoting {
    fn literal(value: &str) -> String {
        let quoted = value.replace('\'', "''");
        // A string of this kind means the same whatever `standard_conforming_strings` says.
        if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
    }
}

/// A statement for PostgreSQL.
pub type SqlText = sql::SqlText<Quoting>;

impl SqlText {
    /// An identifier.
    #[must_use]
    pub fn ident(self, ident: &Ident) -> SqlText {
        self.token(ident.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn tokens_are_complete() {
        assert_eq!(Ident::new("a\"b").unwrap().as_str(), "\"a\"\"b\"");
        assert!(Ident::new("").is_err() && Ident::new("a\0").is_err());
        assert!(Ident::new(&"é".repeat(31)).is_ok() && Ident::new(&"é".repeat(32)).is_err());
        let sql = SqlText::new("SELECT ").literal("it's").raw(", ").literal("\\'");
        assert_eq!(sql.render().expose_secret(), "SELECT 'it''s',  E'\\\\'''");
    }

    #[test]
    fn a_statement_shows_no_secret() {
        let sql = SqlText::new("ALTER ROLE ").ident(&Ident::new("u").unwrap()).raw(" PASSWORD ").secret(&"pla'nted".into());
        assert_eq!(format!("{sql:?}"), "ALTER ROLE \"u\" PASSWORD '***'");
        assert_eq!(sql.scrub("near 'pla''nted' and pla'nted"), "near '***' and ***");
    }
}
