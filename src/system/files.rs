//! Writing files so that a crash leaves the old content or the new, never half of it.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use camino::Utf8Path;
use nix::unistd::{Gid, Group, Uid, User};

use crate::error::{Error, Result, ResultExt};

/// How much of a log's end is read, and how many lines of it are quoted.
const LOG_TAIL_BYTES: u64 = 16 << 10;
const LOG_TAIL_LINES: usize = 8;

/// Begins the names of files that are not whole yet.
pub(crate) const UNFINISHED: &str = ".trove-new-";
/// Begins the names of directories and files that are looked at once and removed.
pub(crate) const SCRATCH: &str = ".trove-check-";

/// Account names are short; a lookup that fails says which one.
pub(super) fn owner_ids(owner: &str) -> Result<(Uid, Gid)> {
    let user = User::from_name(owner).action(format!("look up the account {owner}"))?;
    let user = user.ok_or_else(|| Error::guest(format!("there is no account '{owner}' on this guest: is the datastore installed?")))?;
    let gid = Group::from_name(owner).ok().flatten().map_or(user.gid, |group| group.gid);
    Ok((user.uid, gid))
}

/// Replaces `path` atomically: a temporary file in the same directory, fsync, rename, fsync of the directory.
/// `mode` is set before there is any content; `owner` is an account name, or the agent's own when absent.
///
/// # Errors
/// [`Error::Io`] naming the file; the old content is still there.
pub fn write_atomic(path: &Utf8Path, content: &[u8], mode: u32, owner: Option<&str>) -> Result<()> {
    write_as(path, content, mode, owner.map(owner_ids).transpose()?)
}

/// [`write_atomic`], but a file that is there already keeps its mode and owner. A symbolic link is replaced, not its target.
///
/// # Errors
/// [`Error::Io`] naming the file; the old content is still there.
pub fn replace(path: &Utf8Path, content: &[u8], mode: u32, owner: Option<&str>) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(now) if now.is_file() => {
            let ids = (Uid::from_raw(now.uid()), Gid::from_raw(now.gid()));
            write_as(path, content, now.permissions().mode() & 0o777, Some(ids))
        }
        _ => write_atomic(path, content, mode, owner),
    }
}

fn write_as(path: &Utf8Path, content: &[u8], mode: u32, ids: Option<(Uid, Gid)>) -> Result<()> {
    let directory = path.parent().unwrap_or(Utf8Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).permissions(Permissions::from_mode(mode)).tempfile_in(directory)?;
        // The builder's mode is subject to the umask; the file's is not.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        if let Some((uid, gid)) = ids {
            std::os::unix::fs::fchown(file.as_file(), Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_directory(directory)
    };
    write().action(format!("write {path}"))
}

/// Removes a file for good; one that is not there is fine.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn remove(path: &Utf8Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_directory).action(format!("remove {path}")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).action(format!("remove {path}")),
    }
}

/// Renames a file, a link or a directory within its directory, for good. A file or a link of the new name is replaced.
///
/// # Errors
/// [`Error::Io`] naming both.
pub fn rename(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    let directory = to.parent().unwrap_or(Utf8Path::new("."));
    fs::rename(from, to).and_then(|()| sync_directory(directory)).action(format!("rename {from} to {to}"))
}

/// Removes a directory and everything in it; one that is not there is fine.
///
/// # Errors
/// [`Error::Io`] naming the directory.
pub fn remove_tree(directory: &Utf8Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).action(format!("remove {directory}")),
        _ => Ok(()),
    }
}

/// Copies a file and its mode; one that is not there is fine.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn copy_file(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    let Some(content) = read_bytes(from)? else { return Ok(()) };
    let mode = from.metadata().action(format!("look at {from}"))?.permissions().mode() & 0o777;
    write_atomic(to, &content, mode, None)
}

