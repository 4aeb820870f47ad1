//! [`Lifecycle`]: starting, stopping and watching a server. The same for every datastore; what differs is a [`Server`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;
use tokio::time::{Instant, MissedTickBehavior};

use super::configuration::Pending;
use super::{Owner, StatusProbe, VolumeSnapshots};
use crate::error::{Error, Result, ResultExt};
use crate::model::ServiceStatus;
use crate::op::Op;
use crate::system::files;
use crate::system::greeting::Greeting;
use crate::system::service::{ServiceControl, UnitState};

/// Between two looks at a server that is starting.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a row at which the process must be gone before a start has failed: a service manager may be starting it again.
const GONE_LOOKS: u32 = 20;
/// Until a server must have answered.
const DEADLINE: Duration = Duration::from_secs(3);

/// What came of asking a server how it is.
#[derive(Debug)]
pub enum Answer {
    /// It answered the question.
    Good,
    /// It is alive, and refused: no account yet, wrong password, too many connections.
    Refused(Error),
    /// It is alive, and says that it cannot serve anybody yet.
    Busy(Error),
    /// It said nothing.
    None(Error),
}

impl Answer {
    /// A server's own refusal is an answer; anything else is silence.
    fn failed(error: Error) -> Answer {
        match error {
            error @ Error::Database { .. } => Answer::Refused(error),
            error => Answer::None(error),
        }
    }
}

impl From<Result<()>> for Answer {
    fn from(asked: Result<()>) -> Answer {
        asked.map_or_else(Answer::failed, |()| Answer::Good)
    }
}

impl From<Result<Greeting>> for Answer {
    fn from(greeting: Result<Greeting>) -> Answer {
        match greeting {
            Ok(Greeting::Good) => Answer::Good,
            Ok(Greeting::Busy(error)) => Answer::Busy(error),
            Ok(Greeting::Refused(error)) => Answer::Refused(error),
            Err(error) => Answer::failed(error),
        }
    }
}

/// A server that can be asked how it is.
#[async_trait]
pub trait Ask: Send + Sync + fmt::Debug {
    /// Asks it. Its caller limits the time.
    async fn ask(&self, op: &Op) -> Answer;
}

/// What a [`Lifecycle`] must know of a datastore's server.
pub trait Server: Ask {
    /// Directories with their modes that the server's account needs, and that do not survive a reboot or that no package makes.
    fn directories(&self) -> Vec<(Utf8PathBuf, u32)>;

    /// The file its messages go to.
    fn error_log(&self) -> Utf8PathBuf;
}

/// The life of one server.
#[derive(Debug)]
pub struct Lifecycle {
    service: Arc<dyn ServiceControl>,
    server: Arc<dyn Server>,
    owner: Owner,
    wait: Duration,
    pending: Option<Arc<Pending>>,
    snapshots: Option<Arc<dyn VolumeSnapshots>>,
    warned: AtomicBool,
}

impl Lifecycle {
    /// `wait` is how long it may take to start or stop.
    pub fn new(service: Arc<dyn ServiceControl>, server: Arc<dyn Server>, owner: Owner, wait: Duration) -> Lifecycle {
        Lifecycle { service, server, owner, wait, pending: None, snapshots: None, warned: AtomicBool::new(false) }
    }

    /// With a note of what waits for a restart: probes tell of it, and a start removes it.
    pub fn telling(self, pending: Arc<Pending>) -> Lifecycle {
        Lifecycle { pending: Some(pending), ..self }
    }

