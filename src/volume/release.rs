//! Letting go of the volume: unmounting it, wherever it is mounted.

use std::time::Duration;

use camino::Utf8Path;

use super::device::{MOUNT_TIMEOUT, Volume};
use super::holders;
use super::mounts::{self, DeviceNumber, Mount};
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::wait::Wait;

/// How long others may keep a mount of their own: a unit or a container that starts has one for a moment.
pub(super) const LINGER: Duration = Duration::from_secs(10);

impl Volume {
    /// Unmounts `mount_point`; nothing mounted there is fine.
    ///
    /// # Errors
    /// Busy: with what is mounted below it and the processes that hold it.
    pub async fn unmount(&self, op: &Op, mount_point: &Utf8Path) -> Result<()> {
        let Some(mount) = mounts::at(mount_point)? else { return Ok(()) };
        let umount = CommandSpec::new("umount").args(["--", mount.point.as_str()]).timeout(MOUNT_TIMEOUT);
        match self.run(op, umount).await {
            Err(Error::Command { status, stderr, .. }) => {
                let why = in_the_way(mount).await?;
                Err(Error::guest(format!("failed to unmount {mount_point}: umount ({status}): {}{why}", stderr.trim())))
            }
            other => other.map(|_| ()),
        }
    }

    /// Unmounts the device wherever it is mounted.
    ///
    /// # Errors
    /// Those of [`Self::unmount`]; it is the guest's own disk.
    pub async fn unmount_all(&self, op: &Op) -> Result<()> {
        match self.number()? {
            Some(number) => self.unmount_everywhere(op, number).await,
            None => Ok(()),
        }
    }

    /// Makes the volume ready to be detached: unmounts `mount_point` and every other place where the same file system is mounted. The device
    /// is the one that is mounted there, whatever it is called.
    ///
    /// # Errors
    /// Those of [`Self::unmount`]; another program keeps it mounted for itself.
    pub async fn release(&self, op: &Op, mount_point: &Utf8Path) -> Result<()> {
        let Some(mount) = mounts::at(mount_point)? else { return self.unmount_all(op).await };
        self.unmount(op, mount_point).await?;
        // A directory of the guest's own disk that was mounted here ends nothing else.
        if !mounts::is_root(mount.device)? {
            self.unmount_everywhere(op, mount.device).await?;
            let mut wait = Wait::new(op, "wait until nobody else has the volume mounted", LINGER);
            loop {
                let elsewhere = in_other_namespaces(mount.device).await;
                if elsewhere.is_empty() {
                    break;
                }
                wait.next(op, format!("{mount_point} is unmounted, but {elsewhere}: end it before the volume is detached")).await?;
            }
        }
        Ok(())
    }

    /// Who has the volume mounted out of the agent's sight, as a clause; empty when nobody.
    pub(super) async fn mounted_elsewhere(&self) -> Result<String> {
        match self.number()? {
            Some(number) => Ok(in_other_namespaces(number).await),
            None => Ok(String::new()),
        }
    }

    async fn unmount_everywhere(&self, op: &Op, number: DeviceNumber) -> Result<()> {
        if mounts::is_root(number)? {
            return Err(Error::guest(format!("{} is the guest's own disk, not a data volume: is device_path right?", self.device())));
        }
        for mount_point in mounts::of_device(number)? {
            self.unmount(op, &mount_point).await?;
        }
        Ok(())
    }
}

/// Who has the device mounted out of the agent's sight, as a clause; empty when nobody.
async fn in_other_namespaces(device: DeviceNumber) -> String {
    let programs = crate::op::spawn_blocking(move || holders::other_namespaces(device)).await.unwrap_or_default();
    if programs.is_empty() { String::new() } else { format!("{programs} still has the volume mounted for itself") }
}

/// Why a file system is busy, as the end of a sentence; empty when nothing is to be seen.
async fn in_the_way(mount: Mount) -> Result<String> {
    if let Some(below) = mounts::below(&mount.point)? {
        return Ok(format!("; {} is mounted below it, at {}", below.source, below.point));
    }
    let holders = crate::op::spawn_blocking(move || holders::describe(mount.device)).await.unwrap_or_default();
    Ok(if holders.is_empty() { String::new() } else { format!("; in use by {holders}") })
}
