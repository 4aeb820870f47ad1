//! [`Aside`]: a directory of the agent's own to mount the volume at for a moment.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use nix::mount::{MntFlags, umount2};
use tokio_util::sync::CancellationToken;

use super::device::Volume;
use super::mounts;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;

/// Begins the names of such directories.
const PREFIX: &str = "trove-volume-";

/// Unmounts and removes what an agent that was killed has left. For the agent's start.
pub fn clear_left_over() {
    let Ok(temporary) = Utf8PathBuf::from_path_buf(std::env::temp_dir()) else { return };
    let Ok(entries) = temporary.read_dir_utf8() else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().starts_with(PREFIX)) {
        tracing::warn!(directory = %entry.path(), "an earlier agent was cut off while the volume was mounted here; unmounting it");
        drop(Aside { directory: entry.into_path() });
    }
}

/// Removed when dropped, but only as an empty directory: what is mounted there is never deleted.
#[derive(Debug)]
pub(super) struct Aside {
    directory: Utf8PathBuf,
}

impl Aside {
    pub(super) fn new() -> Result<Self> {
        let created = tempfile::Builder::new().prefix(PREFIX).tempdir().action("create a directory to mount the volume at")?;
        // Kept, because a TempDir removes what is in it.
        let directory = Utf8PathBuf::from_path_buf(created.keep())
            .map_err(|path| Error::guest(format!("{} is not UTF-8: set TMPDIR", path.display())))?;
        Ok(Aside { directory })
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
        if let Ok(Some(_)) = mounts::at(&self.directory)
            && let Err(error) = umount2(self.directory.as_std_path(), MntFlags::MNT_DETACH)
        {
            tracing::error!(directory = %self.directory, %error, "the volume stays mounted aside");
        }
        if let Err(error) = fs::remove_dir(&self.directory) {
            tracing::warn!(directory = %self.directory, %error, "failed to remove an empty directory");
        }
    }
}
