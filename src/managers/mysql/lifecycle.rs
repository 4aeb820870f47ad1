//! Starting and stopping the server, until it answers or is known not to.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use tokio::time::{Instant, MissedTickBehavior};

use super::configuration::Configuration;
use super::layout::Layout;
use super::probe::{Answer, Probe};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::files;
use crate::system::service::{ServiceControl, UnitState};

/// Between two looks at a server that is starting.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a row at which the process must be gone before a start has failed: a service manager may be starting it again.
const GONE_LOOKS: u32 = 20;
/// How much of the end of the server's log is read, and how many lines of it are quoted.
const LOG_TAIL_BYTES: u64 = 16 << 10;
const LOG_TAIL_LINES: usize = 8;

/// The life of one server.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) probe: Arc<Probe>,
    pub(super) layout: Layout,
    /// Account the server runs as.
    pub(super) owner: &'static str,
    /// How long it may take to start or stop.
    pub(super) wait: Duration,
}

impl Lifecycle {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It did not answer in time; the end of its log is in the error.
    pub(super) async fn start(&self, op: &Op) -> Result<()> {
        self.ensure_directories()?;
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
    pub(super) async fn stop(&self, op: &Op) -> Result<()> {
        self.service.stop(op, self.wait).await.action("stop the database server")
    }

    /// Directories that do not survive a reboot, or that no package makes.
    ///
    /// # Errors
    /// They cannot be made.
    pub(super) fn ensure_directories(&self) -> Result<()> {
        if self.service.brings_its_own_programs() {
            return Ok(());
        }
        let owner = Some(self.owner);
        if !self.layout.run_dir().is_dir() {
            files::ensure_directory(self.layout.run_dir(), 0o755, owner)?;
        }
        match self.layout.error_log.parent() {
            Some(logs) if self.layout.sets_error_log && !logs.is_dir() => files::ensure_directory(logs, 0o750, owner),
            _ => Ok(()),
        }
    }

    async fn wait_until_answering(&self, op: &Op) -> Result<()> {
        let wait = self.wait;
        let deadline = Instant::now() + wait;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gone = 0;
        loop {
            op.until_cancelled("wait for the database", look.tick()).await?;
            let Answer::None(silence) = self.probe.ask(op).await else { return Ok(()) };
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
    async fn log_tail(&self, op: &Op) -> String {
        if let Some(output) = self.service.recent_output(op).await {
            return if output.is_empty() { output } else { format!("; the end of what the server wrote: {output}") };
        }
        let path = self.configuration.error_log();
        let lines = read_tail(&path).unwrap_or_default();
        if lines.is_empty() { String::new() } else { format!("; the end of {path}: {lines}") }
    }
}

/// The last lines of a file.
fn read_tail(path: &Utf8Path) -> std::io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("; "))
}
