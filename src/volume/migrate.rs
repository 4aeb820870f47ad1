//! Moving what a package put below the mount point onto the new volume.

use std::io::ErrorKind;
use std::time::Duration;

use camino::{Utf8Component, Utf8Path};

use super::device::Volume;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::CommandSpec;

/// How long the copy may take.
const COPY_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

impl Volume {
    /// Copies the content of `source` to the volume, into `sub_directory` of it when given, with owners, modes and extended
    /// attributes. The volume is mounted aside for that time only; `source` stays as it is.
    ///
    /// # Errors
    /// No such directory, or the copy failed.
    pub async fn migrate_data(&self, op: &Op, source: &Utf8Path, sub_directory: Option<&Utf8Path>) -> Result<()> {
        if !source.is_dir() {
            return Err(Error::guest(format!("there is no directory {source} to move to {}", self.device())));
        }
        if let Some(sub) = sub_directory
            && !sub.components().all(|part| matches!(part, Utf8Component::Normal(_)))
        {
            return Err(Error::guest(format!("{sub} is not a directory below the mount point")));
        }
        let aside = self.aside()?;
        self.mount(op, aside.path(), false).await?;
        let target = sub_directory.map_or_else(|| aside.path().to_owned(), |sub| aside.path().join(sub));
        let copied = self.copy(op, source, &target).await.action(format!("copy {source} to {}", self.device()));
        aside.close(self, copied).await
    }

    async fn copy(&self, op: &Op, source: &Utf8Path, target: &Utf8Path) -> Result<()> {
        std::fs::create_dir_all(target).action(format!("create {target}"))?;
        let rsync = CommandSpec::new("rsync")
            .args(["--archive", "--hard-links", "--acls", "--xattrs", "--sparse", "--one-file-system"])
            // A slash at the end: the content of the directory, not the directory.
            .args([&format!("{source}/"), &format!("{target}/")])
            .timeout(COPY_TIMEOUT);
        match self.run(op, rsync).await {
            Err(Error::Io { source: reason, .. }) if reason.kind() == ErrorKind::NotFound => {}
            other => return other.map(|_| ()),
        }
        let copy = CommandSpec::new("cp")
            .args(["--archive", "--sparse=auto", "--one-file-system", "--"])
            .args([&format!("{source}/."), &format!("{target}/")])
            .timeout(COPY_TIMEOUT);
        self.run(op, copy).await.map(|_| ())
    }
}
