//! What is on a device: asked of `blkid`'s probing, never of its cache.

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

fn understand(export: &str) -> Content {
    let value = |name: &str| export.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    if let Ok(filesystem) = value("TYPE").parse() {
        return Content::FileSystem(filesystem);
    }
    match (value("TYPE"), value("PTTYPE")) {
        ("", "") => Content::Other("something blkid does not name".to_owned()),
        ("", table) => Content::Other(format!("a partition table ({table})")),
        (kind, _) => Content::Other(format!("a {kind} signature")),
    }
}

/// Looks at the device itself.
pub(super) async fn probe(op: &Op, commands: &dyn CommandRunner, device: &str) -> Result<Content> {
    let blkid = CommandSpec::new("blkid").args(["-p", "-o", "export", device]).accept(&[NOTHING_FOUND, AMBIVALENT]);
    let output = commands.run(op, blkid).await.action(format!("look at what {device} holds"))?;
    match output.code {
        NOTHING_FOUND if !output.stderr.trim().is_empty() => {
            // blkid says the same of a device it cannot read.
            Err(Error::guest(format!("{device} cannot be read: {}", output.stderr.trim())))
        }
        NOTHING_FOUND => Ok(Content::Nothing),
        AMBIVALENT => Ok(Content::Other("several signatures at once".to_owned())),
        _ => Ok(understand(&output.stdout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        assert_eq!(understand("DEVNAME=/dev/vdb\nUUID=1\nTYPE=ext4\nUSAGE=filesystem"), Content::FileSystem(FileSystem::Ext4));
        assert_eq!(understand("DEVNAME=/dev/vdb\nPTUUID=1\nPTTYPE=gpt"), Content::Other("a partition table (gpt)".into()));
        assert_eq!(understand("TYPE=LVM2_member"), Content::Other("a LVM2_member signature".into()));
    }
}
