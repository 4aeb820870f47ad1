//! [`PrivateServer`]: a server on a directory that nobody else can reach, to load a dump into or to look at a restored backup.

use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, MissedTickBehavior};

use super::client::{Client, Login, Session};
use super::server::ServerProgram;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::system::files;
use crate::system::running::RunningCommand;
use crate::system::service::ServiceControl;

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(100);
const SOCKET: &str = ".trove-private.sock";
const PID: &str = ".trove-private.pid";
const LOG: &str = ".trove-private.err";
/// Beside the data directory.
const TMP: &str = ".trove-private-tmp";

/// What a server that is not alone on the guest makes do with.
const MODEST: [&str; 3] = ["--innodb-buffer-pool-size=128M", "--key-buffer-size=16M", "--performance-schema=OFF"];

/// Who is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Accounts as they are in the directory.
    Accounts,
    /// Everybody, with all rights: the accounts in the directory are somebody else's.
    Everybody,
}

/// How to run one.
#[derive(Debug, Clone)]
pub(super) struct PrivateServerSpec {
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) program: Arc<ServerProgram>,
    pub(super) owner: Owner,
    /// The configuration: what the directory was made with, and sizes, count here too.
    pub(super) main_file: Utf8PathBuf,
    /// The data directory.
    pub(super) directory: Utf8PathBuf,
    /// True when the instance's own server is running: this one is modest.
    pub(super) beside: bool,
    /// How long it may take to start, and to end.
    pub(super) wait: Duration,
}

/// A running one. Dropping it kills it.
#[derive(Debug)]
pub(super) struct PrivateServer {
    running: RunningCommand,
    client: Client,
    directory: Utf8PathBuf,
    tmp_dir: Utf8PathBuf,
}

impl PrivateServerSpec {
    /// Where it keeps temporary tables: a server that starts removes what it finds of them, and the instance's own may be running.
    pub(super) fn tmp_dir(&self) -> Utf8PathBuf {
        self.directory.parent().unwrap_or(&self.directory).join(TMP)
    }

    /// Makes the data directory.
    ///
    /// # Errors
    /// Those of [`ServerProgram::initialize`].
    pub(super) async fn initialize(&self, op: &Op) -> Result<()> {
        self.owner.directory(op, &self.tmp_dir(), 0o700).await?;
        self.program.initialize(op, &self.main_file, &self.directory, Some(&self.tmp_dir())).await
    }

    /// Its socket.
    pub(super) fn socket(&self) -> Utf8PathBuf {
        self.directory.join(SOCKET)
    }

    /// Starts it: no network, no replication, no events, no binary log.
    ///
    /// # Errors
    /// It ended, or did not answer in time; the end of its log is in the error.
    pub(super) async fn start(&self, op: &Op, access: Access) -> Result<PrivateServer> {
        let directory = &self.directory;
        self.owner.directory(op, &self.tmp_dir(), 0o700).await?;
        let command = self
            .program
            .command(op, &format!("--defaults-file={}", self.main_file))
            .await?
            .args([format!("--datadir={directory}"), format!("--socket={}", self.socket())])
            .args([format!("--pid-file={}", directory.join(PID)), format!("--log-error={}", directory.join(LOG))])
            .arg(format!("--tmpdir={}", self.tmp_dir()))
            // Whatever the configuration says of other places is not for this one: the instance's own server may be using them.
            .args([format!("--innodb-data-home-dir={directory}"), format!("--innodb-log-group-home-dir={directory}")])
            .args([format!("--loose-innodb-undo-directory={directory}"), format!("--relay-log={}", directory.join(".trove-private-relay"))])
            .args(["--loose-general-log=OFF", "--loose-slow-query-log=OFF"])
            .args(self.beside.then_some(MODEST).into_iter().flatten())
            .args(["--skip-networking", "--skip-log-bin", "--event-scheduler=OFF", "--max-allowed-packet=1G"])
            .args(["--loose-skip-slave-start", "--loose-skip-replica-start", "--loose-mysqlx=OFF", "--loose-wsrep-on=OFF"])
            .args((access == Access::Everybody).then_some("--skip-grant-tables"))
            .timeout(self.wait);
        let mut running = self.service.spawn(op, command).await.action("start a private database server")?;
        drop(running.take_stdin());
        // Everything it says goes to its log.
        drop(running.take_stdout());
        let client = Client::new(self.socket(), Utf8PathBuf::new());
        let mut server = PrivateServer { running, client, directory: directory.clone(), tmp_dir: self.tmp_dir() };
        let deadline = Instant::now() + self.wait;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            op.until_cancelled("wait for a private database server", look.tick()).await?;
            let silence = match server.answers(op).await {
                Ok(()) => return Ok(server),
                Err(error @ (Error::Io { .. } | Error::Timeout { .. })) => error,
                Err(error) => return Err(error),
            };
            if server.running.has_ended()? {
                return Err(Error::guest(format!("the private database server ended while it was starting{}", log_end(directory))));
            }
            if Instant::now() >= deadline {
                let detail = format!("{silence}{}", log_end(directory));
                return Err(Error::Timeout { action: "wait for a private database server".into(), after: self.wait, detail });
            }
        }
    }
}

impl PrivateServer {
    /// A session of root.
    ///
    /// # Errors
    /// Those of [`Client::session_as`].
    pub(super) async fn session(&self, op: &Op) -> Result<Session<'_>> {
        self.client.session_as(op, &Login { user: "root".into(), password: None }).await
    }

    async fn answers(&self, op: &Op) -> Result<()> {
        self.session(op).await?.close().await;
        Ok(())
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// It did not end in time, or not well.
    pub(super) async fn stop(self, op: &Op) -> Result<()> {
        let (directory, tmp_dir) = (self.directory, self.tmp_dir);
        self.running
            .stop(op)
            .await
            .map_err(|error| Error::guest(format!("{error}{}", log_end(&directory))))
            .action("stop the private server")?;
        for name in [SOCKET, PID, LOG, ".trove-private.sock.lock"] {
            files::remove(&directory.join(name))?;
        }
        files::remove_tree(&tmp_dir)
    }
}

/// The end of its log, for an error.
fn log_end(directory: &Utf8Path) -> String {
    let lines = files::last_lines(&directory.join(LOG), 0);
    if lines.is_empty() { lines } else { format!("; the end of its log: {lines}") }
}

/// Ends a server that an agent which was killed has left on a directory.
///
/// # Errors
/// It cannot be ended.
pub(super) async fn end_left_over(op: &Op, directory: &Utf8Path) -> Result<()> {
    let pid = files::read_optional(&directory.join(PID))?.and_then(|text| text.trim().parse::<i32>().ok());
    let Some(pid) = pid.filter(|pid| *pid > 1) else { return Ok(()) };
    let socket = directory.join(SOCKET);
    let is_ours =
        || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(socket.as_str()));
    if !is_ours() {
        return Ok(());
    }
    tracing::warn!(pid, "ending a private database server that an earlier agent has left");
    // It may have ended in the meantime: that is what is wanted.
    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    let mut look = tokio::time::interval(LOOK);
    let gone = async {
        while is_ours() {
            look.tick().await;
        }
    };
    let ended = op.until_cancelled("end a private database server", tokio::time::timeout(Duration::from_secs(30), gone)).await?;
    ended.map_err(|_| Error::guest(format!("process {pid}, a private database server on {directory}, cannot be ended")))
}
