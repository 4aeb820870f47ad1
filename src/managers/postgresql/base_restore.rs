//! [`BaseRestore`]: a base backup into a data directory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;
use serde_json::json;

use super::copied;
use super::private_server::PrivateServerSpec;
use super::program::ServerProgram;
use crate::codec::{Document, PostgreSqlConf};
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::strategies::backup::postgresql::{ArchiveCheck, Replayed};
use crate::strategies::backup::{RestoreRunner, RestoreStep, unpack};
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::service::ServiceControl;

/// What unpacking may still do after the end of its input.
const ENDING: Duration = Duration::from_secs(600);
/// Has the server recover from its log as long as it is told to.
const RECOVERY: &str = "recovery.signal";
/// The first version that does not start when its log ends before the place it is to recover to.
const RECOVERS_TO_TARGET: u16 = 13;

/// Restores into one directory.
#[derive(Debug)]
pub(super) struct BaseRestore {
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) program: Arc<ServerProgram>,
    pub(super) owner: Owner,
    pub(super) directory: Utf8PathBuf,
    /// Makes a database of the files. None in a scratch directory: whoever looks at that does it.
    pub(super) recovery: Option<PrivateServerSpec>,
    /// The log of the incremental backups upon it, up to the last one so far.
    pub(super) log: Option<Replayed>,
    /// The instance is to be a replica: it recovers as one, and must do nothing of its own.
    pub(super) is_replica: bool,
}

impl BaseRestore {
    /// A data directory is read by its own major version alone.
    async fn check_version(&self, op: &Op) -> Result<()> {
        let Some(found) = files::read_optional(&self.directory.join("PG_VERSION"))? else {
            let reason = "there is no data directory in it".to_owned();
            return Err(Error::Storage { action: "unpack the base backup".into(), reason, transient: false });
        };
        let (made_by, version) = (found.trim(), self.program.version(op).await?);
        if made_by == version.0.to_string() {
            return Ok(());
        }
        Err(Error::guest(format!(
            "the base backup is of PostgreSQL {made_by}, and this guest's server is {version}: restore it with a datastore version of {made_by}"
        )))
    }

    /// Has the next server that is started on the directory replay the log.
    async fn recover_with(&self, op: &Op, log: &Replayed) -> Result<()> {
        let version = self.program.version(op).await?;
        if version.0 < RECOVERS_TO_TARGET {
            let reason = format!(
                "incremental backups are restored by PostgreSQL {RECOVERS_TO_TARGET} and later, and this guest's server is {version}"
            );
            return Err(Error::guest(reason));
        }
        log.check(&self.directory)?;
        let file = self.directory.join(copied::SETTINGS);
        let mut document = PostgreSqlConf::parse(&files::read_optional(&file)?.unwrap_or_default());
        log.parameters().iter().try_for_each(|(name, value)| document.set(&[name], &json!(value)))?;
        for (file, text) in [(&file, document.render()), (&self.directory.join(RECOVERY), String::new())] {
            files::write_atomic(file, text.as_bytes(), 0o600, None)?;
            self.owner.take(op, file).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl RestoreRunner for BaseRestore {
    async fn begin(&mut self, op: &Op) -> Result<()> {
        self.owner.directory(op, &self.directory, 0o700).await
    }

    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()> {
        let (into, mut check, what) = match step.index {
            0 => (self.directory.clone(), ArchiveCheck::default(), "unpack the base backup"),
            // The server recovers what it finds there.
            _ => (self.directory.join("pg_wal"), ArchiveCheck::of_log(), "unpack the log of an incremental backup"),
        };
        if step.index > 0 {
            self.log = Some(Replayed::up_to(&step.metadata)?);
        }
        // As the server's account, which can write nowhere else.
        let unpacker = CommandSpec::new("tar")
            .args(["--extract", "--file=-", "--no-same-owner", "--directory", into.as_str()])
            .as_user(self.owner.name())
            .timeout(ENDING);
        let running = self.service.spawn(op, unpacker).await?;
        let look = |bytes: bytes::Bytes| check.see(&bytes).map(|()| bytes);
        unpack(op, running, step.content, &into, look).await.action(what)?;
        check.end()
    }

    async fn finish(&mut self, op: &Op) -> Result<()> {
        self.check_version(op).await?;
        if copied::forget_source(op, &self.owner, &self.directory).await? {
            tracing::warn!("settings of the backup's own server (ALTER SYSTEM) are left out");
        }
        // What is replayed up to a place makes a server that stands alone: as a replica, it copies its source.
        if self.is_replica && self.log.is_none() {
            return files::write_atomic(&self.directory.join(copied::STANDBY), b"", 0o600, None);
        }
        if let Some(log) = &self.log {
            self.recover_with(op, log).await?;
        }
        let Some(recovery) = &self.recovery else { return Ok(()) };
        // As long as it takes: the instance's own server has to be up within the time of a start.
        recovery.start(op).await.action("recover the restored database")?.stop(op).await?;
        copied::forget_source(op, &self.owner, &self.directory).await.map(drop)
    }
}
