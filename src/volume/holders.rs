//! Which processes keep a file system busy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::mounts::DeviceNumber;

/// Processes named in an error at most.
const NAMED: usize = 5;

/// True when the link leads to a file on `device`.
fn leads_to(link: &Path, device: DeviceNumber) -> bool {
    fs::metadata(link).is_ok_and(|metadata| DeviceNumber::new(metadata.dev()) == device)
}

/// True when a file on `device` is mapped into memory (field 4 of `/proc/PID/maps`, hexadecimal).
fn maps(process: &Path, device: DeviceNumber) -> bool {
    let number = format!("{:02x}:{:02x}", device.major, device.minor);
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines().any(|line| line.split_ascii_whitespace().nth(3) == Some(number.as_str()))
}

fn holds(process: &Path, device: DeviceNumber) -> bool {
    let fixed = ["cwd", "root", "exe"].iter().any(|name| leads_to(&process.join(name), device));
    let open = || fs::read_dir(process.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| leads_to(&fd.path(), device)));
    fixed || open() || maps(process, device)
}

/// For example `mariadbd (812), rsync (901)`; empty when none can be seen. What cannot be read is left out: it explains an error
/// that has already happened.
pub(super) fn describe(device: DeviceNumber) -> String {
    let Ok(entries) = fs::read_dir("/proc") else { return String::new() };
    let processes = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    let holders = processes.filter(|entry| holds(&entry.path(), device)).take(NAMED).map(|entry| {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        format!("{} ({})", name.trim(), entry.file_name().to_string_lossy())
    });
    holders.collect::<Vec<_>>().join(", ")
}
