//! [`Memory`]: what no server remembers for its replication. A file of the agent's own directory, for root's eyes alone.

use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Result;
use crate::model::SourceTls;
use crate::strategies::replication::remembered;

/// Survives restarts of agent, server and guest.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Password of the account replicas log in with: all members of a set have the same, as they have the same roles.
    #[serde(default, serialize_with = "expose")]
    pub(super) password: Option<SecretString>,
    /// Whom it follows, or followed last.
    #[serde(default)]
    pub(super) source: Option<(String, u16)>,
    /// What that one has told of its TLS.
    #[serde(default)]
    pub(super) tls: Option<SourceTls>,
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
        remembered::load(path)
    }

    /// Writes it down.
    ///
    /// # Errors
    /// The file cannot be written; the old one is still there.
    pub(super) fn save(&self, path: &Utf8Path) -> Result<()> {
        remembered::save(path, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("replication.json");
        let memory = Memory { password: Some("planted".into()), source: Some(("h".into(), 1)), rebuilding: true, tls: None };
        memory.save(&path).unwrap();
        let read = Memory::load(&path).unwrap();
        assert_eq!((read.password.as_ref().unwrap().expose_secret(), read.rebuilding), ("planted", true));
        assert!(!format!("{read:?}").contains("planted"));
        std::fs::write(&path, r#"{"password": "planted", "source": 5}"#).unwrap();
        assert!(!Memory::load(&path).unwrap_err().to_string().contains("planted"));
    }
}
