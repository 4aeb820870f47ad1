//! Databases ([`DatabaseAdmin`]).

use std::sync::Arc;

use async_trait::async_trait;

use super::catalog::Catalog;
use super::client::Client;
use super::names::Rules;
use super::quote::{Ident, SqlText};
use crate::error::{Error, Result};
use crate::managers::DatabaseAdmin;
use crate::managers::paging::{Order, paged};
use crate::model::{DatabaseSpec, Page, PageRequest};
use crate::op::Op;

/// Databases of one server.
#[derive(Debug)]
pub(super) struct Databases {
    pub(super) client: Arc<Client>,
    pub(super) rules: Arc<Rules>,
}

const MARKER: &str = "CAST(SCHEMA_NAME AS BINARY)";

#[async_trait]
impl DatabaseAdmin for Databases {
    async fn create(&self, op: &Op, databases: &[DatabaseSpec]) -> Result<()> {
        if databases.is_empty() {
            return Ok(());
        }
        let mut session = self.client.session(op).await?;
        let catalog = Catalog::read(op, &mut session).await?;
        let mut statements = Vec::with_capacity(databases.len());
        for database in databases {
            self.rules
                .check_database_name(&database.name)
                .and_then(|()| self.rules.check_database_reserved(&database.name))
                .map_err(|error| Error::invalid(format!("Cannot create database: {error}")))?;
            let encoding = catalog.resolve(database)?;
            let mut sql = SqlText::new("CREATE DATABASE IF NOT EXISTS ").ident(&Ident::new(&database.name)?);
            sql = sql.raw(" CHARACTER SET = ").literal(&encoding.charset);
            if let Some(collation) = &encoding.collation {
                sql = sql.raw(" COLLATE = ").literal(collation);
            }
            statements.push((format!("create database {}", database.name), sql));
        }
        for (action, sql) in statements {
            session.run(op, action, &sql).await?;
        }
        session.close().await;
        Ok(())
    }

    async fn delete(&self, op: &Op, database: &DatabaseSpec) -> Result<()> {
        let name = &database.name;
        self.rules.check_database_reserved(name).map_err(|error| Error::invalid(format!("Cannot delete database: {error}")))?;
        let quoted = Ident::new(name)?;
        let mut session = self.client.session(op).await?;
        let sql = SqlText::new("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ").literal(name);
        if session.rows::<String>(op, format!("look for database {name}"), &sql).await?.is_empty() {
            return Err(Error::not_found(format!("Database {name}")));
        }
        session.run(op, format!("drop database {name}"), &SqlText::new("DROP DATABASE ").ident(&quoted)).await?;
        session.close().await;
        Ok(())
    }

    async fn list(&self, op: &Op, page: &PageRequest) -> Result<Page<DatabaseSpec>> {
        let sql = SqlText::new("SELECT CONVERT(SCHEMA_NAME USING utf8mb4), CONVERT(DEFAULT_COLLATION_NAME USING utf8mb4), ")
            .raw("CONVERT(DEFAULT_CHARACTER_SET_NAME USING utf8mb4) FROM information_schema.SCHEMATA WHERE ")
            .raw("LOWER(CONVERT(SCHEMA_NAME USING utf8mb4)) NOT IN ('', ")
            .literals(self.rules.ignore_dbs())
            .raw(")");
        let sql = paged(sql, &Order { by: MARKER, marker: ["CAST(", " AS BINARY)"] }, page);
        let mut session = self.client.session(op).await?;
        let rows: Vec<(String, Option<String>, Option<String>)> = session.rows(op, "list databases", &sql).await?;
        session.close().await;
        let items = rows.into_iter().map(|(name, collate, character_set)| DatabaseSpec { name, collate, character_set }).collect();
        Ok(Page::cut(items, page.limit, |database: &DatabaseSpec| database.name.clone()))
    }
}
