//! [`Told`]: what the controller was told last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};

use super::{BackupView, HeartbeatView, Metrics};
use crate::journal;
use crate::model::BackupUpdate;
use crate::system::files;

/// What the controller was told last: of heartbeats since the agent's start, of backups ever.
#[derive(Debug)]
pub struct Told {
    heartbeat: Mutex<Option<HeartbeatView>>,
    file: Utf8PathBuf,
    metrics: Arc<Metrics>,
}

impl Told {
    /// Of the agent that starts now. What is told is counted.
    pub fn new(state_dir: &Utf8Path, metrics: Arc<Metrics>) -> Self {
        Told { heartbeat: Mutex::default(), file: state_dir.join("last_backups.json"), metrics }
    }

    /// The broker has confirmed a heartbeat.
    pub fn heartbeat(&self, status: &str) {
        self.metrics.heartbeat();
        let view = HeartbeatView { at: journal::now(), status: status.to_owned() };
        *self.heartbeat.lock().expect("never poisoned: no panics while held") = Some(view);
    }

    /// A backup has ended. Best effort: nothing but what people see depends on it.
    pub fn backup(&self, update: &BackupUpdate) {
        let state: &'static str = update.state.into();
        self.metrics.backup(state);
        let view = BackupView {
            id: update.backup_id.clone(),
            ended: journal::now(),
            state: state.to_owned(),
            kind: update.backup_type.clone(),
            location: update.location.clone(),
            note: update.note.clone(),
        };
        let mut backups = self.last_backups();
        backups.insert(view.state.clone(), view);
        let Ok(text) = serde_json::to_vec(&backups) else { return };
        if let Err(error) = files::write_atomic(&self.file, &text, 0o600, None) {
            tracing::debug!(%error, "failed to note the end of a backup");
        }
    }

    /// The last heartbeat.
    pub(super) fn last_heartbeat(&self) -> Option<HeartbeatView> {
        self.heartbeat.lock().expect("never poisoned: no panics while held").clone()
    }

    /// The last backup.
    pub(super) fn last_backup(&self) -> Option<BackupView> {
        self.last_backups().into_values().max_by(|one, other| one.ended.total_cmp(&other.ended))
    }

    /// The last backup that has ended in each state: a failed one does not hide when the last good one was made.
    pub(super) fn last_backups(&self) -> BTreeMap<String, BackupView> {
        let text = files::read_optional(&self.file).ok().flatten();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackupState;

    #[test]
    fn the_last_backup_is_known_after_a_restart_and_the_last_heartbeat_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let told = Told::new(state, Arc::default());
        assert_eq!((told.last_heartbeat(), told.last_backup()), (None, None));
        told.heartbeat("healthy");
        let update = |id: &str, state, note: Option<&str>| BackupUpdate {
            backup_id: id.into(),
            state,
            size: None,
            backup_type: None,
            checksum: None,
            location: None,
            note: note.map(str::to_owned),
        };
        told.backup(&update("a", BackupState::Completed, None));
        told.backup(&update("b", BackupState::Failed, Some("no room")));
        assert_eq!(told.last_heartbeat().unwrap().status, "healthy");
        let told = Told::new(state, Arc::default());
        assert_eq!(told.last_heartbeat(), None);
        let backup = told.last_backup().unwrap();
        assert_eq!((backup.id.as_str(), backup.state.as_str(), backup.note.as_deref()), ("b", "FAILED", Some("no room")));
        // The one before it, which was good, is not forgotten for it.
        assert_eq!(told.last_backups()["COMPLETED"].id, "a");
    }
}