    /// With snapshots of its volume: a server that waits for a frozen file system cannot end.
    pub fn letting_go(self, snapshots: Arc<dyn VolumeSnapshots>) -> Lifecycle {
        Lifecycle { snapshots: Some(snapshots), ..self }
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It did not answer in time; the end of its log is in the error.
    pub async fn start(&self, op: &Op) -> Result<()> {
        self.ensure_directories()?;
        self.pending.as_ref().map_or(Ok(()), |pending| pending.clear())?;
        let started = self.service.start(op, self.wait).await;
        if let Err(error) = started {
            // An engine keeps what the server wrote, and has quoted it.
            let tail = if self.service.brings_its_own_programs() { String::new() } else { self.log_tail(op).await };
            // The service manager's words come first: they may have the reason already.
            return Err(if tail.is_empty() { error } else { Error::guest(format!("{error}{tail}")) }).action("start the database server");
        }
        self.wait_until_answering(op).await
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn stop(&self, op: &Op) -> Result<()> {
        if let Some(snapshots) = &self.snapshots {
            snapshots.abandon().await;
        }
        self.service.stop(op, self.wait).await.action("stop the database server")
    }

    /// Stops it, and starts it.
    ///
    /// # Errors
    /// Those of [`Self::stop`] and [`Self::start`].
    pub async fn restart(&self, op: &Op) -> Result<()> {
        self.stop(op).await?;
        self.start(op).await
    }

    /// Directories that do not survive a reboot, or that no package makes.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn ensure_directories(&self) -> Result<()> {
        if self.service.brings_its_own_programs() {
            return Ok(());
        }
        let missing = self.server.directories().into_iter().filter(|(directory, _)| !directory.is_dir());
        missing.into_iter().try_for_each(|(directory, mode)| files::ensure_directory(&directory, mode, Some(self.owner.name())))
    }

    async fn ask(&self, op: &Op) -> Answer {
        let late = || Error::Timeout { action: "ask the database how it is".into(), after: DEADLINE, detail: String::new() };
        tokio::time::timeout(DEADLINE, self.server.ask(op)).await.unwrap_or_else(|_| Answer::None(late()))
    }

    async fn wait_until_answering(&self, op: &Op) -> Result<()> {
        let wait = self.wait;
        let deadline = Instant::now() + wait;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gone = 0;
        loop {
            op.until_cancelled("wait for the database", look.tick()).await?;
            let silence = match self.ask(op).await {
                Answer::Good | Answer::Refused(_) => return Ok(()),
                Answer::Busy(error) | Answer::None(error) => error,
            };
            let running = matches!(self.service.state(op).await, Ok(UnitState::Running { .. }));
            gone = if running { 0 } else { gone + 1 };
            if gone >= GONE_LOOKS {
                return Err(Error::guest(format!("the database server ended while it was starting{}", self.log_tail(op).await)));
            }
            if Instant::now() >= deadline {
                let detail = format!("{silence}{}", self.log_tail(op).await);
                return Err(Error::Timeout { action: "wait for the database to answer".into(), after: wait, detail });
            }
        }
    }

    /// The end of the server's log, for an error message; empty when there is none.
    pub async fn log_tail(&self, op: &Op) -> String {
        if let Some(output) = self.service.recent_output(op).await {
            return if output.is_empty() { output } else { format!("; the end of what the server wrote: {output}") };
        }
        let path = self.server.error_log();
        let lines = files::last_lines(&path, 0);
        if lines.is_empty() { String::new() } else { format!("; the end of {path}: {lines}") }
    }

    async fn needs_restart(&self, op: &Op) -> bool {
        // The service manager is asked only when there is a note.
        let Some(pending) = self.pending.as_ref().filter(|pending| pending.is_noted()) else { return false };
        matches!(self.service.state(op).await, Ok(UnitState::Running { pid }) if pending.is_required(pid))
    }

    /// What the service manager makes of a server that serves nobody.
    async fn silent(&self, op: &Op, error: Error) -> ServiceStatus {
        tracing::debug!(%error, "the database does not answer");
        match self.service.state(op).await {
            Ok(UnitState::Running { .. }) => ServiceStatus::Blocked,
            Ok(UnitState::Failed) => ServiceStatus::Crashed,
            Ok(UnitState::Stopped | UnitState::Missing) => ServiceStatus::Shutdown,
            Err(error) => {
                tracing::debug!(%error, "the service manager does not answer");
                ServiceStatus::Unknown
            }
        }
    }
}

#[async_trait]
impl StatusProbe for Lifecycle {
    async fn probe(&self, op: &Op) -> ServiceStatus {
        match self.ask(op).await {
            Answer::Good => {
                self.warned.store(false, Ordering::Relaxed);
                if self.needs_restart(op).await { ServiceStatus::RestartRequired } else { ServiceStatus::Running }
            }
            Answer::Refused(error) => {
                // Once per trouble, not at every heartbeat.
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the database is running but does not let the agent in");
                }
                ServiceStatus::Running
            }
            Answer::Busy(error) => {
                tracing::debug!(%error, "the database serves nobody yet");
                ServiceStatus::Blocked
            }
            Answer::None(error) => self.silent(op, error).await,
        }
    }
}
