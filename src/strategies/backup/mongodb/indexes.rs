//! [`Indexes`]: the indexes a restored server is to have. They are made last: what was read while it changed may break a unique one until the oplog
//! has been replayed.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::{Bson, Document, doc};

use super::archive::Namespace;
use crate::error::{Error, Result};

/// Per collection, without the one that every collection has.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    wanted: BTreeMap<Namespace, Vec<Document>>,
    /// Collections that have a collation of their own.
    collated: BTreeSet<Namespace>,
}

impl Indexes {
    /// Adds them; one of the same name is replaced.
    pub(super) fn add(&mut self, namespace: Namespace, indexes: impl IntoIterator<Item = Document>) {
        let wanted = self.wanted.entry(namespace).or_default();
        for mut index in indexes.into_iter().filter(|index| !is_of_id(index)) {
            // Older servers name the collection, and whether it was in nobody's way.
            for key in ["ns", "background", "safe", "dropDups"] {
                index.remove(key);
            }
            wanted.retain(|other| other.get("name") != index.get("name"));
            wanted.push(index);
        }
    }

    /// Notes how a collection was made: in one with a collation, an index that names none has the simple one.
    pub(super) fn made(&mut self, namespace: Namespace, options: &Document) {
        match options.contains_key("collation") {
            true => self.collated.insert(namespace),
            false => self.collated.remove(&namespace),
        };
    }

    /// What an entry of the oplog says about indexes. True when that is all it says.
    ///
    /// # Errors
    /// The entry is not understood.
    pub(super) fn see(&mut self, database: &str, command: &mut Document) -> Result<bool> {
        let Some((name, value)) = command.iter().next().map(|(name, value)| (name.clone(), value.clone())) else { return Ok(false) };
        let namespace = || value.as_str().map(|collection| Namespace::new(database, collection)).ok_or_else(|| unknown(&name));
        match name.as_str() {
            "create" => {
                self.made(namespace()?, command);
                Ok(false)
            }
            "createIndexes" => {
                let mut index = command.clone();
                index.remove("createIndexes");
                self.add(namespace()?, [index]);
                Ok(true)
            }
            "commitIndexBuild" => {
                let indexes = command.get_array("indexes").map_err(|_| unknown(&name))?;
                let indexes: Vec<Document> = indexes.iter().filter_map(Bson::as_document).cloned().collect();
                self.add(namespace()?, indexes);
                Ok(true)
            }
            "dropIndexes" | "dropIndex" | "deleteIndexes" | "deleteIndex" => {
                let dropped = command.get("index").cloned().unwrap_or(Bson::String("*".to_owned()));
                if let Some(wanted) = self.wanted.get_mut(&namespace()?) {
                    wanted.retain(|index| !is_meant(index, &dropped));
                }
                Ok(true)
            }
            "drop" => {
                self.wanted.remove(&namespace()?);
                Ok(false)
            }
            "dropDatabase" => {
                self.wanted.retain(|namespace, _| namespace.database != database);
                Ok(false)
            }
            "collMod" => {
                let Some(Bson::Document(change)) = command.remove("index") else { return Ok(false) };
                self.change(&namespace()?, &change);
                Ok(command.len() == 1)
            }
            // The index comes with the end of its making, if it comes.
            "startIndexBuild" | "abortIndexBuild" | "setMultikeyMetadata" => Ok(true),
            _ => Ok(false),
        }
    }

    fn change(&mut self, namespace: &Namespace, change: &Document) {
        let meant = change.get("name").or_else(|| change.get("keyPattern")).cloned().unwrap_or_default();
        let Some(wanted) = self.wanted.get_mut(namespace) else { return };
        for index in wanted.iter_mut().filter(|index| is_meant(index, &meant)) {
            for (key, value) in change.iter().filter(|(key, _)| !matches!(key.as_str(), "name" | "keyPattern")) {
                index.insert(key.clone(), value.clone());
            }
        }
    }

    /// The command for each collection.
    pub(super) fn commands(self) -> impl Iterator<Item = (Namespace, Document)> {
        let collated = self.collated;
        self.wanted.into_iter().filter(|(_, indexes)| !indexes.is_empty()).map(move |(namespace, mut indexes)| {
            if collated.contains(&namespace) {
                let inheriting = indexes.iter_mut().filter(|index| !index.contains_key("collation"));
                inheriting.for_each(|index| drop(index.insert("collation", doc! { "locale": "simple" })));
            }
            let command = doc! { "createIndexes": &namespace.collection, "indexes": indexes };
            (namespace, command)
        })
    }
}

