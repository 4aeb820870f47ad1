//! Growing a file system to the size of its device.

use std::time::Duration;

use camino::Utf8Path;

use super::content::{Content, FileSystem};
use super::device::Volume;
use super::release::LINGER;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::wait::Wait;

/// How long a check or a resize may take.
const RESIZE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Exit code of e2fsck: another program uses the device, or worse.
const OPERATIONAL_ERROR: i32 = 8;

impl Volume {
    /// Grows the file system to the size of the device. `online` leaves it mounted and in use; otherwise it is unmounted,
    /// checked, grown, and left unmounted (the controller asks for `mount_volume` next).
    ///
    /// # Errors
    /// No device, no file system on it, busy, or the tools' own words.
    pub async fn resize(&self, op: &Op, online: bool) -> Result<()> {
        self.wait_for_device(op).await?;
        let filesystem = match self.content(op).await? {
            Content::FileSystem(filesystem) => filesystem,
            Content::Nothing => return Err(Error::guest(format!("{} has no file system to grow", self.device()))),
            Content::Other(what) => return Err(Error::guest(format!("{} holds {what}, not a file system to grow", self.device()))),
        };
        let mounted = self.mount_points()?.into_iter().next();
        let grown = match (filesystem, mounted) {
            (FileSystem::Xfs, Some(mount_point)) if online => self.grow_xfs(op, &mount_point).await,
            (FileSystem::Xfs, _) => self.grow_xfs_aside(op).await,
            (FileSystem::Ext3 | FileSystem::Ext4, Some(_)) if online => self.grow_ext(op).await,
            (FileSystem::Ext3 | FileSystem::Ext4, _) => self.check_and_grow_ext(op).await,
        };
        grown.action(format!("grow the file system on {}", self.device()))
    }

    async fn grow_ext(&self, op: &Op) -> Result<()> {
        self.run(op, CommandSpec::new("resize2fs").arg(self.device()).timeout(RESIZE_TIMEOUT)).await.map(|_| ())
    }

    async fn check_and_grow_ext(&self, op: &Op) -> Result<()> {
        let mut wait = Wait::new(op, "have the volume for its check", LINGER);
        loop {
            self.unmount_all(op).await?;
            // 1: errors were corrected; 2 and 3: and the guest should be restarted, had this been its root.
            let check = CommandSpec::new("e2fsck").args(["-f", "-p"]).arg(self.device()).accept(&[1, 2, 3, OPERATIONAL_ERROR]);
            let checked = self.run(op, check.timeout(RESIZE_TIMEOUT)).await?;
            if checked.code != OPERATIONAL_ERROR {
                return self.grow_ext(op).await;
            }
            let (holders, said) = (self.mounted_elsewhere().await?, [checked.stdout.trim(), checked.stderr.trim()].join("; "));
            // systemd mounts a volume named in fstab whenever it is attached.
            let in_the_way = if self.mount_points()?.is_empty() { holders } else { "it was mounted again each time".to_owned() };
            if in_the_way.is_empty() {
                let status = format!("exit status: {OPERATIONAL_ERROR}");
                return Err(Error::Command { program: "e2fsck".to_owned(), status, stderr: said });
            }
            wait.next(op, format!("{in_the_way}; e2fsck: {said}")).await?;
        }
    }

    async fn grow_xfs(&self, op: &Op, mount_point: &Utf8Path) -> Result<()> {
        self.run(op, CommandSpec::new("xfs_growfs").arg(mount_point).timeout(RESIZE_TIMEOUT)).await.map(|_| ())
    }

    /// XFS grows only while mounted, and mounting it is its check: the log is replayed.
    async fn grow_xfs_aside(&self, op: &Op) -> Result<()> {
        self.unmount_all(op).await?;
        let aside = self.aside()?;
        self.mount(op, aside.path(), false).await?;
        let grown = self.grow_xfs(op, aside.path()).await;
        aside.close(self, grown).await
    }
}
