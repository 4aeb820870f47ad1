//! The instance's phase: one state machine, on disk, that a restart of the agent does not confuse. `docs/status.md` draws it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::error::{Error, Result};
use crate::system::files;

/// How often a preparation that the agent's end cut short is begun again: one that ends the agent each time must not do so for ever.
pub const PREPARE_ATTEMPTS: u32 = 5;

/// How far this guest is as an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Never prepared.
    New,
    /// `prepare` (or `rebuild`) is running.
    Preparing {
        /// How often it was begun without an end.
        #[serde(default)]
        attempt: u32,
    },
    /// `prepare` or an upgrade failed.
    Failed {
        /// Why, for the operator.
        reason: String,
        /// True when there is an instance: it was in service before an upgrade failed, and a database that starts brings it back.
        #[serde(default)]
        was_in_service: bool,
    },
    /// Prepared as a member of a cluster; waits for `cluster_complete`.
    ClusterReady,
    /// Between `pre_upgrade` and `post_upgrade`, or during `upgrade`: never in service.
    Upgrading,
    /// In service: heartbeats tell what the database says.
    Active,
}

/// What happens to an instance. The only things that change its phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `prepare` or `rebuild` begins, or begins again after the agent's end.
    PreparationBegins,
    /// It ended well: databases and users are there.
    PreparationEnds {
        /// As a member of a cluster.
        in_cluster: bool,
    },
    /// It failed.
    PreparationFails {
        /// Why.
        reason: String,
    },
    /// `cluster_complete`.
    ClusterCompletes,
    /// `pre_upgrade`, `post_upgrade` or `upgrade` begins.
    UpgradeBegins,
    /// The upgraded database answers.
    UpgradeEnds,
    /// The upgrade failed.
    UpgradeFails {
        /// Why.
        reason: String,
    },
    /// The controller had the database started (`restart`, `start_db_with_conf_changes`), and it answers.
    DatabaseStarts,
}

impl Phase {
    /// The phase after an event; `None` when the event cannot happen in this one.
    pub fn after(&self, event: &Event) -> Option<Phase> {
        use Phase::{Active, ClusterReady, Failed, New, Preparing, Upgrading};
        match (self, event) {
            // Unfinished attempts count, whoever asked for them; an end clears the count.
            (Preparing { attempt }, Event::PreparationBegins) => Some(Preparing { attempt: attempt.saturating_add(1) }),
            (_, Event::PreparationBegins) => Some(Preparing { attempt: 1 }),
            (Preparing { .. }, Event::PreparationEnds { in_cluster }) => Some(if *in_cluster { ClusterReady } else { Active }),
            (Preparing { .. }, Event::PreparationFails { reason }) => Some(Failed { reason: reason.clone(), was_in_service: false }),
            (ClusterReady | Active, Event::ClusterCompletes) => Some(Active),
            // A guest with a new root disk knows nothing of itself.
            (New | Active | ClusterReady | Upgrading | Failed { .. }, Event::UpgradeBegins) => Some(Upgrading),
            (Upgrading, Event::UpgradeEnds) => Some(Active),
            (Upgrading, Event::UpgradeFails { reason }) => Some(Failed { reason: reason.clone(), was_in_service: true }),
            // An upgrade that its controller has given up, or that failed: the database is what counts.
            (Upgrading | Failed { was_in_service: true, .. }, Event::DatabaseStarts) => Some(Active),
            (phase, Event::DatabaseStarts) => Some(phase.clone()),
            _ => None,
        }
    }

    /// One word, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::New => "not prepared yet",
            Phase::Preparing { .. } => "being prepared",
            Phase::Failed { .. } => "failed",
            Phase::ClusterReady => "waiting for its cluster",
            Phase::Upgrading => "being upgraded",
            Phase::Active => "in service",
        }
    }
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
    /// What the database says, unless it runs: then nothing.
    ProbeIfDown,
}

/// Keeper of the phase. The heartbeat asks it what to report.
#[derive(Debug)]
pub struct StatusTracker {
    /// Held only to copy or set the value: heartbeats never wait for the disk.
    phase: Mutex<Phase>,
    /// Held from looking at the phase until its successor is on disk.
    change: Mutex<()>,
    file: Utf8PathBuf,
    /// Operations that stop and start the database on purpose: no report of it in between.
    busy: AtomicUsize,
    changed: Notify,
    /// Counts what makes an earlier report untrue.
    version: watch::Sender<u64>,
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
        let version = watch::Sender::new(0);
        Ok(StatusTracker {
            phase: Mutex::new(phase),
            change: Mutex::new(()),
            file,
            busy: AtomicUsize::new(0),
            changed: Notify::new(),
            version,
        })
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.phase.lock().expect("never poisoned: no panics while held").clone()
    }

    /// Takes note of an event: on disk first, then the new phase is reported at once.
    ///
    /// # Errors
    /// It cannot happen in this phase, or the disk refused; the phase is as it was.
    pub fn apply(&self, event: &Event) -> Result<()> {
        let _one_at_a_time = self.change.lock().expect("never poisoned: no panics while held");
        let before = self.phase();
        let refused = || Error::bad_request(format!("the instance is {}, which rules this out", before.name()));
        let after = before.after(event).ok_or_else(refused)?;
        if after != before {
            let text = serde_json::to_vec(&after).map_err(|error| Error::guest(format!("cannot write the status: {error}")))?;
            files::write_atomic(&self.file, &text, 0o644, None)?;
            *self.phase.lock().expect("never poisoned: no panics while held") = after;
        }
        self.outdate();
        self.report_now();
        Ok(())
    }

    /// What was composed until now is not to be sent any more.
    fn outdate(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Which version of the truth is the present one.
    pub fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// Returns when `version` is not the present one any more.
    pub async fn outdated(&self, version: u64) {
        // The sender lives as long as `self`.
        self.version.subscribe().wait_for(|now| *now != version).await.ok();
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
        self.outdate();
        Quiet(self)
    }

    /// What to say. `prompted`: after [`Self::report_now`], rather than at a tick.
    pub fn report(&self, prompted: bool) -> Report {
        let quiet = self.busy.load(Ordering::SeqCst) > 0;
        match self.phase() {
            Phase::New => Report::Silence,
            // Trove sends BUILDING once: while it waits, the task manager takes anything else but success for a failure.
            Phase::Preparing { .. } if !prompted => Report::Silence,
            Phase::Active | Phase::Upgrading if quiet => Report::Silence,
            Phase::Active => Report::Probe,
            // The controller takes "healthy" for the upgrade's end.
            Phase::Upgrading => Report::ProbeIfDown,
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
        self.0.outdate();
        self.0.report_now();
    }
}

#[cfg(test)]
mod tests;
