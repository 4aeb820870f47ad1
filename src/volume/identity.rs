//! Which device is the volume today: by the file system on it, because names and numbers change when it is attached again.

use camino::Utf8Path;

use super::content::Content;
use super::device::Volume;
use super::fstab::{self, Source};
use super::mounts;
use crate::error::{Error, Result};
use crate::op::Op;

impl Volume {
    /// The volume that belongs at `mount_point`: this device, unless fstab names a file system that is on another one now. Waits for it as
    /// [`Self::wait_for_device`] does.
    ///
    /// # Errors
    /// The file system that belongs there is on no device, or on several that cannot be told apart.
    pub async fn of_mount_point(&self, op: &Op, mount_point: &Utf8Path) -> Result<Volume> {
        let Some(Source::Uuid(uuid)) = fstab::source_at(self.fstab(), mount_point)? else {
            self.wait_for_device(op).await?;
            return Ok(self.clone());
        };
        let mut attempts = self.attempts();
        while attempts.next(op).await? {
            if let Some(volume) = self.holder_of(op, &uuid, mount_point).await? {
                return Ok(volume);
            }
        }
        Err(Error::guest(format!(
            "Device '{}' is not ready: {}. The file system of {mount_point} (UUID={uuid} in {}) is on no device; is the volume attached? \
             If it was replaced on purpose, mount the new one and correct that line.",
            self.device(),
            self.describe(op).await,
            self.fstab()
        )))
    }

    async fn holder_of(&self, op: &Op, uuid: &str, mount_point: &Utf8Path) -> Result<Option<Volume>> {
        // As named, nearly always: looked at first, and without looking at any other.
        if self.is_ready().unwrap_or(false) && self.probe(op).await?.uuid.as_deref() == Some(uuid) {
            return Ok(Some(self.clone()));
        }
        match self.devices_holding(op, uuid).await?.as_slice() {
            [] => Ok(None),
            [device] => {
                tracing::warn!(asked = %self.device(), %device, %mount_point, "the volume has another name than the controller knows");
                Ok(Some(self.on(device.as_str())))
            }
            several => Err(Error::guest(format!(
                "{mount_point} is the place of the file system UUID={uuid}, which is on {}: detach the copies",
                several.join(" and ")
            ))),
        }
    }

    /// What is to be said of the device when it is not the one that was looked for.
    async fn describe(&self, op: &Op) -> String {
        match (self.is_ready(), self.content(op).await) {
            (Err(error), _) => error.to_string(),
            (Ok(false), _) => "it is not there".to_owned(),
            (_, Err(error)) => error.to_string(),
            (_, Ok(Content::Nothing)) => "it is blank".to_owned(),
            (_, Ok(Content::FileSystem(filesystem))) => format!("it holds another file system ({})", filesystem.name()),
            (_, Ok(Content::Other(what))) => format!("it holds {what}"),
        }
    }

    /// Mounts the volume where fstab has it, if it has one there and nothing is mounted: what a boot does, for a volume that came late. True when
    /// there was something to do.
    ///
    /// # Errors
    /// It cannot be had: a server must not be started then, because it would find an empty directory.
    pub async fn bring_back(&self, op: &Op, mount_point: &Utf8Path) -> Result<bool> {
        if mounts::at(mount_point)?.is_some() {
            return Ok(false);
        }
        let device = match fstab::source_at(self.fstab(), mount_point)? {
            None => return Ok(false),
            Some(Source::Uuid(_)) => self.clone(),
            Some(Source::Named(device)) => self.on(device),
        };
        let volume = device.of_mount_point(op, mount_point).await.map_err(|error| not_mounted(mount_point, &error))?;
        volume.mount(op, mount_point, false).await.map_err(|error| not_mounted(mount_point, &error))?;
        tracing::info!(device = %volume.device(), %mount_point, "mounted the volume, which was not");
        Ok(true)
    }
}

fn not_mounted(mount_point: &Utf8Path, error: &Error) -> Error {
    Error::guest(format!("the data volume is not mounted at {mount_point}, and the database is not started without it: {error}"))
}
