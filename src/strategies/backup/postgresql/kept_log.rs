//! [`KeptLog`]: the log since the last backup, which the next incremental one is made of.
//!
//! A replication slot keeps it, in the server's own `pg_wal`: nothing is copied, and the server itself drops the oldest of it when it is more than
//! `max_slot_wal_keep_size`, and remembers that it did.

use std::sync::Arc;

use super::wal;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::postgresql::{Client, Session, SqlText};

/// The slot's name.
const SLOT: &str = "trove_guestagent_backup";

/// The kept log of one server.
#[derive(Debug, Clone)]
pub(super) struct KeptLog {
    pub(super) client: Arc<Client>,
}

fn slot(what: &'static str) -> SqlText {
    SqlText::new("SELECT ").raw(what).raw(" FROM pg_replication_slots WHERE slot_name = ").literal(SLOT)
}

/// How much of the log slots may keep; `None` when the server has no bound (before PostgreSQL 13).
async fn bound(op: &Op, session: &Session<'_>) -> Result<Option<String>> {
    let sql = SqlText::new("SELECT current_setting('max_slot_wal_keep_size', true)");
    Ok(session.texts(op, "ask how much of the log may be kept", &sql).await?.into_iter().next())
}

impl KeptLog {
    /// Keeps the log from here on, unless it is kept since earlier. A server that follows another one, that has no bound, or a bound of 0, keeps none.
    ///
    /// # Errors
    /// The server refused: all its slots are in use, for one.
    pub(super) async fn begin(&self, op: &Op) -> Result<()> {
        let session = self.client.session(op).await?;
        let Some(bound) = bound(op, &session).await? else { return Ok(()) };
        let sql = SqlText::new("SELECT pg_is_in_recovery()::text");
        let follows = session.texts(op, "ask whether the server follows another", &sql).await?.first().is_some_and(|said| said == "true");
        let status = session.texts(op, "look for the log that is kept", &slot("wal_status")).await?.into_iter().next();
        let is_wanted = !follows && bound != "0";
        if status.is_some() && (!is_wanted || status.as_deref() == Some("lost")) {
            session.run(op, "keep the log no more", &slot("pg_drop_replication_slot(slot_name)")).await?;
        } else if status.is_some() {
            return Ok(());
        }
        if !is_wanted {
            return Ok(());
        }
        let sql = SqlText::new("SELECT pg_create_physical_replication_slot(").literal(SLOT).raw(", true)");
        session.run(op, "keep the log for incremental backups", &sql).await
    }

    /// Makes sure that everything since `from` is kept. `parent` is the location of the backup that ends there.
    ///
    /// # Errors
    /// It is not: there would be a gap between the parent and its child.
    pub(super) async fn require(&self, op: &Op, from: u64, segment_size: u64, parent: &str) -> Result<()> {
        let session = self.client.session(op).await?;
        let Some(bound) = bound(op, &session).await? else {
            return Err(Error::bad_request("incremental backups need PostgreSQL 13 or later: make a full one"));
        };
        let rows = session.rows(op, "look for the log that is kept", &slot("wal_status, restart_lsn")).await?;
        let (status, since) = match rows.first().map(Vec::as_slice) {
            Some([status, since]) => (status.as_deref(), since.as_deref().and_then(wal::position)),
            _ => (None, None),
        };
        let reason = match (status, since) {
            (Some("lost"), _) => {
                format!("more was written since than max_slot_wal_keep_size ({bound}) lets the server keep, and the oldest of it is gone")
            }
            (_, None) => "the server does not keep it: a full backup begins with that".to_owned(),
            (_, Some(since)) if since / segment_size > from / segment_size => "only what a later backup needs is kept".to_owned(),
            _ => return Ok(()),
        };
        Err(Error::bad_request(format!("the log since the parent backup {parent} is not complete: {reason}. Make a full backup")))
    }

    /// What came before `until` is not needed any more.
    ///
    /// # Errors
    /// The server refused.
    pub(super) async fn release(&self, op: &Op, until: u64) -> Result<()> {
        let session = self.client.session(op).await?;
        if bound(op, &session).await?.is_none() {
            return Ok(());
        }
        let until = format!("{:X}/{:X}", until >> 32, until & 0xffff_ffff);
        let sql = SqlText::new("SELECT pg_replication_slot_advance(slot_name, ")
            .literal(&until)
            .raw(") FROM pg_replication_slots WHERE slot_name = ")
            .literal(SLOT)
            .raw(" AND restart_lsn < ")
            .literal(&until);
        session.run(op, "let go of the log before the last backup", &sql).await
    }
}
