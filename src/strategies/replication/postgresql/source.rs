//! [`Remote`]: a source, as its replica sees it over the network.

use std::sync::Arc;

use camino::Utf8PathBuf;

use super::place::{History, Place};
use super::tls;
use crate::error::{Error, Result, ResultExt};
use crate::model::{ReplicationUser, Source, SourceTls};
use crate::op::Op;
use crate::system::postgresql::{Address, Client, Session, SqlText};

/// What a replica must have as much of as its source (manual, "Hot Standby": "Administrator's Overview"), and what servers have unless they are told otherwise.
const LIMITS: [(&str, u64); 5] = [
    ("max_connections", 100),
    ("max_locks_per_transaction", 64),
    ("max_prepared_transactions", 0),
    ("max_wal_senders", 10),
    ("max_worker_processes", 8),
];

/// The way to a source.
#[derive(Debug)]
pub(super) struct Remote {
    client: Client,
    name: String,
}

#[derive(Debug)]
struct There(String, u16);

impl Address for There {
    fn address(&self) -> Result<(Utf8PathBuf, u16)> {
        Ok((Utf8PathBuf::from(&self.0), self.1))
    }
}

impl Remote {
    /// # Errors
    /// The authority it has told is none.
    pub(super) fn new(source: &Source, user: &ReplicationUser, tls: Option<&SourceTls>) -> Result<Remote> {
        let address = Arc::new(There(source.host.clone(), source.port));
        let client = Client::remote(address, &user.name, &user.password, tls::encryption(&source.host, tls)?);
        Ok(Remote { client, name: format!("{}:{}", source.host, source.port) })
    }

    /// # Errors
    /// It is not reached, is another one than its certificate must say, or does not let the account in.
    pub(super) async fn session(&self, op: &Op) -> Result<Session<'_>> {
        let session = self.client.session(op).await.map_err(|error| match error {
            Error::Database { action, code, message } if message.contains("TLS") => {
                let message = format!(
                    "{message}. The certificate of the source is not of the authority it told, or its server has no TLS: check its \
                     ssl_cert_file and ssl_ca_file"
                );
                Error::Database { action, code, message }
            }
            other => other,
        });
        session.action(format!("ask the source {}", self.name))
    }

    /// Where it is, and how it came there.
    pub(super) async fn place(&self, op: &Op) -> Result<(Place, History)> {
        let session = self.session(op).await?;
        let place = Place::read(op, &session).await.action(format!("ask the source {}", self.name))?;
        let history = History::read(op, &session, place.timeline).await.action(format!("ask the source {}", self.name))?;
        Ok((place, history))
    }

    /// True when it still has what comes after a place in its log, on one of these timelines.
    pub(super) async fn keeps(&self, op: &Op, from: &Place, to: &Place) -> Result<bool> {
        if from.at >= to.at {
            return Ok(true);
        }
        let session = self.session(op).await?;
        for timeline in from.timeline..=to.timeline {
            let Some(file) = from.at.file_name(timeline, to.segment_size) else { continue };
            let sql =
                SqlText::new("SELECT size FROM pg_stat_file(").literal(&format!("pg_wal/{file}")).raw(", true) WHERE size IS NOT NULL");
            if !session.texts(op, "look for the log at the source", &sql).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Numbers that this replica must not have less of; those that nobody has to set are left out.
    pub(super) async fn limits(&self, op: &Op) -> Result<Vec<(String, u64)>> {
        let sql = SqlText::new("SELECT name, setting FROM pg_settings WHERE name IN (").literals(LIMITS.map(|(name, _)| name)).raw(")");
        let rows = self.session(op).await?.rows(op, "ask the source for its limits", &sql).await?;
        let limit = |row: Vec<Option<String>>| {
            let [Some(name), Some(value)] = <[_; 2]>::try_from(row).ok()? else { return None };
            let (_, usual) = LIMITS.into_iter().find(|(limit, _)| *limit == name)?;
            Some((name, value.parse::<u64>().ok().filter(|value| *value > usual)?))
        };
        Ok(rows.into_iter().filter_map(limit).collect())
    }
}
