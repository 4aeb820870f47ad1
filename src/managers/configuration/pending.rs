//! [`Pending`]: what of the configuration waits for the server's next start.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::files;
use crate::system::service::{ServiceControl, UnitState};

/// What of a configuration waits for the server's next start. Kept in the state folder: neither the agent's end nor the guest's makes it untrue.
#[derive(Debug)]
pub struct Pending {
    file: Utf8PathBuf,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    /// The process that has to go; unknown in a container.
    pid: Option<i32>,
    variables: Vec<String>,
}

impl Pending {
    /// The note in this state folder.
    pub fn new(state_dir: &camino::Utf8Path) -> Pending {
        Pending { file: state_dir.join("restart_required.json") }
    }

    fn read(&self) -> Option<Note> {
        serde_json::from_str(&files::read_optional(&self.file).ok()??).ok()
    }

    /// Notes that the server of this process runs without `variables`.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn require(&self, pid: Option<i32>, variables: &[String]) -> Result<()> {
        let mut note = self.read().filter(|note| note.pid == pid).unwrap_or(Note { pid, variables: Vec::new() });
        note.variables.extend(variables.iter().cloned());
        note.variables.sort_unstable();
        note.variables.dedup();
        let text =
            serde_json::to_vec(&note).map_err(|error| Error::guest(format!("cannot write down what waits for a restart: {error}")))?;
        files::write_atomic(&self.file, &text, 0o600, None)
    }

    /// Notes what the running server takes at its next start only, if it runs.
    ///
    /// # Errors
    /// The service manager cannot be asked, or the note cannot be written.
    pub async fn require_of(&self, op: &Op, service: &dyn ServiceControl, variables: &[String]) -> Result<()> {
        if variables.is_empty() {
            return Ok(());
        }
        tracing::info!(variables = variables.join(", "), "these take effect when the database is restarted");
        match service.state(op).await? {
            UnitState::Running { pid } => self.require(pid, variables),
            _ => Ok(()),
        }
    }

    /// The server is being started: it reads all of its configuration.
    ///
    /// # Errors
    /// The note cannot be removed.
    pub fn clear(&self) -> Result<()> {
        files::remove(&self.file)
    }

    /// True when something waited for a restart of some server.
    pub fn is_noted(&self) -> bool {
        self.file.exists()
    }

    /// True while the server of this process has not read all of its configuration.
    pub fn is_required(&self, pid: Option<i32>) -> bool {
        // A server that somebody else has restarted is another process.
        self.read().is_some_and(|note| note.pid == pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_until_the_server_starts() {
        let dir = tempfile::tempdir().unwrap();
        let state = camino::Utf8Path::from_path(dir.path()).unwrap();
        let pending = Pending::new(state);
        assert!(!pending.is_required(Some(7)) && !pending.is_required(None));
        pending.require(Some(7), &["b".into()]).unwrap();
        pending.require(Some(7), &["a".into(), "b".into()]).unwrap();
        assert!(Pending::new(state).is_required(Some(7)) && !pending.is_required(Some(8)));
        assert_eq!(pending.read().unwrap().variables, ["a", "b"]);
        pending.clear().unwrap();
        assert!(!pending.is_required(Some(7)));
    }
}
