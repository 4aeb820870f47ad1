//! [`catalog`]: what there is to dump, with the options and indexes of each collection.

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, Document, doc};

use super::archive::{CollectionKind, CollectionMetadata, Metadata, Namespace};
use crate::error::Result;
use crate::op::Op;
use crate::system::mongodb::Session;

/// Of the database `config` these describe a cluster; the others belong to one server (mongo-tools, `common/dumprestore/config.go`).
const CLUSTER: [&str; 7] = ["chunks", "collections", "databases", "settings", "shards", "tags", "version"];
/// The server says that a collection is gone (src/mongo/base/error_codes.yml: `NamespaceNotFound`).
const NAMESPACE_NOT_FOUND: u16 = 26;

/// Whether an archive has this collection. Those of the system are of one server, or are made by making others; accounts, and functions that users
/// have stored, are neither (mongo-tools, `mongodump/prepare.go`).
fn is_dumped(namespace: &Namespace) -> bool {
    let collection = namespace.collection.as_str();
    match namespace.database.as_str() {
        "local" => false,
        "config" => CLUSTER.contains(&collection),
        "admin" => collection != "system.keys",
        _ => collection == "system.js" || !collection.starts_with("system."),
    }
}

/// Every collection of every database, in the order of the names.
///
/// # Errors
/// The server refused.
pub(super) async fn catalog(op: &Op, session: &Session) -> Result<Vec<CollectionMetadata>> {
    let listed = session.run(op, "list the databases", "admin", doc! { "listDatabases": 1, "nameOnly": true }).await?;
    let documents = listed.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    let mut databases: Vec<&str> = documents.iter().filter_map(|database| database.as_document()?.get_str("name").ok()).collect();
    databases.sort_unstable();
    let mut found = Vec::new();
    for database in databases.into_iter().filter(|name| *name != "local") {
        let mut collections = session.documents(op, "list the collections", database, doc! { "listCollections": 1 }).await?;
        collections.sort_by_cached_key(|collection| collection.get_str("name").unwrap_or_default().to_owned());
        for collection in &collections {
            let namespace = Namespace::new(database, collection.get_str("name").unwrap_or_default());
            let kind = collection.get_str("type").ok().map_or(Some(CollectionKind::Collection), CollectionKind::parse);
            let Some(kind) = kind.filter(|_| is_dumped(&namespace)) else { continue };
            if let Some(metadata) = metadata(op, session, &namespace, kind, collection).await? {
                found.push(metadata.announce(namespace, kind));
            }
        }
    }
    Ok(found)
}

/// `None` for a collection that has just been dropped.
async fn metadata(op: &Op, session: &Session, namespace: &Namespace, kind: CollectionKind, listed: &Document) -> Result<Option<Metadata>> {
    let indexes = match kind {
        CollectionKind::View => Vec::new(),
        CollectionKind::Collection | CollectionKind::TimeSeries => {
            let list = doc! { "listIndexes": &namespace.collection };
            match session.documents(op, "list the indexes", &namespace.database, list).await {
                Ok(indexes) => indexes,
                Err(error) if error.database_code() == Some(NAMESPACE_NOT_FOUND) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    };
    let uuid = match listed.get_document("info").ok().and_then(|info| info.get("uuid")) {
        Some(Bson::Binary(binary)) if binary.subtype == BinarySubtype::Uuid => Some(hexadecimal(&binary.bytes)),
        _ => None,
    };
    Ok(Some(Metadata { options: listed.get_document("options").cloned().unwrap_or_default(), indexes, uuid }))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_server_is_left_out() {
        let dumped = |database: &str, collection: &str| is_dumped(&Namespace::new(database, collection));
        assert!(dumped("shop", "orders") && dumped("shop", "system.js") && dumped("admin", "system.users") && dumped("config", "shards"));
        assert!(!dumped("local", "oplog.rs") && !dumped("config", "transactions") && !dumped("admin", "system.keys"));
        assert!(!dumped("shop", "system.views") && !dumped("shop", "system.buckets.t") && !dumped("shop", "system.profile"));
    }
}
