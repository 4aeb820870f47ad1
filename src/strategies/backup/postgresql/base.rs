//! [`PgBaseBackup`]: the server's files, copied while it works, with the log that makes them whole.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::watched::watched;
use super::kept_log::KeptLog;
use super::wal_hold::WalHold;
use super::{INSTANCE, Tools, base_facts};
use crate::error::{Error, Result};
use crate::model::BackupMetadata;
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
    /// Kept with the backup, so that its children are known to be of the same instance: the guest's id.
    pub instance: String,
}

impl PgBaseBackup {
    fn kept(&self) -> KeptLog {
        KeptLog { client: Arc::clone(&self.client) }
    }

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
        base_facts::segment_size(op, &session).await
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
            return Err(Error::bad_request("pg_basebackup makes full backups: one with a parent is PgBaseBackupIncremental's"));
        }
        let segment_size = self.look(op).await?;
        match self.kept().begin(op).await {
            Err(error) if !op.cancel.is_cancelled() => {
                tracing::warn!(%error, "no incremental backup can build on this one: the log since is not kept")
            }
            other => other?,
        }
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
        let (op, instance) = (op.clone(), self.instance.clone());
        let finish = async move {
            let log = running.finish(&op).await?.stderr;
            drop(hold);
            base_facts::completed(&log)?;
            let mut metadata = base_facts::metadata(&watcher.head(), &log, segment_size)?;
            metadata.insert(INSTANCE.to_owned(), instance);
            Ok(metadata)
        };
        Ok(BackupStream { reader, finish: Box::pin(finish) })
    }

    async fn stored(&self, op: &Op, metadata: &BackupMetadata) -> Result<()> {
        match base_facts::stop(metadata) {
            Some(stop) => self.kept().release(op, stop).await,
            None => Ok(()),
        }
    }
}
