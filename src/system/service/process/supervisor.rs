//! [`Supervisor`]: keeps the server running, restarts it when it crashes, finds it again after a restart of the agent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::launch::Launched;
use super::record::{Hearing, Records, ServerProcess};
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};
use crate::system::files::last_lines;
use crate::system::running::RunningCommand;
use crate::system::service::control::{EARLY_END, POLL};
use crate::system::service::{ServerCommand, ServiceControl, UnitState};

/// First pause before a crashed server is started again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that ran this long has recovered: the pauses begin anew.
const STEADY: Duration = Duration::from_secs(60);
/// How long a server may look as if it were still starting, although it waits for signals, before it is told to end.
const UNCLEAR: Duration = Duration::from_secs(10);
/// How often an adopted server, which is not the agent's child, is looked at.
const WATCH: Duration = Duration::from_millis(250);

/// Service control `process`.
#[derive(Debug)]
pub struct Supervisor {
    core: Arc<Core>,
    commands: Arc<dyn CommandRunner>,
    stop_wait: Duration,
    /// Held while the server is started or stopped: one at a time.
    change: tokio::sync::Mutex<Change>,
}

/// What the watching task shares with the requests.
#[derive(Debug)]
struct Core {
    server: ServerCommand,
    records: Records,
    /// Held only to copy or set the value, so that heartbeats never wait for a start or stop.
    phase: Mutex<Phase>,
}

#[derive(Debug, Clone)]
enum Phase {
    /// Not looked yet.
    Unknown,
    Stopped,
    Running(ServerProcess),
    /// Ended by itself.
    Failed,
}

#[derive(Debug, Default)]
struct Change {
    watch: Option<Watch>,
}

/// The task that restarts a crashed server.
#[derive(Debug)]
struct Watch {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

/// The server as the watching task knows it.
#[derive(Debug)]
enum Watched {
    Child(Launched),
    Adopted(ServerProcess),
    /// It could not be started: to be tried again.
    Nothing,
}

impl Core {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_phase(&self, phase: Phase) {
        *self.phase() = phase;
    }

    /// The phase as it is now; found out from the record the first time.
    fn current(&self) -> Result<Phase> {
        let mut phase = self.phase();
        let process = match &*phase {
            Phase::Unknown => self.records.load()?,
            Phase::Running(process) => Some(process.clone()),
            Phase::Stopped | Phase::Failed => return Ok(phase.clone()),
        };
        *phase = match process {
            Some(process) if process.is_alive() => Phase::Running(process),
            Some(process) if process.is_of_this_boot() && !process.stopping => Phase::Failed,
            _ => Phase::Stopped,
        };
        Ok(phase.clone())
    }

    fn running(&self) -> Result<Option<ServerProcess>> {
        Ok(match self.current()? {
            Phase::Running(process) => Some(process),
            _ => None,
        })
    }

    /// Starts the server and writes down which process it is.
    fn launch(&self) -> Result<Launched> {
        let launched = self.server.launch(self.records.mark())?;
        if let Err(error) = self.records.save(&launched.process) {
            // A server nobody would find again must not run.
            launched.process.terminate(self.server.stop_signal)?;
            return Err(error);
        }
        self.set_phase(Phase::Running(launched.process.clone()));
        tracing::info!(pid = launched.process.pid, "started the database server");
        Ok(launched)
    }
}

/// Waits until the server has ended; says how.
async fn ended(watched: &mut Watched, log: &Utf8PathBuf) -> String {
    match watched {
        Watched::Child(launched) => {
            let status = exit_status(&mut launched.child).await;
            format!("{status}: {}", last_lines(log, launched.log_start))
        }
        Watched::Adopted(process) => {
            gone(process, WATCH).await;
            format!("status unknown: {}", last_lines(log, 0))
        }
        Watched::Nothing => String::new(),
    }
}

async fn exit_status(child: &mut Child) -> String {
    match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => format!("status unknown: {error}"),
    }
}

async fn gone(process: &ServerProcess, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    while process.is_alive() {
        ticks.tick().await;
    }
}

/// Restarts the server whenever it ends, until cancelled.
async fn supervise(core: Arc<Core>, mut watched: Watched, cancel: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let since = Instant::now();
        tokio::select! {
            // Cancel-safe: the child is reaped by the runtime, and the record stays.
            reason = ended(&mut watched, &core.server.log_file) => {
                core.set_phase(Phase::Failed);
                if !matches!(watched, Watched::Nothing) {
                    tracing::error!(%reason, "the database server ended by itself");
                }
            }
            () = cancel.cancelled() => return,
        }
        if since.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            // Cancel-safe: nothing has been started yet.
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return,
        }
        pause = LONGEST_PAUSE.min(pause * 2);
        watched = match core.launch() {
            Ok(launched) => Watched::Child(launched),
            Err(error) => {
                tracing::warn!(%error, "the database server cannot be restarted yet");
                Watched::Nothing
            }
        };
    }
}

impl Change {
    fn watch(&mut self, core: &Arc<Core>, watched: Watched) {
        let cancel = CancellationToken::new();
        let task = tokio::spawn(supervise(Arc::clone(core), watched, cancel.clone()));
        self.watch = Some(Watch { cancel, task });
    }

