//! Looking at a restored database: every collection of it is checked by a server of its own.

use std::time::Duration;

use camino::Utf8Path;
use mongodb::bson::{Bson, Document, doc};

use super::private_server::{Doors, PrivateServer};
use super::program::ServerProgram;
use crate::codec::Yaml;
use crate::error::Result;
use crate::managers::drill::{Examination, Items};
use crate::op::Op;
use crate::system::mongodb::Session;

/// Every page of a collection is read.
const DEADLINE: Duration = Duration::from_secs(12 * 3600);
/// More problems than these are not told one by one.
const TOLD: usize = 20;
/// What is of the server itself.
const OWN: [&str; 3] = ["admin", "config", "local"];

/// Starts the server, has it check every collection (manual, "validate"), and ends it.
///
/// # Errors
/// There is no server to be started on it, or it does not end well.
pub(super) async fn examine(op: &Op, program: &ServerProgram, conf: &Yaml, directory: &Utf8Path, wait: Duration) -> Result<Examination> {
    let server = PrivateServer::start(op, program, conf, directory, Doors::Open, wait).await?;
    let session = server.client().session(op).await?;
    let flavor = session.flavor(op).await?;
    let listed = session.run(op, "list the databases", "admin", doc! { "listDatabases": 1, "nameOnly": true }).await?;
    let (mut databases, mut count, mut problems) = (0, 0, Vec::new());
    for database in listed.get_array("databases").into_iter().flatten().filter_map(|database| database.as_document()?.get_str("name").ok())
    {
        let is_own = OWN.contains(&database);
        databases += u64::from(!is_own);
        let list = doc! { "listCollections": 1, "filter": { "type": "collection" }, "nameOnly": true };
        for collection in session.documents(op, "list the collections", database, list).await? {
            let Ok(name) = collection.get_str("name") else { continue };
            count += u64::from(!is_own && !name.starts_with("system."));
            problems.extend(check(op, &session, database, name).await?);
        }
    }
    drop(session);
    server.stop(op).await?;
    let more = problems.len().saturating_sub(TOLD);
    problems.truncate(TOLD);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    Ok(Examination { server: flavor.to_string(), databases, items: Items { name: "collections", count }, problems })
}

async fn check(op: &Op, session: &Session, database: &str, collection: &str) -> Result<Vec<String>> {
    let answer = session.run_for(op, "check a collection", database, doc! { "validate": collection }, DEADLINE).await?;
    Ok(problems(&format!("{database}.{collection}"), &answer))
}

fn problems(name: &str, answer: &Document) -> Vec<String> {
    if answer.get_bool("valid").unwrap_or(false) {
        return Vec::new();
    }
    let errors: Vec<&str> = answer.get_array("errors").into_iter().flatten().filter_map(Bson::as_str).collect();
    if errors.is_empty() {
        return vec![format!("{name}: the server does not find it valid")];
    }
    errors.into_iter().map(|error| format!("{name}: {error}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_valid_is_a_problem_with_a_reason_or_without() {
        assert!(problems("shop.c", &doc! { "valid": true, "errors": [], "warnings": ["w"] }).is_empty());
        let found = problems("shop.c", &doc! { "valid": false, "errors": ["one", "two"] });
        assert_eq!(found, ["shop.c: one", "shop.c: two"]);
        assert_eq!(problems("shop.c", &doc! {}).len(), 1);
    }
}
