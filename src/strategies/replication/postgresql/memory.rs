//! [`Memory`]: what no server remembers for its replication. A file of the agent's own directory, for root's eyes alone.

use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::system::files;

/// Survives restarts of agent, server and guest.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Password of the account replicas log in with: all members of a set have the same, as they have the same roles.
    #[serde(default, serialize_with = "expose")]
    pub(super) password: Option<SecretString>,
    /// Whom it follows, or followed last.
    #[serde(default)]
    pub(super) source: Option<(String, u16)>,
    /// The data are being brought in line with those of the source.
    #[serde(default)]
    pub(super) rebuilding: bool,
}

/// In the clear: every new replica has to be told.
fn expose<S: Serializer>(password: &Option<SecretString>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    password.as_ref().map(ExposeSecret::expose_secret).serialize(serializer)
}

impl Memory {
    /// What was remembered; nothing, when there is no file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn load(path: &Utf8Path) -> Result<Memory> {
        let Some(text) = files::read_optional(path)? else { return Ok(Memory::default()) };
        // The parser's words may quote the file, which holds a password.
        serde_json::from_str(&text)
            .map_err(|_| Error::guest(format!("{path} is not readable any more: remove it, and attach the replicas again")))
    }

    /// Writes it down.
    ///
    /// # Errors
    /// The file cannot be written; the old one is still there.
    pub(super) fn save(&self, path: &Utf8Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::guest(format!("failed to write {path}: {error}")))?;
        files::write_atomic(path, text.as_bytes(), 0o600, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("replication.json");
        let memory = Memory { password: Some("planted".into()), source: Some(("h".into(), 1)), rebuilding: true };
        memory.save(&path).unwrap();
        let read = Memory::load(&path).unwrap();
        assert_eq!((read.password.as_ref().unwrap().expose_secret(), read.rebuilding), ("planted", true));
        assert!(!format!("{read:?}").contains("planted"));
        std::fs::write(&path, r#"{"password": "planted", "source": 5}"#).unwrap();
        assert!(!Memory::load(&path).unwrap_err().to_string().contains("planted"));
    }
}