    /// Ends the watching task, so that nobody else starts the server.
    async fn unwatch(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            watch.cancel.cancel();
            if let Err(error) = (&mut watch.task).await {
                tracing::error!(%error, "the task that watches the database server failed");
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Supervisor {
    /// Keeps its records in `state_dir`; `stop_wait` is how long the server may take to stop when the agent ends.
    pub fn new(state_dir: Utf8PathBuf, stop_wait: Duration, server: ServerCommand, commands: Arc<dyn CommandRunner>) -> Self {
        let records = Records::new(state_dir, server.log_file.clone());
        let core = Core { server, records, phase: Mutex::new(Phase::Unknown) };
        Supervisor { core: Arc::new(core), commands, stop_wait, change: tokio::sync::Mutex::default() }
    }

    /// Watches a server that was found running and nobody watches yet.
    fn adopt(&self, change: &mut Change) -> Result<()> {
        if change.watch.is_some() {
            return Ok(());
        }
        match self.core.running()? {
            Some(process) if !process.stopping => {
                tracing::info!(pid = process.pid, "adopted the running database server");
                self.core.records.save(&process)?;
                change.watch(&self.core, Watched::Adopted(process));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Starts the server and watches that it does not end at once.
    async fn launch(&self, change: &mut Change) -> Result<()> {
        let mut launched = self.core.launch()?;
        let ended = tokio::time::timeout(EARLY_END, exit_status(&mut launched.child)).await;
        let Ok(status) = ended else {
            change.watch(&self.core, Watched::Child(launched));
            return Ok(());
        };
        self.core.set_phase(Phase::Failed);
        self.core.records.forget()?;
        let said = last_lines(&self.core.server.log_file, launched.log_start);
        Err(Error::guest(format!("the database server ended at once ({status}); {} says: {said}", self.core.server.log_file)))
    }

    /// Asks the server to end, and waits. An earlier stop may have asked already and given up waiting, or its agent was killed before it could ask.
    async fn end(&self, op: &Op, process: &ServerProcess, wait: Duration) -> Result<()> {
        self.terminate(op, process, wait).await?;
        self.wait_until_gone(op, process, wait).await
    }

    /// Asks the server to end, once it can be asked; one that still cannot after half of `wait` is asked all the same.
    async fn terminate(&self, op: &Op, process: &ServerProcess, wait: Duration) -> Result<()> {
        let deadline = Instant::now() + wait / 2;
        let mut unclear_until = deadline;
        let mut ticks = tokio::time::interval(POLL);
        while process.is_alive() && Instant::now() < unclear_until.min(deadline) {
            match process.hearing(self.core.server.stop_signal) {
                Hearing::Good => break,
                Hearing::Deaf => unclear_until = deadline,
                Hearing::Unclear => unclear_until = unclear_until.min(Instant::now() + UNCLEAR),
            }
            op.until_cancelled("stop the database server", ticks.tick()).await?;
        }
        process.terminate(self.core.server.stop_signal)
    }

    async fn wait_until_gone(&self, op: &Op, process: &ServerProcess, wait: Duration) -> Result<()> {
        let action = format!("stop the database server (pid {})", process.pid);
        let gone = tokio::time::timeout(wait, gone(process, POLL));
        match op.until_cancelled(&action, gone).await? {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Timeout { action, after: wait, detail: last_lines(&self.core.server.log_file, 0) }),
        }
    }
}

#[async_trait]
impl ServiceControl for Supervisor {
    async fn start(&self, op: &Op, wait: Duration) -> Result<()> {
        let mut change = self.change.lock().await;
        self.core.records.let_start()?;
        if let Some(process) = self.core.running()? {
            if !process.stopping {
                return self.adopt(&mut change);
            }
            // Two servers on one data directory would be worse than waiting again.
            self.end(op, &process, wait).await?;
        }
        change.unwatch().await;
        self.launch(&mut change).await
    }

    async fn stop(&self, op: &Op, wait: Duration) -> Result<()> {
        let mut change = self.change.lock().await;
        change.unwatch().await;
        if let Some(mut process) = self.core.running()? {
            process.stopping = true;
            self.core.records.save(&process)?;
            self.core.set_phase(Phase::Running(process.clone()));
            self.end(op, &process, wait).await?;
            tracing::info!(pid = process.pid, "stopped the database server");
        }
        self.core.set_phase(Phase::Stopped);
        self.core.records.forget()
    }

    async fn keep_stopped(&self, _op: &Op) -> Result<()> {
        self.core.records.keep_stopped()
    }

    async fn set_enabled(&self, _op: &Op, enabled: bool) -> Result<()> {
        self.core.records.set_enabled(enabled)
    }

    async fn state(&self, _op: &Op) -> Result<UnitState> {
        Ok(match self.core.current()? {
            Phase::Running(process) => UnitState::Running { pid: Some(process.pid) },
            Phase::Failed => UnitState::Failed,
            _ if self.core.server.program().is_none() => UnitState::Missing,
            _ => UnitState::Stopped,
        })
    }

    async fn exec(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        self.commands.run(op, command).await
    }

    async fn spawn(&self, _op: &Op, command: CommandSpec) -> Result<RunningCommand> {
        self.commands.spawn(command)
    }

    async fn agent_starts(&self, op: &Op) {
        let start = async {
            let mut change = self.change.lock().await;
            self.adopt(&mut change)?;
            let crashed = matches!(self.core.current()?, Phase::Failed);
            let wanted = crashed || self.core.records.is_enabled()? && !self.core.records.is_kept_stopped()?;
            if change.watch.is_some() || !wanted {
                return Ok(());
            }
            // One that an earlier stop left behind ends first; its data directory is in use.
            if let Some(process) = self.core.running()? {
                self.end(op, &process, self.stop_wait).await?;
            }
            let started = self.launch(&mut change).await;
            if started.is_err() {
                change.watch(&self.core, Watched::Nothing);
            }
            started
        };
        if let Err(error) = start.await {
            tracing::error!(%error, "failed to start the database server with the agent");
        }
    }

    async fn agent_stops(&self, op: &Op) {
        if let Err(error) = self.stop(op, self.stop_wait).await {
            tracing::error!(%error, "failed to stop the database server with the agent");
        }
    }
}
