//! Which processes keep a file system busy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::mounts::{self, DeviceNumber};

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

/// Directories of all processes below `/proc`.
fn processes() -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| name(path).parse::<u32>().is_ok())
}

fn name(process: &Path) -> String {
    process.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// For example `mariadbd (812)`.
fn label(process: &Path) -> String {
    let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
    format!("{} ({})", command.trim(), name(process))
}

/// For example `mariadbd (812), rsync (901)`; empty when none can be seen. What cannot be read is left out: it explains an error
/// that has already happened.
pub(super) fn describe(device: DeviceNumber) -> String {
    let holders = processes().filter(|process| holds(process, device)).take(NAMED).map(|process| label(&process));
    holders.collect::<Vec<_>>().join(", ")
}

/// Processes, one of each mount namespace but the agent's own, in which `device` is mounted: a container, or a unit with a private view of
/// the file systems. Empty when there is none.
pub(super) fn other_namespaces(device: DeviceNumber) -> String {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let mut seen = vec![namespace(Path::new("/proc/self"))];
    let mut found = Vec::new();
    for process in processes() {
        let own = namespace(&process);
        if own.is_none() || seen.contains(&own) {
            continue;
        }
        seen.push(own);
        let mountinfo = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        if mounts::names_device(&mountinfo, device) {
            found.push(label(&process));
        }
    }
    found.truncate(NAMED);
    found.join(", ")
}
