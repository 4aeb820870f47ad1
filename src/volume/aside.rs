//! [`Aside`]: a directory of the agent's own to mount the volume at for a moment.

use std::fs;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::device::{MOUNT_TIMEOUT, Volume};
use super::mounts;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandRunner, CommandSpec};

/// Where they are, unless `TMPDIR` says otherwise: the agent's unit has a `/tmp` of its own, which nobody else can mount anything in.
const PLACE: &str = "/run/trove-guestagent";
/// Begins the names of such directories.
const PREFIX: &str = "trove-volume-";

fn place() -> Utf8PathBuf {
    std::env::var("TMPDIR").map_or_else(|_| PLACE.into(), Utf8PathBuf::from)
}

/// Unmounts and removes what an agent that was killed has left. For the agent's start.
pub async fn clear_left_over(commands: &Arc<dyn CommandRunner>) {
    let Ok(entries) = place().read_dir_utf8() else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().starts_with(PREFIX)) {
        tracing::warn!(directory = %entry.path(), "an earlier agent was cut off while the volume was mounted here; unmounting it");
        let_go(commands.clone(), entry.into_path()).await;
    }
}

/// Unmounts what is mounted there, even when somebody uses it, and removes the directory, but only as an empty one: what is mounted there is never deleted.
async fn let_go(commands: Arc<dyn CommandRunner>, directory: Utf8PathBuf) {
    if let Ok(Some(_)) = mounts::at(&directory) {
        let umount = CommandSpec::new("umount").args(["--lazy", "--", directory.as_str()]).timeout(MOUNT_TIMEOUT).outside();
        if let Err(error) = commands.run(&Op::internal(CancellationToken::new()), umount).await {
            tracing::error!(%directory, %error, "the volume stays mounted aside");
        }
    }
    remove(&directory);
}

fn remove(directory: &Utf8Path) {
    if let Err(error) = fs::remove_dir(directory) {
        tracing::warn!(%directory, %error, "failed to remove an empty directory");
    }
}

/// Removed when dropped; what is mounted there then is unmounted first.
#[derive(Debug)]
pub(super) struct Aside {
    directory: Utf8PathBuf,
    commands: Arc<dyn CommandRunner>,
}

impl Aside {
    pub(super) fn new(commands: Arc<dyn CommandRunner>) -> Result<Self> {
        let action = "create a directory to mount the volume at";
        let place = place();
        fs::create_dir_all(&place).action(action)?;
        let created = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place).action(action)?;
        // Kept, because a TempDir removes what is in it.
        let directory =
            Utf8PathBuf::from_path_buf(created.keep()).map_err(|path| Error::guest(format!("{} is not UTF-8", path.display())))?;
        Ok(Aside { directory, commands })
    }

    pub(super) fn path(&self) -> &Utf8Path {
        &self.directory
    }

    /// Unmounts it, whatever became of `outcome`, which is passed on. By an operation of its own: the one that ends may be cancelled.
    pub(super) async fn close<T>(self, volume: &Volume, outcome: Result<T>) -> Result<T> {
        let unmounted = volume.unmount(&Op::internal(CancellationToken::new()), &self.directory).await;
        let value = outcome?;
        unmounted.map(|()| value)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        match (mounts::at(&self.directory), Handle::try_current()) {
            // Without a runtime the agent is ending: its next start does it.
            (Ok(Some(_)), Ok(runtime)) => drop(runtime.spawn(let_go(self.commands.clone(), self.directory.clone()))),
            (Ok(Some(_)), Err(_)) => {}
            _ => remove(&self.directory),
        }
    }
}
