//! [`Volume`]: one block device.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio_util::sync::CancellationToken;

use super::aside::Aside;
use super::content::{Content, FileSystem, Probed, holding, probe};
use super::fstab::{self, FstabEntry};
use super::mounts::{self, DeviceNumber};
use crate::config::VolumeSettings;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};

/// Between two attempts to see the device.
const ATTEMPT_INTERVAL: Duration = Duration::from_secs(1);
/// How long mounting and unmounting may take: both may replay or write a journal.
pub(super) const MOUNT_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a check of a file system may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3600);

/// What [`Volume::ensure_formatted`] does with a file system that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is kept, with its data: an instance that is built again, or a request that is repeated.
    Keep,
    /// It is an error, unless it is empty: the volume of a new instance should be new.
    Refuse,
}

/// What [`Volume::ensure_formatted`] found or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formatted {
    /// The device was blank and has a file system now.
    New,
    /// It had this one.
    AlreadyThere(FileSystem),
}

/// The data volume of an instance.
#[derive(Debug, Clone)]
pub struct Volume {
    device: Utf8PathBuf,
    settings: VolumeSettings,
    fstab: Utf8PathBuf,
    commands: Arc<dyn CommandRunner>,
}

/// `num_tries` of them, a second apart; the first is at once.
#[derive(Debug)]
pub(super) struct Attempts {
    ticks: tokio::time::Interval,
    left: u32,
}

impl Attempts {
    /// Waits for the next one; false when there is none.
    pub(super) async fn next(&mut self, op: &Op) -> Result<bool> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(false) };
        self.left = left;
        op.until_cancelled("wait for the data volume", self.ticks.tick()).await?;
        Ok(true)
    }
}

impl Volume {
    /// The volume `device` (a request's `device_path`, or the setting's).
    pub fn new(device: impl Into<Utf8PathBuf>, settings: &VolumeSettings, commands: Arc<dyn CommandRunner>) -> Self {
        Volume { device: device.into(), settings: settings.clone(), fstab: "/etc/fstab".into(), commands }
    }

    /// The same volume with another table of file systems.
    #[must_use]
    pub fn with_fstab(mut self, fstab: impl Into<Utf8PathBuf>) -> Self {
        self.fstab = fstab.into();
        self
    }

    /// Path of the device.
    pub fn device(&self) -> &Utf8Path {
        &self.device
    }

    /// Runs a program that changes the volume, or where it is mounted.
    pub(super) async fn run(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        self.commands.run(op, command.outside()).await
    }

    pub(super) fn aside(&self) -> Result<Aside> {
        Aside::new(self.commands.clone())
    }

    pub(super) async fn probe(&self, op: &Op) -> Result<Probed> {
        probe(op, self.commands.as_ref(), self.device.as_str()).await
    }

    pub(super) async fn content(&self, op: &Op) -> Result<Content> {
        Ok(self.probe(op).await?.content)
    }

    /// Paths of the devices that hold the file system `uuid`.
    pub(super) async fn devices_holding(&self, op: &Op, uuid: &str) -> Result<Vec<String>> {
        holding(op, self.commands.as_ref(), uuid).await
    }

    /// The same settings for another device.
    pub(super) fn on(&self, device: impl Into<Utf8PathBuf>) -> Volume {
        Volume { device: device.into(), ..self.clone() }
    }

    pub(super) fn fstab(&self) -> &Utf8Path {
        &self.fstab
    }

    pub(super) fn settings(&self) -> &VolumeSettings {
        &self.settings
    }

    /// Device number, or `None` when there is no such block device.
    pub(super) fn number(&self) -> Result<Option<DeviceNumber>> {
        match fs::metadata(&self.device) {
            Ok(metadata) if metadata.file_type().is_block_device() => Ok(Some(DeviceNumber::new(metadata.rdev()))),
            Ok(_) => Err(Error::guest(format!("{} is not a block device: is device_path right?", self.device))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).action(format!("look at {}", self.device)),
        }
    }

    /// True when the device is there and has a size; one that is being attached has a node first.
    pub(super) fn is_ready(&self) -> Result<bool> {
        let Some(DeviceNumber { major, minor }) = self.number()? else { return Ok(false) };
        let size = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/size")).unwrap_or_default();
        Ok(size.trim().parse::<u64>().is_ok_and(|sectors| sectors > 0))
    }

    /// Waits until the device is there: `num_tries` looks, a second apart.
    ///
    /// # Errors
    /// It is not, or it is no block device.
    pub async fn wait_for_device(&self, op: &Op) -> Result<()> {
        let mut attempts = self.attempts();
        while attempts.next(op).await? {
            if self.is_ready()? {
                return Ok(());
            }
        }
        let tries = self.settings.num_tries;
        Err(Error::guest(format!("Device '{}' is not ready: it was not there in {tries} attempts; is the volume attached?", self.device)))
    }

    /// Looks at a device that may still be on its way.
    pub(super) fn attempts(&self) -> Attempts {
        Attempts { ticks: tokio::time::interval(ATTEMPT_INTERVAL), left: self.settings.num_tries.max(1) }
    }

    /// Where the device is mounted, newest first. Empty when it is not there.
    ///
    /// # Errors
    /// It is no block device.
    pub fn mount_points(&self) -> Result<Vec<Utf8PathBuf>> {
        self.number()?.map_or_else(|| Ok(Vec::new()), mounts::of_device)
    }

