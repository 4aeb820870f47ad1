//! The instance's phase: one state machine, on disk, that a restart of the agent does not confuse.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::system::files;

/// How far this guest is as an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Never prepared.
    New,
    /// `prepare` is running.
    Preparing,
    /// `prepare` failed; only another `prepare` leads out of here.
    Failed {
        /// Why, for the operator.
        reason: String,
    },
    /// Prepared as a member of a cluster; waits for `cluster_complete`.
    ClusterReady,
    /// In service: heartbeats tell what the database says.
    Active,
}

/// What a heartbeat is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Nothing now.
    Silence,
    /// This phase.
    Phase(Phase),
    /// Whatever the database says.
    Probe,
}

/// Keeper of the phase. The heartbeat asks it what to report.
#[derive(Debug)]
pub struct StatusTracker {
    phase: Mutex<Phase>,
    file: Utf8PathBuf,
    /// Operations that stop and start the database on purpose: no report of it in between.
    busy: AtomicUsize,
    changed: Notify,
}

impl StatusTracker {
    /// Reads the phase of the agent's last life.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn load(state_dir: &Utf8Path) -> Result<Self> {
        let file = state_dir.join("status.json");
        let phase = match files::read_optional(&file)? {
            None => Phase::New,
            Some(text) => serde_json::from_str(&text).map_err(|error| {
                Error::guest(format!("{file} is damaged ({error}); remove it if this instance was never prepared, otherwise write {{\"phase\": \"active\"}} into it"))
            })?,
        };
        Ok(StatusTracker { phase: Mutex::new(phase), file, busy: AtomicUsize::new(0), changed: Notify::new() })
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.phase.lock().expect("never poisoned: no panics while held").clone()
    }

    /// Changes the phase, on disk first, and has it reported at once.
    ///
    /// # Errors
    /// The disk refused; the phase is as it was.
    pub fn enter(&self, phase: Phase) -> Result<()> {
        let text = serde_json::to_vec(&phase).map_err(|error| Error::guest(format!("cannot write the status: {error}")))?;
        files::write_atomic(&self.file, &text, 0o644, None)?;
        *self.phase.lock().expect("never poisoned: no panics while held") = phase;
        self.report_now();
        Ok(())
    }

    /// Has the heartbeat look at once instead of at its next tick.
    pub fn report_now(&self) {
        self.changed.notify_one();
    }

    /// Waits for [`Self::report_now`].
    pub async fn asked(&self) {
        self.changed.notified().await;
    }

    /// While the guard lives, the database is down on purpose and not reported. Its end is reported at once.
    pub fn quiet(&self) -> Quiet<'_> {
        self.busy.fetch_add(1, Ordering::SeqCst);
        Quiet(self)
    }

    /// What to say. `prompted`: after [`Self::report_now`], rather than at a tick.
    pub fn report(&self, prompted: bool) -> Report {
        match self.phase() {
            Phase::New => Report::Silence,
            // Trove sends BUILDING once: while it waits, the task manager takes anything else but success for a failure.
            Phase::Preparing if !prompted => Report::Silence,
            Phase::Active if self.busy.load(Ordering::SeqCst) > 0 => Report::Silence,
            Phase::Active => Report::Probe,
            other => Report::Phase(other),
        }
    }
}

/// See [`StatusTracker::quiet`].
#[derive(Debug)]
pub struct Quiet<'a>(&'a StatusTracker);

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        self.0.report_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_survives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let failed = Phase::Failed { reason: "no device".into() };
        StatusTracker::load(state).unwrap().enter(failed.clone()).unwrap();
        assert_eq!(StatusTracker::load(state).unwrap().phase(), failed);
    }

    #[test]
    fn building_is_said_once_and_a_restart_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let tracker = StatusTracker::load(Utf8Path::from_path(dir.path()).unwrap()).unwrap();
        assert_eq!(tracker.report(true), Report::Silence);
        tracker.enter(Phase::Preparing).unwrap();
        assert_eq!((tracker.report(true), tracker.report(false)), (Report::Phase(Phase::Preparing), Report::Silence));
        tracker.enter(Phase::Active).unwrap();
        let quiet = tracker.quiet();
        assert_eq!(tracker.report(false), Report::Silence);
        drop(quiet);
        assert_eq!(tracker.report(false), Report::Probe);
    }
}
