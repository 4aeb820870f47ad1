//! [`OplogSpan`]: the part of a replica set's log that makes a dump, which took its time, into the data of one moment (mongo-tools,
//! `mongodump/oplog_dump.go`).

use mongodb::bson::{Bson, Document, RawDocument, Timestamp, doc};

use crate::error::{Error, Result};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::system::mongodb::Session;

/// The log.
pub(super) const DATABASE: &str = "local";
/// Its collection.
pub(super) const COLLECTION: &str = "oplog.rs";

/// From the begin of the dump on, or from that of the oldest transaction that was open then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OplogSpan {
    pub(super) start: Timestamp,
}

impl OplogSpan {
    /// Begins where the log is now. `None` for a server without one: a dump of that is of no single moment.
    ///
    /// # Errors
    /// The server refused, or is no server whose log can be read.
    pub(super) async fn begin(op: &Op, session: &Session) -> Result<Option<OplogSpan>> {
        let hello = session.run(op, "ask the server for its replica set", "admin", doc! { session.flavor(op).await?.hello(): 1 }).await?;
        if hello.get_str("msg").is_ok_and(|message| message == "isdbgrid") {
            return Err(Error::bad_request("a query router has no data of its own: back up the members of each shard"));
        }
        if hello.get_str("setName").is_err() {
            return Ok(None);
        }
        let oldest = doc! {
            "find": "transactions",
            "filter": { "state": { "$in": ["prepared", "inProgress"] } },
            "sort": { "startOpTime": 1 },
            "limit": 1,
            "singleBatch": true,
            "readConcern": { "level": "local" },
        };
        let open = session.documents(op, "look for open transactions", "config", oldest).await?;
        let start = match open.first() {
            Some(transaction) => transaction.get_document("startOpTime").and_then(|time| time.get_timestamp("ts")).ok(),
            None => Some(edge(op, session, -1).await?),
        };
        let start = start.ok_or_else(|| Error::guest("the server does not tell when its oldest transaction began"))?;
        Ok(Some(OplogSpan { start }))
    }

    /// The time of the newest entry, which is the moment that the dump becomes the data of; nothing before it may be missing.
    ///
    /// # Errors
    /// Those of [`Self::check`].
    pub(super) async fn end(&self, op: &Op, session: &Session) -> Result<Timestamp> {
        let end = edge(op, session, -1).await?;
        self.check(op, session).await?;
        Ok(end)
    }

    /// Whether the log still has everything since the begin.
    ///
    /// # Errors
    /// It has not.
    pub(super) async fn check(&self, op: &Op, session: &Session) -> Result<()> {
        if edge(op, session, 1).await? <= self.start {
            return Ok(());
        }
        Err(Error::guest(
            "the oplog has rolled over while the data were read: the backup would be of no single moment; make the oplog larger (replSetResizeOplog), or back up \
             when less is written",
        ))
    }
}

/// Time of the oldest (1) or newest (-1) entry.
async fn edge(op: &Op, session: &Session, direction: i32) -> Result<Timestamp> {
    let find = doc! {
        "find": COLLECTION, "filter": {}, "sort": { "$natural": direction }, "projection": { "ts": 1 }, "limit": 1, "singleBatch": true,
    };
    let entries = session.documents(op, "look at the oplog", DATABASE, find).await?;
    let time = entries.first().and_then(|entry| entry.get_timestamp("ts").ok());
    time.ok_or_else(|| Error::guest("the oplog is empty: has the replica set been initiated?"))
}

/// What is kept with a backup of the data of this moment.
pub(super) fn metadata(end: Timestamp) -> BackupMetadata {
    BackupMetadata::from([("oplog_end".to_owned(), format!("{}.{}", end.time, end.increment))])
}

/// Entries of a span.
pub(super) fn between(start: Timestamp, end: Timestamp) -> Document {
    doc! { "ts": { "$gte": Bson::Timestamp(start), "$lte": Bson::Timestamp(end) } }
}

/// Why an entry keeps the dump from being restored, if it does: what was read under one name is found under another.
///
/// # Errors
/// Full sentence.
pub(super) fn check_entry(entry: &RawDocument) -> Result<()> {
    let happened = |what: &str| Err(Error::guest(format!("{what} while the data were read: the backup cannot be restored; make it again")));
    if entry.get_str("ns").is_ok_and(|ns| ns == "admin.system.version") {
        return happened("the server's compatibility version or its schema of accounts was changed");
    }
    let Ok(object) = entry.get_document("o") else { return Ok(()) };
    let has = |key: &str| object.get(key).is_ok_and(|value| value.is_some());
    if entry.get_str("op").is_ok_and(|op| op == "c") {
        if has("renameCollection") {
            return happened("a collection was renamed");
        }
        if has("importCollection") {
            return happened("a collection was imported");
        }
        if has("upgradeDowngradeViewlessTimeseries") {
            return happened("a time series was converted");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::rawdoc;

    #[test]
    fn entries_that_cannot_be_replayed_are_found() {
        let plain = rawdoc! { "op": "i", "ns": "shop.c", "o": { "_id": 1, "renameCollection": 1 } };
        check_entry(&plain).unwrap();
        let renamed = rawdoc! { "op": "c", "ns": "shop.$cmd", "o": { "renameCollection": "shop.a", "to": "shop.b" } };
        assert!(check_entry(&renamed).unwrap_err().to_string().starts_with("a collection was renamed"));
        let version = rawdoc! { "op": "u", "ns": "admin.system.version", "o": { "_id": "featureCompatibilityVersion" } };
        assert!(check_entry(&version).is_err());
    }
}
