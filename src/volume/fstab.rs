//! `/etc/fstab`: one line for the volume, replaced and never glued to another. It names the file system by its UUID, so that it
//! is also the guest's memory of which volume belongs where.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

use super::mounts::unescape;
use crate::error::{Error, Result};
use crate::system::files;

/// How fstab(5) has the UUID of a file system in place of a device.
const UUID_TAG: &str = "UUID=";

/// A guest without its volume still boots, and can say so (`nofail`); with it, the database does not start before it is mounted, which
/// `nofail` alone would allow (systemd.mount(5)).
const BOOT_OPTIONS: [&str; 3] = ["nofail", "x-systemd.before=local-fs.target", "x-systemd.device-timeout=30s"];

/// The agent's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// UUID of the file system; the line names the device itself when there is none.
    pub uuid: Option<String>,
    /// Device path, as Trove knows the volume. Older lines name it.
    pub device: Utf8PathBuf,
    /// Where it is mounted.
    pub mount_point: Utf8PathBuf,
    /// File system type.
    pub fstype: String,
    /// Mount options; [`BOOT_OPTIONS`] are added.
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

impl FstabEntry {
    /// First field of the line.
    fn source(&self) -> String {
        self.uuid.as_ref().map_or_else(|| escape(self.device.as_str()), |uuid| format!("{UUID_TAG}{uuid}"))
    }
}

impl fmt::Display for FstabEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |option: &str| option.split('=').next().unwrap_or(option).to_owned();
        let given: Vec<&str> = self.options.split(',').filter(|option| !option.is_empty()).collect();
        let added = BOOT_OPTIONS.into_iter().filter(|&option| !given.iter().any(|given| name(given) == name(option)));
        let options = given.iter().copied().chain(added).collect::<Vec<_>>().join(",");
        let (source, mount_point) = (self.source(), escape(self.mount_point.as_str()));
        write!(f, "{source}\t{mount_point}\t{}\t{}\t0\t0", escape(&self.fstype), escape(&options))
    }
}

impl FstabEntry {
    fn check(&self) -> Result<()> {
        let uuid = self.uuid.as_deref().unwrap_or_default();
        let fields = [uuid, self.device.as_str(), self.mount_point.as_str(), &self.fstype, &self.options];
        if fields.iter().any(|field| field.contains(['\n', '\r', '\0'])) || self.fstype.is_empty() {
            return Err(Error::guest(format!("{} cannot be written to fstab: its mount point or options break the line", self.device)));
        }
        Ok(())
    }
}

/// The first two fields of a line that is about anything; comments are not.
fn fields(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split_ascii_whitespace();
    let (source, mount_point) = (fields.next()?, fields.next()?);
    (!source.starts_with('#')).then_some((source, mount_point))
}

fn replaced(old: &str, entry: &FstabEntry) -> String {
    let (source, device, mount_point) = (entry.source(), escape(entry.device.as_str()), escape(entry.mount_point.as_str()));
    let concerns = |line: &str| fields(line).is_some_and(|(first, second)| first == source || first == device || second == mount_point);
    let mut new: String = old.lines().filter(|line| !concerns(line)).flat_map(|line| [line, "\n"]).collect();
    new.push_str(&entry.to_string());
    new.push('\n');
    new
}

/// Writes `entry`, in place of lines about the same file system, device or mount point.
pub(super) fn set(fstab: &Utf8Path, entry: &FstabEntry) -> Result<()> {
    entry.check()?;
    let old = files::read_optional(fstab)?.unwrap_or_default();
    let new = replaced(&old, entry);
    if new == old {
        return Ok(());
    }
    files::write_atomic(fstab, new.as_bytes(), 0o644, None)
}

/// What belongs at a mount point, as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A file system, on whatever device.
    Uuid(String),
    /// A device, or anything else by its name.
    Named(String),
}

fn of_mount_point(text: &str, mount_point: &Utf8Path) -> Option<Source> {
    let (source, _) = text.lines().filter_map(fields).find(|(_, second)| unescape(second).as_deref() == Some(mount_point.as_str()))?;
    match source.strip_prefix(UUID_TAG) {
        // Quotes are allowed in tags.
        Some(uuid) => Some(Source::Uuid(uuid.trim_matches('"').to_owned())),
        None => unescape(source).map(Source::Named),
    }
}

/// What the table has for `mount_point`, if anything.
pub(super) fn source_at(fstab: &Utf8Path, mount_point: &Utf8Path) -> Result<Option<Source>> {
    Ok(files::read_optional(fstab)?.and_then(|text| of_mount_point(&text, mount_point)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(device: &str, mount_point: &str) -> FstabEntry {
        FstabEntry {
            uuid: None,
            device: device.into(),
            mount_point: mount_point.into(),
            fstype: "ext4".into(),
            options: "defaults,noatime".into(),
        }
    }

    #[test]
    fn a_line_is_added_after_one_without_an_end() {
        let new = replaced("/dev/vda1\t/\text4\tdefaults\t0\t1", &entry("/dev/vdb", "/var/lib/mysql"));
        assert_eq!(
            new,
            "/dev/vda1\t/\text4\tdefaults\t0\t1\n/dev/vdb\t/var/lib/mysql\text4\tdefaults,noatime,nofail,x-systemd.before=local-fs.target,x-systemd.device-timeout=30s\t0\t0\n"
        );
    }

    #[test]
    fn the_line_of_the_same_device_is_replaced_and_no_other() {
        let old = "# /dev/vdb was here\n/dev/vdb1 /boot ext2 defaults 0 0\n/dev/vdb /mnt/old ext3 defaults 0 0\n";
        let new = replaced(old, &entry("/dev/vdb", "/mnt/new volume"));
        let line = "/dev/vdb\t/mnt/new\\040volume\text4\tdefaults,noatime,nofail,x-systemd.before=local-fs.target,x-systemd.device-timeout=30s\t0\t0\n";
        assert_eq!(new, format!("# /dev/vdb was here\n/dev/vdb1 /boot ext2 defaults 0 0\n{line}"));
        assert_eq!(replaced(&new, &entry("/dev/vdb", "/mnt/new volume")), new);
        assert_eq!(replaced(&new, &entry("/dev/vdc", "/mnt/new volume")).matches("/mnt/new").count(), 1);
    }

    #[test]
    fn a_file_system_is_named_by_its_uuid_and_takes_the_place_of_its_device() {
        let old = "UUID=0-0 / ext4 defaults 0 1\n/dev/vdb /mnt/old ext3 defaults 0 0\nUUID=1-2 /mnt/older ext3 defaults 0 0\n";
        let new = replaced(old, &FstabEntry { uuid: Some("1-2".into()), ..entry("/dev/vdb", "/mnt/new volume") });
        let line = "UUID=1-2\t/mnt/new\\040volume\text4\tdefaults,noatime,nofail,x-systemd.before=local-fs.target,x-systemd.device-timeout=30s\t0\t0\n";
        assert_eq!(new, format!("UUID=0-0 / ext4 defaults 0 1\n{line}"));
        let at = |mount_point: &str| of_mount_point(&new, Utf8Path::new(mount_point));
        assert_eq!(at("/mnt/new volume"), Some(Source::Uuid("1-2".into())));
        assert_eq!(at("/mnt"), None);
        assert_eq!(of_mount_point("#UUID=1 /mnt\n /dev/vdb\t/mnt", Utf8Path::new("/mnt")), Some(Source::Named("/dev/vdb".into())));
        assert_eq!(of_mount_point("UUID=\"1-2\" /mnt ext4", Utf8Path::new("/mnt")), Some(Source::Uuid("1-2".into())));
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