/// Copies what there is of regular files in a directory, and in those below it, with their modes; links stay where they are.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn copy_tree(from: &Utf8Path, to: &Utf8Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    ensure_directory(to, 0o755, None)?;
    for entry in from.read_dir_utf8().action(format!("read {from}"))? {
        let entry = entry.action(format!("read {from}"))?;
        let (kind, target) = (entry.file_type().action(format!("look at {}", entry.path()))?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(entry.path(), &target)?;
        } else if kind.is_file() {
            copy_file(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Removes from a directory what an agent that was killed was about to write there. For the agent's start: nobody else writes then.
pub fn clear_unfinished(directory: &Utf8Path) {
    let Ok(entries) = directory.read_dir_utf8() else { return };
    let unfinished = |name: &str| [UNFINISHED, SCRATCH].iter().any(|prefix| name.starts_with(prefix));
    for entry in entries.flatten().filter(|entry| unfinished(entry.file_name())) {
        let path = entry.path();
        let removed = if path.is_dir() { remove_tree(path) } else { remove(path) };
        match removed {
            Ok(()) => tracing::info!(%path, "removed what an earlier agent had not finished writing"),
            Err(error) => tracing::warn!(%error, "failed to remove an unfinished file; remove it"),
        }
    }
}

/// Reads a text file; `None` when there is none.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn read_optional(path: &Utf8Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).action(format!("read {path}")),
    }
}

/// The last lines that were written to a log after byte `start`, in one line, for an error message. Empty when it cannot be read: that must not
/// hide the failure it would have explained.
pub fn last_lines(log: &Utf8Path, start: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(size.saturating_sub(LOG_TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("; ")
}

/// Reads a file; `None` when there is none.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn read_bytes(path: &Utf8Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).action(format!("read {path}")),
    }
}

/// Makes a directory (and those above it) with this mode and owner; one that exists gets them.
///
/// # Errors
/// [`Error::Io`] naming the directory.
pub fn ensure_directory(path: &Utf8Path, mode: u32, owner: Option<&str>) -> Result<()> {
    fs::create_dir_all(path).action(format!("create {path}"))?;
    fs::set_permissions(path, Permissions::from_mode(mode)).action(format!("set the mode of {path}"))?;
    if let Some(owner) = owner {
        let (uid, gid) = owner_ids(owner)?;
        std::os::unix::fs::chown(path, Some(uid.as_raw()), Some(gid.as_raw())).action(format!("set the owner of {path}"))?;
    }
    Ok(())
}

/// [`ensure_directory`], but one that exists stays as it is.
///
/// # Errors
/// [`Error::Io`] naming the directory.
pub fn ensure_directory_exists(path: &Utf8Path, mode: u32, owner: Option<&str>) -> Result<()> {
    if path.is_dir() { Ok(()) } else { ensure_directory(path, mode, owner) }
}

fn sync_directory(directory: &Utf8Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8PathBuf;

    #[test]
    fn a_file_is_replaced_with_mode_and_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("state")).unwrap();
        write_atomic(&path, b"one", 0o600, None).unwrap();
        write_atomic(&path, b"two", 0o644, None).unwrap();
        assert_eq!(read_optional(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read_optional(&path).unwrap(), None);
    }

    #[test]
    fn a_replaced_file_keeps_mode_and_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("x.conf")).unwrap();
        replace(&path, b"one", 0o644, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two", 0o644, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(read_bytes(&path).unwrap().as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn what_was_not_finished_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        fs::write(path.join(".trove-new-abc"), "").unwrap();
        fs::create_dir(path.join(".trove-check-abc")).unwrap();
        fs::write(path.join(".trove-check-abc/my.cnf"), "").unwrap();
        for kept in ["status.json", ".trove-initializing"] {
            fs::write(path.join(kept), "").unwrap();
        }
        clear_unfinished(&path);
        clear_unfinished(&path.join("none"));
        let mut left: Vec<_> = path.read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
        left.sort();
        assert_eq!(left, [".trove-initializing", "status.json"]);
    }

    #[test]
    fn an_unknown_owner_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("x")).unwrap();
        let error = write_atomic(&path, b"", 0o600, Some("no-such-account")).unwrap_err();
        assert!(error.to_string().contains("'no-such-account'"), "{error}");
    }
}
