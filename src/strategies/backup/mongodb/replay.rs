//! [`Replay`]: the oplog of an archive, applied to a server (mongo-tools, `mongorestore/oplog.go`).

use std::collections::HashMap;

use mongodb::bson::{Bson, Document, doc};

use super::indexes::Indexes;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::mongodb::Session;

/// Commands of the log that a server applies as they are.
const COMMANDS: [&str; 7] = ["create", "drop", "dropDatabase", "collMod", "convertToCapped", "emptycapped", "dbCheck"];
/// How deep entries may be in entries: the log has one in another.
const MAX_DEPTH: usize = 4;

/// Applies entries in the order in which they come. Those of a transaction wait for its end, and are held in memory until then.
#[derive(Debug, Default)]
pub(super) struct Replay {
    transactions: HashMap<Vec<u8>, Vec<Document>>,
    pub(super) applied: u64,
}

/// What an entry is to a transaction.
#[derive(Debug, PartialEq)]
enum Part {
    None,
    /// More is to come.
    Some(Vec<u8>),
    /// Its last operations, which happen now.
    Last(Vec<u8>),
    Commit(Vec<u8>),
    Abort(Vec<u8>),
}

impl Part {
    fn of(entry: &Document) -> Part {
        let (Ok(session), Ok(number)) = (entry.get_document("lsid"), entry.get_i64("txnNumber")) else { return Part::None };
        let Ok(object) = entry.get_document("o") else { return Part::None };
        let key = || session.to_vec().map(|bytes| [bytes, number.to_le_bytes().to_vec()].concat()).unwrap_or_default();
        let is = |name: &str| object.get_bool(name).unwrap_or(false);
        if object.contains_key("commitTransaction") {
            Part::Commit(key())
        } else if object.contains_key("abortTransaction") {
            Part::Abort(key())
        } else if !object.contains_key("applyOps") {
            // A write that its client may try again: an entry like all others.
            Part::None
        } else if is("partialTxn") || is("prepare") {
            Part::Some(key())
        } else {
            Part::Last(key())
        }
    }
}

impl Replay {
    /// Applies one entry.
    ///
    /// # Errors
    /// The server refused it, or it is one that cannot be replayed.
    pub(super) async fn entry(&mut self, op: &Op, session: &Session, indexes: &mut Indexes, entry: Document) -> Result<()> {
        match Part::of(&entry) {
            Part::None => self.apply(op, session, indexes, entry).await,
            Part::Some(key) => {
                self.transactions.entry(key).or_default().extend(nested(&entry)?);
                Ok(())
            }
            Part::Abort(key) => {
                self.transactions.remove(&key);
                Ok(())
            }
            Part::Last(key) => {
                let mut operations = self.transactions.remove(&key).unwrap_or_default();
                operations.extend(nested(&entry)?);
                self.all(op, session, indexes, operations).await
            }
            Part::Commit(key) => {
                // One that was prepared before the dump began has nothing here, and its data are in the dump.
                let operations = self.transactions.remove(&key).unwrap_or_default();
                self.all(op, session, indexes, operations).await
            }
        }
    }

