//! The contract of service control, and the choice of its implementation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::docker::{DEFAULT_CONTAINER, Docker, DockerContainer};
use super::process::Supervisor;
use super::systemd::Systemd;
use crate::config::{ServiceControlKind, Settings};
use crate::error::Result;
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};
use crate::system::running::RunningCommand;

/// What the service manager says of the database server's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// Its process is there (it need not answer yet).
    Running {
        /// Main process, when known.
        pid: Option<i32>,
    },
    /// Stopped in good order, or never started.
    Stopped,
    /// Ended by itself, or could not be started.
    Failed,
    /// There is no such unit, container or program.
    Missing,
}

/// How to run the server when nobody else knows (service control `process`, and `docker` when it creates the container).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ServerCommand {
    /// Candidate paths of the server program, best first; the first that exists is used.
    pub programs: Vec<Utf8PathBuf>,
    /// Arguments.
    pub args: Vec<String>,
    /// Account the server runs as.
    pub user: String,
    /// True when it must be started as that; otherwise it is started by root and changes to it by itself.
    pub started_as_user: bool,
    /// Directories that must exist and belong to `user` before the start, such as the socket's.
    pub run_dirs: Vec<Utf8PathBuf>,
    /// Directories agent and server share besides `run_dirs`: configuration, data volume, logs. A container the agent creates
    /// gets them at the same path; elsewhere they mean nothing.
    pub mounts: Vec<Utf8PathBuf>,
    /// Where its standard output and error go.
    pub log_file: Utf8PathBuf,
    /// What ends it in good order.
    pub stop_signal: StopSignal,
}

/// The signal that ends a server in good order, whoever is logged in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Terminate,
    /// SIGTERM, which ends the server in good order while it is starting, too.
    TerminateAnyTime,
    /// SIGINT: PostgreSQL takes SIGTERM for the wish to wait until its last client has left (manual, "Shutting Down the Server").
    Interrupt,
}

impl StopSignal {
    pub(super) fn number(self) -> Signal {
        match self {
            StopSignal::Terminate | StopSignal::TerminateAnyTime => Signal::SIGTERM,
            StopSignal::Interrupt => Signal::SIGINT,
        }
    }
}

/// Candidates for the name of the server's unit, best first.
#[derive(Debug, Clone, Copy)]
pub enum UnitNames {
    /// The same everywhere.
    Fixed(&'static [&'static str]),
    /// They depend on what is installed, which changes: the function looks.
    Installed(fn() -> Vec<String>),
}

impl UnitNames {
    /// The candidates now.
    pub fn list(self) -> Vec<String> {
        match self {
            UnitNames::Fixed(names) => names.iter().map(|&name| name.to_owned()).collect(),
            UnitNames::Installed(look) => look(),
        }
    }
}

impl<const N: usize> From<&'static [&'static str; N]> for UnitNames {
    fn from(names: &'static [&'static str; N]) -> UnitNames {
        UnitNames::Fixed(names)
    }
}

impl From<&'static [&'static str]> for UnitNames {
    fn from(names: &'static [&'static str]) -> UnitNames {
        UnitNames::Fixed(names)
    }
}

/// Controls the one database server of this guest.
///
/// Contract, checked for each implementation by the same test:
/// * `start` of a running server and `stop` of a stopped one succeed and change nothing.
/// * `start` returns once the process runs; it does not wait until the database answers (the manager's probe does).
/// * a server that ends at once makes `start` fail, with the reason from its log when there is one.
/// * `stop` returns when the process is gone; after `wait` it fails with [`crate::Error::Timeout`] and leaves the server alone:
///   killing a database is not the agent's decision.
/// * `set_enabled(false)` keeps the server down over a reboot of the guest (or a restart of the agent, for `process`).
/// * `exec` runs a program where the server's own programs and files are.
#[async_trait]
pub trait ServiceControl: Send + Sync + fmt::Debug {
    /// Starts the server.
    ///
    /// # Errors
    /// No such service, or it ended at once.
    async fn start(&self, op: &Op, wait: Duration) -> Result<()>;

    /// Stops the server.
    ///
    /// # Errors
    /// [`crate::Error::Timeout`] if it does not end within `wait`.
    async fn stop(&self, op: &Op, wait: Duration) -> Result<()>;

