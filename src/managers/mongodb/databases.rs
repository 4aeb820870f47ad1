//! Databases ([`DatabaseAdmin`]). A database is there as long as it has a collection.

use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::{Bson, doc};

use super::admin::ADMIN;
use super::cluster::{Again, Changes};
use super::names::Rules;
use crate::error::{Error, Result};
use crate::managers::DatabaseAdmin;
use crate::model::{DatabaseSpec, Page, PageRequest};
use crate::op::Op;
use crate::system::mongodb::{Client, Session};

/// The collection that makes a database (Trove's `MongoDBAdmin.create_database`). It is empty, and stays: without it there would be no database to list.
const COLLECTION: &str = "dummy";
/// "Namespace exists" (src/mongo/base/error_codes.yml).
const EXISTS: u16 = 48;

/// Databases of one server.
#[derive(Debug)]
pub(super) struct Databases {
    pub(super) client: Client,
    pub(super) changes: Changes,
    pub(super) rules: Arc<Rules>,
}

async fn names(op: &Op, session: &Session) -> Result<Vec<String>> {
    let answer = session.run(op, "list databases", ADMIN, doc! {"listDatabases": 1, "nameOnly": true}).await?;
    let databases = answer.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    let name = |found: &Bson| found.as_document()?.get_str("name").ok().map(str::to_owned);
    let mut names: Vec<String> = databases.iter().filter_map(name).collect();
    names.sort_unstable();
    Ok(names)
}

#[async_trait]
impl DatabaseAdmin for Databases {
    async fn create(&self, op: &Op, databases: &[DatabaseSpec]) -> Result<()> {
        for database in databases {
            self.rules.check_database(&database.name).map_err(|error| Error::invalid(format!("Cannot create database: {error}")))?;
        }
        let session = self.changes.session(op).await?;
        let present = names(op, &session).await?;
        for DatabaseSpec { name, .. } in databases.iter().filter(|database| !present.contains(&database.name)) {
            let created = self.changes.run(op, &format!("create database {name}"), name, doc! {"create": COLLECTION}, Again::Same).await;
            match created {
                Ok(()) | Err(Error::Database { code: Some(EXISTS), .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Its users stay, as they do with Trove's: they belong to a name, whether there is a database of it or not.
    async fn delete(&self, op: &Op, database: &DatabaseSpec) -> Result<()> {
        let name = &database.name;
        self.rules.check_database(name).map_err(|error| Error::invalid(format!("Cannot delete database: {error}")))?;
        let session = self.changes.session(op).await?;
        if !names(op, &session).await?.contains(name) {
            return Err(Error::not_found(format!("Database {name}")));
        }
        self.changes.run(op, &format!("drop database {name}"), name, doc! {"dropDatabase": 1}, Again::Same).await
    }

    async fn list(&self, op: &Op, page: &PageRequest) -> Result<Page<DatabaseSpec>> {
        let session = self.client.session(op).await?;
        let marker = page.marker.as_deref().filter(|marker| !marker.is_empty());
        let comes = |name: &String| match marker {
            Some(marker) if page.include_marker => name.as_str() >= marker,
            Some(marker) => name.as_str() > marker,
            None => true,
        };
        let all = names(op, &session).await?.into_iter();
        let wanted = all.filter(|name| comes(name) && self.rules.reserved.check_database(name).is_ok()).map(DatabaseSpec::named);
        Ok(Page::cut(wanted.collect(), page.limit, |database: &DatabaseSpec| database.name.clone()))
    }
}
