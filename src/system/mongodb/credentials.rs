//! The administrator's credentials: Trove's file, which has a name and a password as JSON (trove/guestagent/datastore/experimental/mongodb/service.py:
//! `MongoDBCredentials`).

use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::client::Login;
use crate::error::{Error, Result};
use crate::system::files;

/// The agent's user in the database `admin` (Trove's `MONGO_ADMIN_NAME`).
pub const OS_ADMIN: &str = "os_admin";
/// Where the users of the whole server are.
pub(crate) const ADMIN: &str = "admin";

#[derive(Deserialize)]
struct File {
    username: String,
    password: SecretString,
}

/// How to log in as the agent's user; `None` when there is no such file.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub(crate) fn read(path: &Utf8Path) -> Result<Option<Login>> {
    let Some(text) = files::read_optional(path)? else { return Ok(None) };
    // The parser's words may quote what it read.
    let file: File = serde_json::from_str(&text).map_err(|_| Error::guest(format!("{path} is damaged: it has no name and password")))?;
    Ok(Some(Login { user: file.username, database: ADMIN.into(), password: file.password }))
}

/// Writes the file, mode 0600.
///
/// # Errors
/// The file cannot be written; the old one is still there.
pub(crate) fn write(path: &Utf8Path, password: &SecretString) -> Result<()> {
    let text = json!({"username": OS_ADMIN, "password": password.expose_secret()}).to_string();
    files::write_atomic(path, text.as_bytes(), 0o600, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_read_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(dir.path().join("creds.json")).unwrap();
        assert!(read(&path).unwrap().is_none());
        write(&path, &"a\"b:\\".into()).unwrap();
        let login = read(&path).unwrap().unwrap();
        assert_eq!((login.user.as_str(), login.database.as_str(), login.password.expose_secret()), (OS_ADMIN, ADMIN, "a\"b:\\"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "planted").unwrap();
        assert!(!read(&path).unwrap_err().to_string().contains("planted"));
    }
}
