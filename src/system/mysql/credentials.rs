//! The administrator's credentials: an option file, so that an operator can say `mysql --defaults-file=os_admin.cnf`.

use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretString};

use super::client::Login;
use crate::codec::Document;
use crate::codec::my_cnf::{OptionFile, quote_value};
use crate::error::{Error, Result};
use crate::system::files;
pub(crate) use crate::system::password::random_password;

/// The agent's account in the database (Trove's `ADMIN_USER_NAME`).
pub const OS_ADMIN: &str = "os_admin";

/// Reads user and password of the `[client]` group; `None` when there is no such file, or no user in it.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read(path: &Utf8Path) -> Result<Option<Login>> {
    let Some(text) = files::read_optional(path)? else { return Ok(None) };
    let file = OptionFile::parse(&text);
    let value = |name| file.last(&["client"], name).flatten();
    Ok(value("user").map(|user| Login { user, password: value("password").map(SecretString::from) }))
}

/// Writes the file, mode 0600.
///
/// # Errors
/// The file cannot be written; the old one is still there.
pub(crate) fn write(path: &Utf8Path, login: &Login, socket: &Utf8Path) -> Result<()> {
    let mut text = format!("[client]\nuser = {}\n", quote_value(&login.user)?);
    if let Some(password) = &login.password {
        text.push_str("password = ");
        text.push_str(
            &quote_value(password.expose_secret()).map_err(|_| Error::invalid("the password cannot be written to an option file"))?,
        );
        text.push('\n');
    }
    text.push_str(&format!("socket = {}\n", quote_value(socket.as_str())?));
    files::write_atomic(path, text.as_bytes(), 0o600, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8PathBuf;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_read_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("os_admin.cnf")).unwrap();
        assert!(read(&path).unwrap().is_none());
        for password in ["Simple1", "with # and ; and \\ and \" and ' and spaces "] {
            write(&path, &Login { user: OS_ADMIN.into(), password: Some(password.into()) }, "/run/x.sock".into()).unwrap();
            let login = read(&path).unwrap().unwrap();
            assert_eq!((login.user.as_str(), login.password.unwrap().expose_secret()), (OS_ADMIN, password));
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
