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

    /// Of `changed`, the server of this process has all but `waiting`.
    fn note(&self, pid: Option<i32>, changed: &[String], waiting: &[String]) -> Result<()> {
        let mut note = self.read().filter(|note| note.pid == pid).unwrap_or(Note { pid, variables: Vec::new() });
        note.variables.retain(|name| !changed.contains(name));
        note.variables.extend(waiting.iter().cloned());
        note.variables.sort_unstable();
        note.variables.dedup();
        if note.variables.is_empty() {
            return self.clear();
        }
        let text =
            serde_json::to_vec(&note).map_err(|error| Error::guest(format!("cannot write down what waits for a restart: {error}")))?;
        files::write_atomic(&self.file, &text, 0o600, None)
    }

    /// Notes what a change of the configuration came to, if the server runs: of the variables it was about (`changed`), the server takes `waiting` at its
    /// next start only, and has the others. One that waited before, and was taken back, waits no more.
    ///
    /// # Errors
    /// The service manager cannot be asked, or the note cannot be written.
    pub async fn settle(&self, op: &Op, service: &dyn ServiceControl, changed: &[String], waiting: &[String]) -> Result<()> {
        if waiting.is_empty() && !self.is_noted() {
            return Ok(());
        }
        if !waiting.is_empty() {
            tracing::info!(variables = waiting.join(", "), "these take effect when the database is restarted");
        }
        match service.state(op).await? {
            UnitState::Running { pid } => self.note(pid, changed, waiting),
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
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        pending.note(Some(7), &names(&["b"]), &names(&["b"])).unwrap();
        pending.note(Some(7), &names(&["a", "b", "c"]), &names(&["a", "b"])).unwrap();
        assert!(Pending::new(state).is_required(Some(7)) && !pending.is_required(Some(8)));
        assert_eq!(pending.read().unwrap().variables, ["a", "b"]);
        // Taken back one by one.
        pending.note(Some(7), &names(&["a", "c"]), &[]).unwrap();
        assert_eq!(pending.read().unwrap().variables, ["b"]);
        pending.note(Some(7), &names(&["b"]), &[]).unwrap();
        assert!(!pending.is_noted());
        pending.note(Some(7), &names(&["a"]), &names(&["a"])).unwrap();
        pending.clear().unwrap();
        assert!(!pending.is_required(Some(7)));
    }
}
