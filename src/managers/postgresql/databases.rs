//! Databases ([`DatabaseAdmin`]).

use std::sync::Arc;

use async_trait::async_trait;

use super::access::database_exists;
use super::names::Rules;
use super::program::ServerProgram;
use crate::error::{Error, Result};
use crate::managers::DatabaseAdmin;
use crate::managers::paging::{Order, paged};
use crate::model::{DatabaseSpec, Page, PageRequest};
use crate::op::Op;
use crate::system::postgresql::{Client, Ident, Session, SqlText};

/// Databases of one server.
#[derive(Debug)]
pub(super) struct Databases {
    pub(super) client: Arc<Client>,
    pub(super) rules: Arc<Rules>,
    pub(super) program: Arc<ServerProgram>,
}

const MARKER: &str = "datname::text COLLATE \"C\"";
/// What Kilo's API says for every datastore when its caller says nothing: MySQL's.
const MYSQL_DEFAULTS: [&str; 2] = ["utf8", "utf8_general_ci"];

fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty() && !MYSQL_DEFAULTS.contains(text))
}

/// Encoding and collation are the server's to know.
async fn check_encoding(op: &Op, session: &Session<'_>, name: &str) -> Result<()> {
    let sql = SqlText::new("SELECT pg_char_to_encoding(").literal(name).raw(")");
    let found = session.texts(op, "look for a character set", &sql).await?;
    match found.first().is_some_and(|number| number != "-1") {
        true => Ok(()),
        false => Err(Error::invalid(format!("'{}' not a valid character set.", name.escape_debug()))),
    }
}

async fn check_collation(op: &Op, session: &Session<'_>, name: &str) -> Result<()> {
    let sql = SqlText::new("SELECT collname FROM pg_collation WHERE collprovider = 'c' AND ").literal(name);
    let found = session.texts(op, "look for a collation", &sql.raw(" IN (collname, collcollate)")).await?;
    match found.is_empty() {
        false => Ok(()),
        true => Err(Error::invalid(format!("'{}' not a valid collation.", name.escape_debug()))),
    }
}

#[async_trait]
impl DatabaseAdmin for Databases {
    async fn create(&self, op: &Op, databases: &[DatabaseSpec]) -> Result<()> {
        if databases.is_empty() {
            return Ok(());
        }
        for database in databases {
            self.rules.check_database(&database.name).map_err(|error| Error::invalid(format!("Cannot create database: {error}")))?;
        }
        let session = self.client.session(op).await?;
        let mut statements = Vec::with_capacity(databases.len());
        for database in databases {
            let quoted = Ident::new(&database.name)?;
            let mut sql = SqlText::new("CREATE DATABASE ").ident(&quoted).raw(" TEMPLATE template0");
            if let Some(encoding) = given(database.character_set.as_ref()) {
                check_encoding(op, &session, encoding).await?;
                sql = sql.raw(" ENCODING ").literal(encoding);
            }
            if let Some(collation) = given(database.collate.as_ref()) {
                check_collation(op, &session, collation).await?;
                sql = sql.raw(" LC_COLLATE ").literal(collation).raw(" LC_CTYPE ").literal(collation);
            }
            statements.push((&database.name, quoted, sql));
        }
        for (name, quoted, sql) in statements {
            // There is no IF NOT EXISTS.
            if database_exists(op, &session, name).await? {
                continue;
            }
            session.run(op, format!("create database {name}"), &sql).await?;
            // Whoever is not granted access has none.
            let close = SqlText::new("REVOKE ALL ON DATABASE ").ident(&quoted).raw(" FROM PUBLIC");
            session.run(op, format!("close database {name}"), &close).await?;
        }
        Ok(())
    }

    async fn delete(&self, op: &Op, database: &DatabaseSpec) -> Result<()> {
        let name = &database.name;
        self.rules.reserved.check_database(name).map_err(|error| Error::invalid(format!("Cannot delete database: {error}")))?;
        let quoted = Ident::new(name)?;
        let session = self.client.session(op).await?;
        if !database_exists(op, &session, name).await? {
            return Err(Error::not_found(format!("Database {name}")));
        }
        // Sessions in it are ended: since version 13 in one step with the deletion.
        let sql = SqlText::new("DROP DATABASE ").ident(&quoted);
        let sql = if self.program.version(op).await?.0 >= 13 {
            sql.raw(" WITH (FORCE)")
        } else {
            let end = SqlText::new("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ").literal(name);
            session.run(op, format!("end the sessions in database {name}"), &end).await?;
            sql
        };
        session.run(op, format!("drop database {name}"), &sql).await
    }

    async fn list(&self, op: &Op, page: &PageRequest) -> Result<Page<DatabaseSpec>> {
        let sql = SqlText::new("SELECT datname::text, datcollate::text, pg_encoding_to_char(encoding) FROM pg_database ")
            .raw("WHERE NOT datistemplate AND lower(datname) NOT IN (''")
            .raw(", ")
            .literals(self.rules.reserved.databases())
            .raw(")");
        let sql = paged(sql, &Order { by: MARKER, marker: ["", ""] }, page);
        let session = self.client.session(op).await?;
        let rows = session.rows(op, "list databases", &sql).await?;
        let item = |row: Vec<Option<String>>| match <[_; 3]>::try_from(row) {
            Ok([Some(name), collate, character_set]) => Some(DatabaseSpec { name, collate, character_set }),
            _ => None,
        };
        Ok(Page::cut(rows.into_iter().filter_map(item).collect(), page.limit, |database: &DatabaseSpec| database.name.clone()))
    }
}