    /// Stops, then starts.
    ///
    /// # Errors
    /// Those of [`Self::stop`] and [`Self::start`].
    async fn restart(&self, op: &Op, wait: Duration) -> Result<()> {
        self.stop(op, wait).await?;
        self.start(op, wait).await
    }

    /// A server that was stopped because its controller wants it down stays down when the agent starts again, until it is started or the guest boots.
    /// For who starts servers with the agent; a service manager of its own does not care whether the agent lives.
    ///
    /// # Errors
    /// It cannot be written down.
    async fn keep_stopped(&self, _op: &Op) -> Result<()> {
        Ok(())
    }

    /// Whether the server starts with the guest.
    ///
    /// # Errors
    /// The service manager refused.
    async fn set_enabled(&self, op: &Op, enabled: bool) -> Result<()>;

    /// What the process is doing. Cheap: asked at every heartbeat.
    ///
    /// # Errors
    /// The service manager could not be asked.
    async fn state(&self, op: &Op) -> Result<UnitState>;

    /// Runs a program beside the server: on this host, or inside the container.
    ///
    /// # Errors
    /// Those of [`crate::system::command::CommandRunner::run`].
    async fn exec(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput>;

    /// Starts a program where [`Self::exec`] runs them, and leaves its standard input and output to the caller.
    ///
    /// # Errors
    /// It cannot be started.
    async fn spawn(&self, op: &Op, command: CommandSpec) -> Result<RunningCommand>;

    /// True when the server's programs come with something the agent does not install (a container image).
    fn brings_its_own_programs(&self) -> bool {
        false
    }

    /// True when `directory` of this host is the server's too. False for a container that somebody made without it.
    ///
    /// # Errors
    /// The service manager could not be asked.
    async fn shares(&self, _op: &Op, _directory: &Utf8Path) -> Result<bool> {
        Ok(true)
    }

    /// The end of what the server wrote to its standard output and error, when that is kept nowhere but with the service manager.
    async fn recent_output(&self, _op: &Op) -> Option<String> {
        None
    }

    /// Called once when the agent has started, before it serves requests: a server that should run, and that nobody else would
    /// start, is started. Failures are logged: the heartbeat tells the rest.
    async fn agent_starts(&self, _op: &Op) {}

    /// Called once on the agent's orderly end, with an operation that is not cancelled yet. Only `process` has something to do:
    /// a server nobody supervises is stopped.
    async fn agent_stops(&self, _op: &Op) {}
}

/// How long a server that was just started is watched: one that ends within this time "ended at once".
pub(super) const EARLY_END: Duration = Duration::from_secs(1);
/// How often its state is asked meanwhile, and while it stops.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// Watches a server that was just started for [`EARLY_END`]. False when it ended meanwhile.
pub(super) async fn stays_up(op: &Op, service: &dyn ServiceControl) -> Result<bool> {
    let deadline = Instant::now() + EARLY_END;
    let mut ticks = tokio::time::interval(POLL);
    while Instant::now() < deadline {
        op.until_cancelled("watch the server start", ticks.tick()).await?;
        if !matches!(service.state(op).await?, UnitState::Running { .. }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Chooses the implementation `service_control` names. `names` are candidate units, best first (`service_name` in the
/// datastore's group goes before them); `server` is how to run it without a service manager.
pub fn build(
    settings: &Settings,
    names: impl Into<UnitNames>,
    server: ServerCommand,
    commands: Arc<dyn CommandRunner>,
) -> Arc<dyn ServiceControl> {
    let service_name = settings.datastore.service_name.as_deref();
    match settings.service_control {
        ServiceControlKind::Systemd => Arc::new(Systemd::new(service_name.map(str::to_owned), names.into(), commands)),
        ServiceControlKind::Docker => {
            let container = service_name.unwrap_or(DEFAULT_CONTAINER).to_owned();
            let image = settings.datastore.docker_image.clone();
            Arc::new(Docker::new(DockerContainer { name: container, image, stop_wait: settings.state_change_wait_time }, server, commands))
        }
        ServiceControlKind::Process => {
            Arc::new(Supervisor::new(settings.state_dir.clone(), settings.state_change_wait_time, server, commands))
        }
    }
}
