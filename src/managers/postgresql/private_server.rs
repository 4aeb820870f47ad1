//! [`PrivateServer`]: a server on a directory that nobody else can reach, to load a dump into or to look at a restored backup.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::program::ServerProgram;
use crate::error::{Result, ResultExt};
use crate::managers::lifecycle::{Answer, Ask};
use crate::managers::{Owner, private};
use crate::op::Op;
use crate::system::files;
use crate::system::postgresql::{Address, Client, OS_ADMIN, Session};
use crate::system::running::RunningCommand;
use crate::system::service::ServiceControl;

/// Below the data directory: its configuration, its socket.
const DIRECTORY: &str = ".trove-private";
const CONFIGURATION: &str = "postgresql.conf";
const RULES: &str = "pg_hba.conf";
const IDENTITIES: &str = "pg_ident.conf";
/// Part of the socket's name.
const PORT: u16 = 5432;
/// The socket's directory is for root and the server's account alone.
const EVERYBODY: &str = "local all all trust\n";
/// The role `initdb` makes.
const FIRST: &str = "postgres";

/// What it takes from nowhere else: arguments win over the directory's own `postgresql.auto.conf`. It is modest, reaches nobody, sends and archives nothing; what it
/// writes is thrown away, or synced when all of it is there.
const PARAMETERS: [(&str, &str); 20] = [
    ("archive_mode", "off"),
    ("autovacuum", "off"),
    ("external_pid_file", ""),
    ("fsync", "off"),
    // It answers when it has recovered all there is.
    ("hot_standby", "off"),
    ("listen_addresses", ""),
    ("local_preload_libraries", ""),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_statement", "none"),
    ("max_connections", "20"),
    // Those in the backup are recovered.
    ("max_prepared_transactions", "200"),
    ("max_wal_senders", "0"),
    ("session_preload_libraries", ""),
    ("shared_buffers", "64MB"),
    ("shared_preload_libraries", ""),
    ("ssl", "off"),
    ("unix_socket_group", ""),
    ("unix_socket_permissions", "0700"),
    ("wal_level", "replica"),
];

/// How to run one.
#[derive(Debug, Clone)]
pub(super) struct PrivateServerSpec {
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) program: Arc<ServerProgram>,
    pub(super) owner: Owner,
    /// The data directory.
    pub(super) directory: Utf8PathBuf,
    /// How long it may take to start: it recovers what a backup was caught in the middle of.
    pub(super) recovery: Duration,
    /// How long it may take to end.
    pub(super) wait: Duration,
}

/// A running one. Dropping it kills it.
#[derive(Debug)]
pub(super) struct PrivateServer {
    running: RunningCommand,
    client: Client,
    role: &'static str,
    directory: Utf8PathBuf,
}

#[derive(Debug)]
struct Socket(Utf8PathBuf);

impl Address for Socket {
    fn address(&self) -> Result<(Utf8PathBuf, u16)> {
        Ok((self.0.clone(), PORT))
    }
}

/// The server as somebody sees it who has all rights: of databases that other agents made, either role may be unable to log in.
#[derive(Debug)]
struct Superuser<'a>(&'a [Client; 2]);

#[async_trait]
impl Ask for Superuser<'_> {
    async fn ask(&self, _op: &Op) -> Answer {
        match self.0[0].greet().await.into() {
            Answer::Refused(_) => self.0[1].greet().await.into(),
            answer => answer,
        }
    }
}

impl PrivateServerSpec {
    fn own_directory(&self) -> Utf8PathBuf {
        self.directory.join(DIRECTORY)
    }

    /// Starts it. It recovers what is in the directory first.
    ///
    /// # Errors
    /// It ended, or did not answer in time; its last words are in the error.
    pub(super) async fn start(&self, op: &Op) -> Result<PrivateServer> {
        let own = self.own_directory();
        self.owner.directory(op, &own, 0o700).await?;
        for (name, text) in [(CONFIGURATION, ""), (RULES, EVERYBODY), (IDENTITIES, "")] {
            files::write_atomic(&own.join(name), text.as_bytes(), 0o600, None)?;
        }
        self.owner.take(op, &own).await?;
        let paths = [
            ("config_file", own.join(CONFIGURATION)),
            ("data_directory", self.directory.clone()),
            ("hba_file", own.join(RULES)),
            ("ident_file", own.join(IDENTITIES)),
            ("unix_socket_directories", own.clone()),
        ];
        let mut command = self.program.command(op, "postgres").await?.timeout(self.wait);
        let paths = paths.iter().map(|(name, path)| format!("{name}={path}"));
        let port = std::iter::once(format!("port={PORT}"));
        for parameter in paths.chain(port).chain(PARAMETERS.iter().map(|(name, value)| format!("{name}={value}"))) {
            command = command.arg("-c").arg(parameter);
        }
        let mut running = self.service.spawn(op, command).await.action("start a private database server")?;
        drop(running.take_stdin());
        let clients = [OS_ADMIN, FIRST].map(|role| Client::trusted(Arc::new(Socket(own.clone())), role));
        if let Err(error) = private::wait_until_up(op, &mut running, &Superuser(&clients), self.recovery, &own.join("log")).await {
            if op.cancel.is_cancelled() || running.end_so_far()?.is_none() {
                return Err(error);
            }
            return Err(running.finish(op).await.err().unwrap_or(error)).action("start a private database server");
        }
        let [administrator, first] = clients;
        let is_administrator = administrator.session(op).await.is_ok();
        let (client, role) = if is_administrator { (administrator, OS_ADMIN) } else { (first, FIRST) };
        Ok(PrivateServer { running, client, role, directory: own })
    }
}

impl PrivateServer {
    /// A session of a superuser.
    ///
    /// # Errors
    /// Those of [`Client::session`].
    pub(super) async fn session(&self, op: &Op) -> Result<Session<'_>> {
        self.client.session(op).await
    }

    /// A session of a superuser in another database.
    ///
    /// # Errors
    /// Those of [`Client::session_in`].
    pub(super) async fn session_in(&self, op: &Op, database: &str) -> Result<Session<'_>> {
        self.client.session_in(op, database).await
    }

    /// Arguments with which the server's client programs find it, and log in.
    pub(super) fn arguments(&self) -> [String; 4] {
        let login = [format!("--host={}", self.directory), format!("--port={PORT}"), format!("--username={}", self.role)];
        let [host, port, user] = login;
        [host, port, user, "--no-password".to_owned()]
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// It did not end in time, or not well.
    pub(super) async fn stop(self, op: &Op) -> Result<()> {
        self.running.stop(op).await.action("stop the private server")?;
        files::remove_tree(&self.directory)
    }
}

/// Ends a server that a killed agent, or a restore that broke off, has left on a directory.
///
/// # Errors
/// It cannot be ended.
pub(super) async fn end_left_over(op: &Op, directory: &Utf8Path) -> Result<()> {
    private::end_all_in(op, directory).await
}
