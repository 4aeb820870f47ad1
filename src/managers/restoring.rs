//! A restore into the instance's own data directory: marked on disk from before the old data go until the new are whole, so that half of a
//! database is never started.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use std::sync::Arc;

use super::Owner;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::strategies::backup::{RestoreRunner, RestoreStep};
use crate::system::files;
use crate::system::service::ServiceControl;

/// In the state directory: the data directory is being restored.
const FILE: &str = "restoring";

/// Says that the data directory holds half of a restore.
#[derive(Debug, Clone)]
pub struct HalfRestored {
    file: Utf8PathBuf,
    data_dir: Utf8PathBuf,
}

impl HalfRestored {
    /// Of this guest.
    pub fn new(state_dir: &Utf8Path, data_dir: impl Into<Utf8PathBuf>) -> HalfRestored {
        HalfRestored { file: state_dir.join(FILE), data_dir: data_dir.into() }
    }

    /// True when the data directory holds a restore that did not end.
    pub fn is_set(&self) -> bool {
        self.file.exists()
    }

    /// The data directory is of no use until [`Self::forget`].
    ///
    /// # Errors
    /// The marker cannot be written.
    pub fn set(&self) -> Result<()> {
        files::ensure_directory(self.file.parent().unwrap_or(Utf8Path::new("/")), 0o700, None)?;
        files::write_atomic(&self.file, b"", 0o600, None)
    }

    /// The data directory is whole, or empty.
    ///
    /// # Errors
    /// The marker cannot be removed.
    pub fn forget(&self) -> Result<()> {
        files::remove(&self.file)
    }

    /// Keeps everybody from starting the server on half of a database.
    ///
    /// # Errors
    /// There is one.
    pub fn refuse(&self) -> Result<()> {
        if !self.is_set() {
            return Ok(());
        }
        Err(Error::guest(format!(
            "{} holds half of a restored backup, and the server is not started on it: delete the instance, or have it prepared again",
            self.data_dir
        )))
    }
}

/// Empties the data directory of an instance.
#[async_trait]
pub trait Clear: Send + Sync + fmt::Debug {
    /// Leaves nothing of whatever database there was, and of what the agent knows of it.
    ///
    /// # Errors
    /// The file system refused, or a server that an earlier agent has left there cannot be ended.
    async fn clear(&self, op: &Op) -> Result<()>;
}

/// The instance itself as the target.
#[derive(Debug)]
pub struct Instance {
    /// Its marker.
    pub marker: HalfRestored,
    /// Its server.
    pub service: Arc<dyn ServiceControl>,
    /// How long that may take to stop.
    pub wait: Duration,
    /// Empties it.
    pub contents: Box<dyn Clear>,
}

impl Instance {
    async fn clear(&self, op: &Op) -> Result<()> {
        // A guest that boots in the middle of it must not start the server.
        self.service.set_enabled(op, false).await?;
        self.service.stop(op, self.wait).await.action("stop the database server")?;
        self.marker.set()?;
        self.contents.clear(op).await
    }
}

/// A restore with what the instance needs around it. A scratch directory only needs its owner.
#[derive(Debug)]
pub struct Restoring {
    /// The restore itself.
    pub inner: Box<dyn RestoreRunner>,
    /// Where to.
    pub directory: Utf8PathBuf,
    /// Whom the directory belongs to.
    pub owner: Owner,
    /// None for a scratch directory.
    pub instance: Option<Instance>,
}

#[async_trait]
impl RestoreRunner for Restoring {
    async fn begin(&mut self, op: &Op) -> Result<()> {
        if let Some(instance) = &self.instance {
            instance.clear(op).await.action("empty the data directory")?;
        }
        self.owner.directory(op, &self.directory, 0o750).await?;
        self.inner.begin(op).await
    }

    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()> {
        self.inner.apply(op, step).await
    }

    async fn finish(&mut self, op: &Op) -> Result<()> {
        self.inner.finish(op).await?;
        self.owner.take(op, &self.directory).await?;
        let Some(instance) = &self.instance else { return Ok(()) };
        // What the marker's absence promises must be on the disk first.
        let synced = crate::op::spawn_blocking(nix::unistd::sync).await;
        synced.map_err(|error| Error::guest(format!("writing the restored files to the disk broke off: {error}")))?;
        instance.marker.forget()
    }
}
