//! A restore into the instance's own data directory: marked on disk from before the old data go until the new are whole, so that half of a
//! database is never started.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;

use super::bootstrap;
use super::layout::Layout;
use super::private_server;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::strategies::backup::{RestoreRunner, RestoreStep};
use crate::system::files;
use crate::system::service::ServiceControl;

/// In the state directory: the data directory is being restored.
const MARKER: &str = "restoring";

fn marker(layout: &Layout) -> Utf8PathBuf {
    layout.state_dir.join(MARKER)
}

/// True when the data directory holds a restore that did not end.
pub(super) fn is_half_restored(layout: &Layout) -> bool {
    marker(layout).exists()
}

/// The data directory is whole, or empty.
///
/// # Errors
/// The marker cannot be removed.
pub(super) fn forget(layout: &Layout) -> Result<()> {
    files::remove(&marker(layout))
}

/// Keeps everybody from starting the server on half of a database.
///
/// # Errors
/// There is one.
pub(super) fn refuse_half_restored(layout: &Layout) -> Result<()> {
    if !is_half_restored(layout) {
        return Ok(());
    }
    Err(Error::guest(format!(
        "{} holds half of a restored backup, and the server is not started on it: delete the instance, or have it prepared again",
        layout.data_dir
    )))
}

/// A restore with what the instance needs around it. A scratch directory only needs its owner.
#[derive(Debug)]
pub(super) struct Restoring {
    pub(super) inner: Box<dyn RestoreRunner>,
    pub(super) directory: Utf8PathBuf,
    pub(super) owner: Owner,
    /// None for a scratch directory.
    pub(super) instance: Option<Instance>,
}

/// The instance itself as the target.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) layout: Layout,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) wait: Duration,
}

impl Instance {
    async fn clear(&self, op: &Op) -> Result<()> {
        // A guest that boots in the middle of it must not start the server.
        self.service.set_enabled(op, false).await?;
        self.service.stop(op, self.wait).await.action("stop the database server")?;
        files::ensure_directory(&self.layout.state_dir, 0o700, None)?;
        files::write_atomic(&marker(&self.layout), b"", 0o600, None)?;
        private_server::end_left_over(op, &self.layout.data_dir).await?;
        // The account in there is not this agent's any more.
        files::remove(&self.layout.credentials)?;
        bootstrap::clear(&self.layout)
    }
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
        let synced = tokio::task::spawn_blocking(nix::unistd::sync).await;
        synced.map_err(|error| Error::guest(format!("writing the restored files to the disk broke off: {error}")))?;
        forget(&instance.layout)
    }
}
