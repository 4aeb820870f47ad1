//! What is mounted, by device number: `/proc/self/mountinfo` (proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Result, ResultExt};

/// Number of a block device, as `stat` and mountinfo have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceNumber {
    pub(super) major: u64,
    pub(super) minor: u64,
}

impl DeviceNumber {
    /// From `st_dev` or `st_rdev`.
    pub(super) fn new(device: u64) -> Self {
        DeviceNumber { major: nix::sys::stat::major(device), minor: nix::sys::stat::minor(device) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once(':')?;
        Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) device: DeviceNumber,
    pub(super) point: Utf8PathBuf,
    /// What was given to `mount`, for messages.
    pub(super) source: String,
}

/// Undoes the octal escapes of blanks and backslashes (fstab(5) has the same). `None` for a name that is not UTF-8.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| after.get(..3)).flatten();
        let value = octal.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(value.unwrap_or(byte));
        rest = if value.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes).into_string().ok()
}

fn parse_line(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let device = DeviceNumber::parse(fields.nth(2)?)?;
    let point = unescape(fields.nth(1)?)?;
    // Optional fields end with a dash; file system type and source follow.
    let source = fields.skip_while(|field| *field != "-").nth(2)?;
    Some(Mount { device, point: point.into(), source: unescape(source)? })
}

/// Everything mounted in the agent's mount namespace, oldest first.
fn all() -> Result<Vec<Mount>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).action(format!("read {path}"))?;
    Ok(text.lines().filter_map(parse_line).collect())
}

/// True when a text like `/proc/PID/mountinfo` has the device.
pub(super) fn names_device(mountinfo: &str, device: DeviceNumber) -> bool {
    mountinfo.lines().filter_map(parse_line).any(|mount| mount.device == device)
}

/// What is mounted at `point`: the topmost, which is what programs see.
pub(super) fn at(point: &Utf8Path) -> Result<Option<Mount>> {
    // Mountinfo has real paths.
    let real = point.canonicalize_utf8().unwrap_or_else(|_| point.to_owned());
    Ok(all()?.into_iter().rfind(|mount| mount.point == real))
}

/// Where a device is mounted, newest first: the order to unmount in.
pub(super) fn of_device(device: DeviceNumber) -> Result<Vec<Utf8PathBuf>> {
    Ok(all()?.into_iter().rev().filter(|mount| mount.device == device).map(|mount| mount.point).collect())
}

/// True for the device that the guest itself runs from.
pub(super) fn is_root(device: DeviceNumber) -> Result<bool> {
    Ok(at(Utf8Path::new("/"))?.is_some_and(|root| root.device == device))
}

/// Something mounted in a directory below `point`: it has to go first.
pub(super) fn below(point: &Utf8Path) -> Result<Option<Mount>> {
    Ok(all()?.into_iter().rfind(|mount| mount.point != point && mount.point.starts_with(point)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_blanks_and_optional_fields() {
        let line = r"36 35 98:0 /sub /mnt/a\040b\134 rw,noatime master:1 shared:7 - ext3 /dev/v\040db rw,errors=continue";
        let mount = parse_line(line).unwrap();
        assert_eq!(mount.device, DeviceNumber { major: 98, minor: 0 });
        assert_eq!(mount.point, r"/mnt/a b\");
        assert_eq!(mount.source, "/dev/v db");
        assert_eq!(parse_line("36 35 98:0 / /mnt"), None);
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(at(Utf8Path::new("/proc")).unwrap().is_some());
        assert!(at(Utf8Path::new("/proc/sys/kernel")).unwrap().is_none());
    }
}
