//! [`Memory`]: what no server remembers for its replication. A file of the agent's own directory, for root's eyes alone.

use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use super::coordinates::Coordinates;
use crate::error::Result;
use crate::strategies::replication::remembered;

/// Survives restarts of agent, server and guest.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    /// The account this source gives to its replicas, all of them.
    #[serde(default)]
    pub(super) user: Option<KnownUser>,
    /// This instance became a source and nobody has followed it since: accounts of other sources are of no use to anybody.
    #[serde(default)]
    pub(super) new_source: bool,
    /// What this server had done by itself when it began to follow another one. What it does after that, nobody else has.
    #[serde(default)]
    pub(super) own_at_attach: Option<String>,
    /// Where it left its last source, for those who left it at the same place.
    #[serde(default)]
    pub(super) handover: Option<Handover>,
}

/// An account with its password.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KnownUser {
    pub(super) name: String,
    /// In the clear: every new replica has to be told.
    #[serde(serialize_with = "expose")]
    pub(super) password: SecretString,
    /// It is in the server, with its privilege.
    pub(super) ready: bool,
}

/// The end of following: the same state of the data in two binary logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handover {
    /// The source that was left: its UUID or server id.
    pub(super) source: String,
    /// How far it was followed, in its log.
    pub(super) left: Coordinates,
    /// Where that is in this server's log.
    pub(super) own: Coordinates,
}

fn expose<S: Serializer>(password: &SecretString, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(password.expose_secret())
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
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_remembered_is_private_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("replication.json");
        assert!(Memory::load(&path).unwrap().user.is_none());
        let user = KnownUser { name: "slave_0".into(), password: "planted".into(), ready: true };
        let memory = Memory { user: Some(user), own_at_attach: Some("u:1".into()), ..Memory::default() };
        memory.save(&path).unwrap();
        let read = Memory::load(&path).unwrap();
        assert_eq!(read.user.as_ref().unwrap().password.expose_secret(), "planted");
        assert!(!format!("{read:?}").contains("planted"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, r#"{"user": {"password": "planted", "name": 5}}"#).unwrap();
        assert!(!Memory::load(&path).unwrap_err().to_string().contains("planted"));
    }
}
