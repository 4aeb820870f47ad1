//! Character sets and collations: the server is asked what it has; `utf8` and `utf8mb3` are one.

use super::client::Session;
use super::quote::SqlText;
use crate::error::{Error, Result};
use crate::model::DatabaseSpec;
use crate::op::Op;

/// Trove's defaults (`MySQLSchema.__charset__`, `__collation__`), in the names of its latest release.
const DEFAULT_CHARSET: &str = "utf8mb3";
const DEFAULT_COLLATION: &str = "utf8mb3_general_ci";

/// Which collation goes with which character set on this server.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Collation, character set.
    pairs: Vec<(String, String)>,
}

/// Character set and collation of a new database, by the server's own names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) charset: String,
    /// The character set's default when absent.
    pub(super) collation: Option<String>,
}

/// The other name of what MySQL calls `utf8mb3` since 8.0.30 and `utf8` before; MariaDB changed in 10.6.
fn alias(name: &str) -> Option<String> {
    let swap = |from: &str, to: &str| {
        let rest = name.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with('_')).then(|| format!("{to}{rest}"))
    };
    swap("utf8mb3", "utf8").or_else(|| swap("utf8", "utf8mb3"))
}

impl Catalog {
    /// Reads the server's catalogue.
    pub(super) async fn read(op: &Op, session: &mut Session<'_>) -> Result<Catalog> {
        // MariaDB 10.10 and later have collations that fit several character sets: FULL_COLLATION_NAME tells them apart.
        let full = session.flavor().is_mariadb() && session.flavor().version >= (10, 10, 1);
        let column = if full { "FULL_COLLATION_NAME" } else { "COLLATION_NAME" };
        let sql = SqlText::new("SELECT CONVERT(")
            .raw(column)
            .raw(
                " USING utf8mb4), CONVERT(CHARACTER_SET_NAME USING utf8mb4) FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY ",
            )
            .raw("WHERE CHARACTER_SET_NAME IS NOT NULL");
        Ok(Catalog { pairs: session.rows(op, "read the character sets of the database", &sql).await? })
    }

    fn find<'a>(&'a self, pick: impl Fn(&'a (String, String)) -> &'a str, name: &str) -> Option<&'a (String, String)> {
        let by = |name: &str| self.pairs.iter().find(|pair| pick(pair).eq_ignore_ascii_case(name));
        by(name).or_else(|| by(&alias(name)?))
    }

    /// What a request means, or why it means nothing (in the words of trove/common/db/mysql/models.py).
    pub(super) fn resolve(&self, database: &DatabaseSpec) -> Result<Encoding> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (charset, collation) = match (given(&database.character_set), given(&database.collate)) {
            (None, None) => (Some(DEFAULT_CHARSET.to_owned()), Some(DEFAULT_COLLATION.to_owned())),
            both => both,
        };
        let charset = match charset {
            Some(name) => {
                let pair = self
                    .find(|pair| &pair.1, &name)
                    .ok_or_else(|| Error::invalid(format!("'{}' not a valid character set.", name.escape_debug())))?;
                Some(pair.1.clone())
            }
            None => None,
        };
        let collation = match collation {
            Some(name) => {
                let pair = self
                    .find(|pair| &pair.0, &name)
                    .ok_or_else(|| Error::invalid(format!("'{}' not a valid collation.", name.escape_debug())))?;
                Some(pair)
            }
            None => None,
        };
        match (charset, collation) {
            (Some(charset), Some((collation, of))) if !of.eq_ignore_ascii_case(&charset) => {
                Err(Error::invalid(format!("{collation} not a valid collation for charset {charset}.")))
            }
            (Some(charset), collation) => Ok(Encoding { charset, collation: collation.map(|(name, _)| name.clone()) }),
            (None, Some((collation, charset))) => Ok(Encoding { charset: charset.clone(), collation: Some(collation.clone()) }),
            (None, None) => Err(Error::invalid("the database server knows no character sets")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(utf8: &str, charset: Option<&str>, collate: Option<&str>) -> std::result::Result<(String, Option<String>), String> {
        let pair = |collation: String, charset: &str| (collation, charset.to_owned());
        let catalog = Catalog {
            pairs: vec![pair(format!("{utf8}_general_ci"), utf8), pair("latin1_bin".into(), "latin1"), pair("binary".into(), "binary")],
        };
        let spec = DatabaseSpec { name: "db".into(), character_set: charset.map(str::to_owned), collate: collate.map(str::to_owned) };
        catalog.resolve(&spec).map(|found| (found.charset, found.collation)).map_err(|error| error.to_string())
    }

    #[test]
    fn utf8_is_found_under_either_name() {
        for server in ["utf8", "utf8mb3"] {
            let expected = Ok((server.to_owned(), Some(format!("{server}_general_ci"))));
            assert_eq!(resolve(server, None, None), expected);
            assert_eq!(resolve(server, Some("utf8"), Some("utf8mb3_general_ci")), expected);
            assert_eq!(resolve(server, None, Some("utf8_general_ci")), expected);
        }
    }

    #[test]
    fn what_does_not_exist_or_fit_is_refused_in_troves_words() {
        assert_eq!(resolve("utf8", Some("klingon"), None), Err("'klingon' not a valid character set.".to_owned()));
        assert_eq!(resolve("utf8", None, Some("x'; --")), Err("'x\\'; --' not a valid collation.".to_owned()));
        assert_eq!(
            resolve("utf8", Some("latin1"), Some("utf8_general_ci")),
            Err("utf8_general_ci not a valid collation for charset latin1.".to_owned())
        );
        assert_eq!(resolve("utf8", Some("latin1"), None), Ok(("latin1".to_owned(), None)));
        assert_eq!(resolve("utf8", None, Some("binary")), Ok(("binary".to_owned(), Some("binary".to_owned()))));
    }
}