/// The index on `_id`, which is made with its collection.
pub(super) fn is_of_id(index: &Document) -> bool {
    index.get_document("key").is_ok_and(|key| key.len() == 1 && key.contains_key("_id") && key.get_str("_id").is_err())
}

/// By name, by key, or all of them.
fn is_meant(index: &Document, meant: &Bson) -> bool {
    match meant {
        Bson::String(name) => name == "*" || index.get_str("name").is_ok_and(|other| other == name),
        Bson::Document(_) => index.get("key") == Some(meant),
        Bson::Array(several) => several.iter().any(|meant| is_meant(index, meant)),
        _ => false,
    }
}

fn unknown(command: &str) -> Error {
    Error::Storage { action: "replay the oplog".into(), reason: format!("its '{command}' is not one that servers write"), transient: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_become_what_the_oplog_makes_of_them() {
        let (mut indexes, shop) = (Indexes::default(), Namespace::new("shop", "c"));
        let of = |name: &str, key: Document| doc! { "v": 2, "key": key, "name": name, "ns": "shop.c" };
        indexes.add(shop.clone(), [of("_id_", doc! { "_id": 1 }), of("a_1", doc! { "a": 1 }), of("b_1", doc! { "b": 1 })]);
        let mut see = |mut command: Document| indexes.see("shop", &mut command).unwrap();
        assert!(see(doc! { "createIndexes": "c", "v": 2, "key": { "z": 1, "y": -1 }, "name": "z_1_y_-1" }));
        assert!(see(doc! { "startIndexBuild": "c", "indexes": [{ "name": "d_1" }] }));
        assert!(see(doc! { "commitIndexBuild": "c", "indexes": [{ "v": 2, "key": { "e": 1 }, "name": "e_1" }] }));
        assert!(see(doc! { "dropIndexes": "c", "index": "b_1" }));
        assert!(see(doc! { "collMod": "c", "index": { "name": "a_1", "expireAfterSeconds": 5 } }));
        assert!(!see(doc! { "collMod": "c", "validator": {}, "index": { "name": "e_1", "hidden": true } }));
        assert!(!see(doc! { "create": "other" }));
        assert!(!see(doc! { "drop": "other" }));
        let made: Vec<_> = indexes.commands().collect();
        let expected = doc! { "createIndexes": "c", "indexes": [
            { "v": 2, "key": { "a": 1 }, "name": "a_1", "expireAfterSeconds": 5 },
            { "v": 2, "key": { "z": 1, "y": -1 }, "name": "z_1_y_-1" },
            { "v": 2, "key": { "e": 1 }, "name": "e_1", "hidden": true },
        ] };
        assert_eq!(made, [(shop, expected)]);
    }

    #[test]
    fn an_index_without_a_collation_does_not_get_that_of_its_collection() {
        let mut indexes = Indexes::default();
        assert!(!indexes.see("d", &mut doc! { "create": "c", "collation": { "locale": "de" } }).unwrap());
        indexes.add(Namespace::new("d", "c"), [doc! { "key": { "t": "text" }, "name": "words" }]);
        indexes.add(Namespace::new("d", "plain"), [doc! { "key": { "t": 1 }, "name": "t_1" }]);
        let made: Vec<Document> = indexes.commands().map(|(_, command)| command).collect();
        let words = doc! { "key": { "t": "text" }, "name": "words", "collation": { "locale": "simple" } };
        assert_eq!(made[0], doc! { "createIndexes": "c", "indexes": [words] });
        assert_eq!(made[1], doc! { "createIndexes": "plain", "indexes": [{ "key": { "t": 1 }, "name": "t_1" }] });
    }

    #[test]
    fn what_is_dropped_has_none() {
        let mut indexes = Indexes::default();
        for (database, collection) in [("a", "one"), ("a", "two"), ("b", "three")] {
            indexes.add(Namespace::new(database, collection), [doc! { "key": { "x": 1 }, "name": "x_1" }]);
        }
        assert!(!indexes.see("b", &mut doc! { "drop": "three" }).unwrap());
        assert!(!indexes.see("a", &mut doc! { "dropDatabase": 1 }).unwrap());
        assert_eq!(indexes.commands().count(), 0);
        assert!(Indexes::default().see("a", &mut doc! { "createIndexes": 5 }).is_err());
    }
}
