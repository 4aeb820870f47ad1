//! `/etc/fstab`: one line per device, replaced and never glued to another.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Error, Result};
use crate::system::files;

/// The agent's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// Device path, as Trove knows the volume.
    pub device: Utf8PathBuf,
    /// Where it is mounted.
    pub mount_point: Utf8PathBuf,
    /// File system type.
    pub fstype: String,
    /// Mount options; `nofail` is added, so that a guest without its volume still boots and can say so.
    pub options: String,
}

/// Blanks and backslashes as fstab(5) wants them.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' => escaped.push_str("\\040"),
            '\t' => escaped.push_str("\\011"),
            '\\' => escaped.push_str("\\134"),
            '#' => escaped.push_str("\\043"),
            other => escaped.push(other),
        }
    }
    escaped
}

impl fmt::Display for FstabEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nofail = self.options.split(',').any(|option| option == "nofail");
        let options = match (self.options.as_str(), nofail) {
            ("", _) => "nofail".to_owned(),
            (options, true) => options.to_owned(),
            (options, false) => format!("{options},nofail"),
        };
        let (device, mount_point) = (escape(self.device.as_str()), escape(self.mount_point.as_str()));
        write!(f, "{device}\t{mount_point}\t{}\t{}\t0\t0", escape(&self.fstype), escape(&options))
    }
}

impl FstabEntry {
    fn check(&self) -> Result<()> {
        let fields = [self.device.as_str(), self.mount_point.as_str(), &self.fstype, &self.options];
        if fields.iter().any(|field| field.contains(['\n', '\r', '\0'])) || self.fstype.is_empty() {
            return Err(Error::guest(format!("{} cannot be written to fstab: its mount point or options break the line", self.device)));
        }
        Ok(())
    }
}

/// True for a line about this device or this mount point; comments are not about anything.
fn concerns(line: &str, device: &str, mount_point: &str) -> bool {
    let mut fields = line.split_ascii_whitespace();
    let (first, second) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    !first.starts_with('#') && (first == device || second == mount_point)
}

fn replaced(old: &str, entry: &FstabEntry) -> String {
    let (device, mount_point) = (escape(entry.device.as_str()), escape(entry.mount_point.as_str()));
    let mut new: String = old.lines().filter(|line| !concerns(line, &device, &mount_point)).flat_map(|line| [line, "\n"]).collect();
    new.push_str(&entry.to_string());
    new.push('\n');
    new
}

/// Writes `entry`, in place of lines about the same device or mount point.
pub(super) fn set(fstab: &Utf8Path, entry: &FstabEntry) -> Result<()> {
    entry.check()?;
    let old = files::read_optional(fstab)?.unwrap_or_default();
    let new = replaced(&old, entry);
    if new == old {
        return Ok(());
    }
    files::write_atomic(fstab, new.as_bytes(), 0o644, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(device: &str, mount_point: &str) -> FstabEntry {
        FstabEntry { device: device.into(), mount_point: mount_point.into(), fstype: "ext4".into(), options: "defaults,noatime".into() }
    }

    #[test]
    fn a_line_is_added_after_one_without_an_end() {
        let new = replaced("/dev/vda1\t/\text4\tdefaults\t0\t1", &entry("/dev/vdb", "/var/lib/mysql"));
        assert_eq!(new, "/dev/vda1\t/\text4\tdefaults\t0\t1\n/dev/vdb\t/var/lib/mysql\text4\tdefaults,noatime,nofail\t0\t0\n");
    }

    #[test]
    fn the_line_of_the_same_device_is_replaced_and_no_other() {
        let old = "# /dev/vdb was here\n/dev/vdb1 /boot ext2 defaults 0 0\n/dev/vdb /mnt/old ext3 defaults 0 0\n";
        let new = replaced(old, &entry("/dev/vdb", "/mnt/new volume"));
        let line = "/dev/vdb\t/mnt/new\\040volume\text4\tdefaults,noatime,nofail\t0\t0\n";
        assert_eq!(new, format!("# /dev/vdb was here\n/dev/vdb1 /boot ext2 defaults 0 0\n{line}"));
        assert_eq!(replaced(&new, &entry("/dev/vdb", "/mnt/new volume")), new);
        assert_eq!(replaced(&new, &entry("/dev/vdc", "/mnt/new volume")).matches("/mnt/new").count(), 1);
    }

    #[test]
    fn a_mount_point_cannot_break_the_line() {
        assert!(entry("/dev/vdb", "/mnt/a\n/dev/sda / ext4").check().is_err());
    }

    proptest! {
        #[test]
        fn a_line_has_six_fields_whatever_the_path(path in "/[^\n\r\0]{0,40}") {
            let line = entry("/dev/vdb", &path).to_string();
            // fstab(5) separates by blanks and tabs alone.
            prop_assert_eq!(line.split([' ', '\t']).count(), 6);
        }
    }
}
