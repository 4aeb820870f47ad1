//! What is on a device: asked of `blkid`'s probing, never of its cache.

use camino::{Utf8Path, Utf8PathBuf};
use strum::{EnumString, IntoStaticStr};

use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandRunner, CommandSpec};

/// File systems the agent makes and resizes (Trove's `volume_fstype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum FileSystem {
    /// ext3.
    Ext3,
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// Name as `mount -t` wants it.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What a device holds, and the name that goes with it wherever it is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probed {
    pub(super) content: Content,
    /// UUID of the file system (or of whatever else has one).
    pub(super) uuid: Option<String>,
}

impl Probed {
    fn anonymous(content: Content) -> Probed {
        Probed { content, uuid: None }
    }
}

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// No signature of anything.
    Nothing,
    /// One of the agent's file systems.
    FileSystem(FileSystem),
    /// Something else, in words.
    Other(String),
}

/// Exit code of `blkid -p`: nothing found.
const NOTHING_FOUND: i32 = 2;
/// Exit code of `blkid -p`: more than one thing found.
const AMBIVALENT: i32 = 8;

fn understand(export: &str) -> Probed {
    let value = |name: &str| export.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    let content = match (value("TYPE"), value("PTTYPE")) {
        ("", "") => Content::Other("something blkid does not name".to_owned()),
        ("", table) => Content::Other(format!("a partition table ({table})")),
        (kind, _) => kind.parse().map_or_else(|_| Content::Other(format!("a {kind} signature")), Content::FileSystem),
    };
    Probed { content, uuid: Some(value("UUID").to_owned()).filter(|uuid| !uuid.is_empty()) }
}

/// Looks at the device itself.
pub(super) async fn probe(op: &Op, commands: &dyn CommandRunner, device: &str) -> Result<Probed> {
    let blkid = CommandSpec::new("blkid").args(["-p", "-o", "export", device]).accept(&[NOTHING_FOUND, AMBIVALENT]);
    let output = commands.run(op, blkid).await.action(format!("look at what {device} holds"))?;
    match output.code {
        NOTHING_FOUND if !output.stderr.trim().is_empty() => {
            // blkid says the same of a device it cannot read.
            Err(Error::guest(format!("{device} cannot be read: {}", output.stderr.trim())))
        }
        NOTHING_FOUND => Ok(Probed::anonymous(Content::Nothing)),
        AMBIVALENT => Ok(Probed::anonymous(Content::Other("several signatures at once".to_owned()))),
        _ => Ok(understand(&output.stdout)),
    }
}

/// Devices that hold what has this UUID, by looking at every device of the guest. Each is named once.
pub(super) async fn holding(op: &Op, commands: &dyn CommandRunner, uuid: &str) -> Result<Vec<String>> {
    // Without a cache file: what an earlier device of the same name held is no answer.
    let blkid =
        CommandSpec::new("blkid").args(["-c", "/dev/null", "-o", "device", "-t"]).arg(format!("UUID={uuid}")).accept(&[NOTHING_FOUND]);
    let output = commands.run(op, blkid).await.action(format!("look for the file system {uuid}"))?;
    let mut devices: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
    if devices.is_empty()
        && let Some(device) = linked(uuid)
        && probe(op, commands, &device).await.is_ok_and(|probed| probed.uuid.as_deref() == Some(uuid))
    {
        devices.push(device);
    }
    Ok(devices)
}

/// Where udev says that it is, for devices that the kernel does not list to this guest. A link may be out of date.
fn linked(uuid: &str) -> Option<String> {
    if uuid.contains('/') {
        return None;
    }
    let link = Utf8Path::new("/dev/disk/by-uuid").join(uuid);
    link.canonicalize_utf8().ok().map(Utf8PathBuf::into_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        let ext4 = understand("DEVNAME=/dev/vdb\nUUID=1-2\nTYPE=ext4\nUSAGE=filesystem");
        assert_eq!(ext4, Probed { content: Content::FileSystem(FileSystem::Ext4), uuid: Some("1-2".into()) });
        let content = |export: &str| understand(export).content;
        assert_eq!(content("DEVNAME=/dev/vdb\nPTUUID=1\nPTTYPE=gpt"), Content::Other("a partition table (gpt)".into()));
        assert_eq!(content("TYPE=LVM2_member"), Content::Other("a LVM2_member signature".into()));
    }
}
