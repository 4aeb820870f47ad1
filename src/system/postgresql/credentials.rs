//! The administrator's credentials: a password file (manual, "The Password File"), so that an operator, and the server's own programs, can say
//! `PGPASSFILE=os_admin.pgpass`.

use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};
use crate::system::files;

/// The agent's role in the database (Trove's `ADMIN_USER_NAME`).
pub const OS_ADMIN: &str = "os_admin";

/// Reads the password of `os_admin`; `None` when there is no such file, or no such line in it.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read(path: &Utf8Path) -> Result<Option<SecretString>> {
    let Some(text) = files::read_optional(path)? else { return Ok(None) };
    let password = text.lines().find_map(|line| line.strip_prefix(&format!("*:*:*:{OS_ADMIN}:")));
    Ok(password.map(SecretString::from))
}

/// Writes the file, mode 0600.
///
/// # Errors
/// The file cannot be written; the old one is still there.
pub(crate) fn write(path: &Utf8Path, password: &SecretString) -> Result<()> {
    let text = password.expose_secret();
    if text.contains([':', '\\', '\n', '\r']) {
        return Err(Error::invalid("the password cannot be written to a password file"));
    }
    files::write_atomic(path, format!("*:*:*:{OS_ADMIN}:{text}\n").as_bytes(), 0o600, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_read_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(dir.path().join("os_admin.pgpass")).unwrap();
        assert!(read(&path).unwrap().is_none());
        write(&path, &"Simple1".into()).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().expose_secret(), "Simple1");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&path, &"a:b".into()).is_err());
    }
}