    /// Sees to it that there is a file system on the device. A device that holds anything is never formatted.
    ///
    /// # Errors
    /// It is mounted, holds a partition table or something else, or (with [`Existing::Refuse`]) a file system with files on it.
    pub async fn ensure_formatted(&self, op: &Op, existing: Existing) -> Result<Formatted> {
        self.wait_for_device(op).await?;
        match self.content(op).await? {
            Content::Nothing => {}
            Content::FileSystem(filesystem) => {
                if existing == Existing::Refuse && !self.is_empty(op).await? {
                    return Err(self.refusal(&format!("a file system ({}) with files on it", filesystem.name())));
                }
                return Ok(Formatted::AlreadyThere(filesystem));
            }
            Content::Other(what) => return Err(self.refusal(&what)),
        }
        if let Some(mount_point) = self.mount_points()?.first() {
            return Err(self.refusal(&format!("a file system mounted at {mount_point}")));
        }
        self.format(op).await?;
        Ok(Formatted::New)
    }

    fn refusal(&self, what: &str) -> Error {
        Error::guest(format!(
            "Could not format '{}': it holds {what}. If its data is not needed, blank it (wipefs --all {}) and try again.",
            self.device, self.device
        ))
    }

    async fn format(&self, op: &Op) -> Result<()> {
        let filesystem: FileSystem = self
            .settings
            .fstype
            .parse()
            .map_err(|_| Error::guest(format!("volume_fstype is '{}': only ext3, ext4 and xfs can be made", self.settings.fstype)))?;
        tracing::info!(device = %self.device, filesystem = filesystem.name(), "formatting the data volume");
        let mkfs = CommandSpec::new(format!("mkfs.{}", filesystem.name()))
            .args(&self.settings.format_options)
            .arg(&self.device)
            .timeout(self.settings.format_timeout);
        let made = self.run(op, mkfs).await.action(format!("format {}", self.device));
        if made.is_err() {
            // It was blank. Half a file system would be taken for somebody's data the next time, and could not be mounted either.
            let blank = CommandSpec::new("wipefs").args(["--all", "--quiet"]).arg(&self.device);
            if let Err(error) = self.run(&Op::internal(CancellationToken::new()), blank).await {
                tracing::warn!(device = %self.device, %error, "failed to blank a device that could not be formatted");
            }
        }
        made.map(drop)
    }

    /// True when its file system has nothing on it but `lost+found`.
    async fn is_empty(&self, op: &Op) -> Result<bool> {
        if let Some(mount_point) = self.mount_points()?.first() {
            return has_no_files(mount_point);
        }
        let aside = self.aside()?;
        let mount = CommandSpec::new("mount").args(["-o", "ro", "--"]).args([self.device.as_str(), aside.path().as_str()]);
        self.run(op, mount.timeout(MOUNT_TIMEOUT)).await.action(format!("look at the files on {}", self.device))?;
        let empty = has_no_files(aside.path());
        aside.close(self, empty).await
    }

    /// Checks a file system that is there and not mounted, and corrects what can be corrected without a question.
    ///
    /// # Errors
    /// What the check could not correct.
    pub async fn check(&self, op: &Op) -> Result<()> {
        let Content::FileSystem(FileSystem::Ext3 | FileSystem::Ext4) = self.content(op).await? else {
            // XFS replays its log when it is mounted.
            return Ok(());
        };
        // 1: errors were corrected; 2 and 3: and the guest should be restarted, had this been its root.
        let check = CommandSpec::new("e2fsck").arg("-p").arg(&self.device).accept(&[1, 2, 3]).timeout(CHECK_TIMEOUT);
        let checked = self.run(op, check).await.action(format!("check the file system on {}", self.device))?;
        if checked.code != 0 {
            tracing::warn!(device = %self.device, said = checked.stdout.trim(), "errors in the file system were corrected");
        }
        Ok(())
    }

    /// Mounts the device; `persist` writes it to fstab too. Already mounted there is fine.
    ///
    /// # Errors
    /// Something else is mounted there, or the mount failed.
    pub async fn mount(&self, op: &Op, mount_point: &Utf8Path, persist: bool) -> Result<()> {
        self.wait_for_device(op).await?;
        fs::create_dir_all(mount_point).action(format!("create {mount_point}"))?;
        let Probed { content, uuid } = self.probe(op).await?;
        // As it is, not as the setting says: the file system may be older than the setting.
        let fstype = match content {
            Content::FileSystem(filesystem) => filesystem.name().to_owned(),
            _ => self.settings.fstype.clone(),
        };
        match mounts::at(mount_point)? {
            Some(mount) if Some(mount.device) == self.number()? => {}
            Some(mount) => return Err(Error::guest(format!("{mount_point} is in use: {} is mounted there", mount.source))),
            None => {
                let mut mount = CommandSpec::new("mount").args(["-t", &fstype]).timeout(MOUNT_TIMEOUT);
                if !self.settings.mount_options.is_empty() {
                    mount = mount.args(["-o", &self.settings.mount_options]);
                }
                let mount = mount.args(["--", self.device.as_str(), mount_point.as_str()]);
                self.run(op, mount).await.action(format!("mount {} at {mount_point}", self.device))?;
            }
        }
        if let Err(error) = self.set_readahead(op).await {
            tracing::warn!(%error, "the volume is mounted with the kernel's own read-ahead");
        }
        if persist {
            let options = self.settings.mount_options.clone();
            let entry = FstabEntry { uuid, device: self.device.clone(), mount_point: mount_point.to_owned(), fstype, options };
            fstab::set(&self.fstab, &entry)?;
        }
        Ok(())
    }
}

fn has_no_files(directory: &Utf8Path) -> Result<bool> {
    let entries = directory.read_dir_utf8().action(format!("list {directory}"))?;
    for entry in entries {
        if entry.action(format!("list {directory}"))?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}
