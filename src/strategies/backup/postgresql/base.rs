//! [`PgBaseBackup`]: the server's files, copied while it works, with the log that makes them whole.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::watched::watched;
use super::wal_hold::WalHold;
use super::{Tools, base_facts};
use crate::error::{Error, Result};
use crate::op::Op;
use crate::strategies::backup::{BackupJob, BackupRunner, BackupStream};
use crate::system::command::CommandSpec;
use crate::system::postgresql::{Client, SqlText};

/// `pg_basebackup`, as one archive.
#[derive(Debug)]
pub struct PgBaseBackup {
    /// The programs.
    pub tools: Tools,
    /// The way to the server.
    pub client: Arc<Client>,
}

impl PgBaseBackup {
    fn command(&self, job: &BackupJob) -> CommandSpec {
        self.tools
            .command("pg_basebackup", job)
            .args(["--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast"])
            .arg(format!("--label={}", job.id))
            .args(&job.extra_options)
            // Whatever the others say: the log is half of what decides.
            .arg("--verbose")
    }

    /// Size of a file of the log. What cannot be in one archive is refused.
    async fn look(&self, op: &Op) -> Result<u64> {
        let session = self.client.session(op).await?;
        let sql = SqlText::new("SELECT spcname FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY spcname");
        let tablespaces = session.texts(op, "look for tablespaces", &sql).await?;
        if !tablespaces.is_empty() {
            return Err(Error::guest(format!(
                "the server has tablespaces outside of its data directory ({}), which a base backup cannot take along: move their tables, or set \
                 backup_strategy = PgDump",
                tablespaces.join(", ")
            )));
        }
        let sql = SqlText::new("SELECT pg_size_bytes(current_setting('wal_segment_size'))");
        let sizes = session.texts(op, "ask how big a file of the log is", &sql).await?;
        let size = sizes.first().and_then(|size| size.parse().ok());
        size.ok_or_else(|| Error::guest("the server does not say how big a file of its log is"))
    }
}

#[async_trait]
impl BackupRunner for PgBaseBackup {
    fn name(&self) -> &'static str {
        "PgBaseBackup"
    }

    fn extension(&self) -> &'static str {
        ".tar"
    }

    async fn start(&self, op: &Op, job: &BackupJob) -> Result<BackupStream> {
        if job.parent.is_some() {
            return Err(Error::bad_request("there are no incremental backups of this datastore yet: ask for a full one"));
        }
        let segment_size = self.look(op).await?;
        let hold = match WalHold::begin(op, &self.client, &job.id).await {
            Ok(hold) => Some(hold),
            Err(error @ Error::Cancelled { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "nothing keeps the log that the backup needs: it fails if the server recycles that before its end");
                None
            }
        };
        let login = &self.tools.login;
        let mut running = login.service().spawn(op, self.command(job)).await?.guarded_by(Arc::clone(login));
        drop(running.take_stdin());
        let Some(output) = running.take_stdout() else { return Err(Error::guest("the backup tool has no output")) };
        let (reader, watcher) = watched(output);
        let op = op.clone();
        let finish = async move {
            let log = running.finish(&op).await?.stderr;
            drop(hold);
            base_facts::completed(&log)?;
            base_facts::metadata(&watcher.head(), &log, segment_size)
        };
        Ok(BackupStream { reader, finish: Box::pin(finish) })
    }
}
