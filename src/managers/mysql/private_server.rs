//! [`PrivateServer`]: a server on a directory that nobody else can reach, to load a dump into or to look at a restored backup.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::client::{Client, Login, Session};
use super::server::ServerProgram;
use crate::error::{Error, Result, ResultExt};
use crate::managers::lifecycle::{Answer, Ask};
use crate::managers::{Owner, private};
use crate::op::Op;
use crate::system::files;
use crate::system::running::RunningCommand;
use crate::system::service::ServiceControl;

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
        let asked = Root { client: &server.client };
        private::wait_until_up(op, &mut server.running, &asked, self.wait, &directory.join(LOG)).await?;
        Ok(server)
    }
}

/// The server as its root sees it.
#[derive(Debug)]
struct Root<'a> {
    client: &'a Client,
}

impl Root<'_> {
    async fn login(&self, op: &Op) -> Result<()> {
        self.client.session_as(op, &Login { user: "root".into(), password: None }).await?.close().await;
        Ok(())
    }
}

#[async_trait]
impl Ask for Root<'_> {
    async fn ask(&self, op: &Op) -> Answer {
        self.login(op).await.into()
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

    /// Ends it in good order.
    ///
    /// # Errors
    /// It did not end in time, or not well.
    pub(super) async fn stop(self, op: &Op) -> Result<()> {
        let (directory, tmp_dir) = (self.directory, self.tmp_dir);
        self.running
            .stop(op)
            .await
            .map_err(|error| Error::guest(format!("{error}{}", private::log_end(&directory.join(LOG)))))
            .action("stop the private server")?;
        for name in [SOCKET, PID, LOG, ".trove-private.sock.lock"] {
            files::remove(&directory.join(name))?;
        }
        files::remove_tree(&tmp_dir)
    }
}

/// Ends a server that an agent which was killed has left on a directory.
///
/// # Errors
/// It cannot be ended.
pub(super) async fn end_left_over(op: &Op, directory: &Utf8Path) -> Result<()> {
    private::end_left_over(op, &directory.join(PID), &directory.join(SOCKET)).await
}