    async fn all(&mut self, op: &Op, session: &Session, indexes: &mut Indexes, operations: Vec<Document>) -> Result<()> {
        for operation in operations {
            self.apply(op, session, indexes, operation).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, op: &Op, session: &Session, indexes: &mut Indexes, entry: Document) -> Result<()> {
        // Entries within entries, in their order; no recursion over what came from elsewhere.
        let mut waiting = vec![(entry, 0)];
        while let Some((mut entry, depth)) = waiting.pop() {
            let (kind, namespace) = (text(&entry, "op")?, text(&entry, "ns")?);
            if kind == "n" || is_left_out(&namespace) {
                continue;
            }
            if kind == "c" {
                let object = entry.get_document_mut("o").map_err(|_| damaged("an entry has no command"))?;
                let command = object.keys().next().cloned().unwrap_or_default();
                if command == "applyOps" {
                    if depth >= MAX_DEPTH {
                        return Err(damaged("entries are nested too deeply"));
                    }
                    waiting.extend(nested(&entry)?.into_iter().rev().map(|inner| (inner, depth + 1)));
                    continue;
                }
                let database = namespace.split('.').next().unwrap_or_default();
                if indexes.see(database, object)? {
                    continue;
                }
                if !COMMANDS.contains(&command.as_str()) {
                    return Err(damaged(&format!("'{command}' cannot be replayed")));
                }
            }
            self.one(op, session, &kind, entry).await.action(format!("replay what happened to {namespace}"))?;
        }
        Ok(())
    }

    async fn one(&mut self, op: &Op, session: &Session, kind: &str, mut entry: Document) -> Result<()> {
        if !matches!(kind, "i" | "u" | "d" | "c") {
            return Err(damaged(&format!("'{kind}' is an operation that is not known")));
        }
        // Collections have other UUIDs here; sessions and times are the old server's.
        let kept = |key: &String| matches!(key.as_str(), "op" | "ns" | "o" | "o2" | "b");
        entry = entry.into_iter().filter(|(key, _)| kept(key)).collect();
        self.applied += 1;
        session.run(op, "apply an entry of the oplog", "admin", doc! { "applyOps": [entry] }).await.map(drop)
    }
}

fn nested(entry: &Document) -> Result<Vec<Document>> {
    let operations =
        entry.get_document("o").and_then(|object| object.get_array("applyOps")).map_err(|_| damaged("a transaction has no operations"))?;
    let operations = operations.iter().map(|operation| operation.as_document().cloned());
    operations.collect::<Option<_>>().ok_or_else(|| damaged("an operation of a transaction is none"))
}

fn text(entry: &Document, key: &str) -> Result<String> {
    match entry.get(key) {
        Some(Bson::String(text)) => Ok(text.clone()),
        _ => Err(damaged("an entry has no operation or no name")),
    }
}

/// What is of one server, or of the cluster that it was in.
fn is_left_out(namespace: &str) -> bool {
    let database = namespace.split('.').next().unwrap_or_default();
    matches!(database, "local" | "config") || matches!(namespace, "admin.system.keys" | "admin.system.version") || namespace.is_empty()
}

fn damaged(reason: &str) -> Error {
    Error::Storage { action: "replay the oplog".into(), reason: reason.into(), transient: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_transactions_are_told_from_writes_that_may_be_tried_again() {
        let entry = |object: Document| doc! { "lsid": { "id": 1 }, "txnNumber": 3_i64, "op": "c", "ns": "admin.$cmd", "o": object };
        let key = [doc! { "id": 1 }.to_vec().unwrap(), 3_i64.to_le_bytes().to_vec()].concat();
        assert_eq!(Part::of(&entry(doc! { "applyOps": [], "partialTxn": true })), Part::Some(key.clone()));
        assert_eq!(Part::of(&entry(doc! { "applyOps": [], "prepare": true })), Part::Some(key.clone()));
        assert_eq!(Part::of(&entry(doc! { "applyOps": [], "count": 5_i64 })), Part::Last(key.clone()));
        assert_eq!(Part::of(&entry(doc! { "commitTransaction": 1 })), Part::Commit(key.clone()));
        assert_eq!(Part::of(&entry(doc! { "abortTransaction": 1 })), Part::Abort(key));
        assert_eq!(Part::of(&entry(doc! { "_id": 5 })), Part::None);
        assert_eq!(Part::of(&doc! { "op": "c", "o": { "applyOps": [] } }), Part::None);
    }

    #[test]
    fn what_is_of_one_server_is_left_out() {
        assert!(is_left_out("config.transactions") && is_left_out("local.x") && is_left_out("") && is_left_out("admin.system.version"));
        assert!(!is_left_out("admin.system.users") && !is_left_out("shop.c") && !is_left_out("shop.$cmd"));
    }
}
