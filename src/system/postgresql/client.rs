//! Sessions with the server, over its Unix socket; or with another host's.
//!
//! A session is opened per operation and closed after it: there is no pooled connection that a restart, a failover or a changed password could have
//! broken. It uses the simple query protocol: statements about roles and databases cannot be prepared.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::credentials::{self, OS_ADMIN};
use super::encryption::Encryption;
use super::quote::SqlText;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::greeting::Greeting;

/// Sessions at the same time: a few reads beside one change.
const MAX_SESSIONS: usize = 4;
/// Until the server has let the agent in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// One statement. Longer than the longest wait of a controller for its answer.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(600);
/// The database of the agent's own statements.
const HOME: &str = "postgres";
/// What quoting relies on; that nothing a user has made in a database stands in for what is in `pg_catalog`; and that a statement waits a minute, not for
/// ever, for what somebody holds. Options of a session win over those of roles and databases.
const OPTIONS: &str = "-c standard_conforming_strings=on -c search_path=pg_catalog -c lock_timeout=60000 -c statement_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed";

/// Where a server listens: its configuration says so.
pub trait Address: Send + Sync + fmt::Debug {
    /// Directory of the socket, and port, which is in the socket's name; or name or address of another host, and its port.
    ///
    /// # Errors
    /// The configuration cannot be read.
    fn address(&self) -> Result<(Utf8PathBuf, u16)>;
}

/// Opens sessions on one server.
#[derive(Debug)]
pub struct Client {
    address: Arc<dyn Address>,
    login: Login,
    sessions: Semaphore,
}

/// As whom.
#[derive(Debug)]
enum Login {
    /// As `os_admin`, whose password is in this file.
    Administrator(Utf8PathBuf),
    /// As this role, which the server lets in without a password.
    Trusted(&'static str),
    /// As this role, over the network.
    Role { name: String, password: SecretString, encryption: Encryption },
}

/// Columns of a row, as text.
pub type Row = Vec<Option<String>>;

/// A session with the server. Dropping it ends it.
pub struct Session<'a> {
    client: tokio_postgres::Client,
    _permit: SemaphorePermit<'a>,
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Client {
    /// A client of the server at `address`, whose administrator's password is in the password file `credentials`.
    pub fn new(address: Arc<dyn Address>, credentials: Utf8PathBuf) -> Client {
        Client { address, login: Login::Administrator(credentials), sessions: Semaphore::new(MAX_SESSIONS) }
    }

    /// A client of a private server, which lets this role in without a password.
    pub fn trusted(address: Arc<dyn Address>, role: &'static str) -> Client {
        Client { address, login: Login::Trusted(role), sessions: Semaphore::new(MAX_SESSIONS) }
    }

    /// A client of another host's server, with somebody else's account.
    pub fn remote(address: Arc<dyn Address>, name: &str, password: &SecretString, encryption: Encryption) -> Client {
        let login = Login::Role { name: name.to_owned(), password: password.clone(), encryption };
        Client { address, login, sessions: Semaphore::new(MAX_SESSIONS) }
    }

    fn role(&self) -> &str {
        match &self.login {
            Login::Administrator(_) => OS_ADMIN,
            Login::Trusted(role) => role,
            Login::Role { name, .. } => name,
        }
    }

    /// The password; `None` for a role that needs none. `unknown` stands for one that there is not yet.
    fn password(&self, unknown: impl FnOnce(&Utf8Path) -> Result<SecretString>) -> Result<Option<SecretString>> {
        match &self.login {
            Login::Administrator(file) => credentials::read(file)?.map_or_else(|| unknown(file), Ok).map(Some),
            Login::Trusted(_) => Ok(None),
            Login::Role { password, .. } => Ok(Some(password.clone())),
        }
    }

    /// A session of the client's role.
    ///
    /// # Errors
    /// [`Error::Guest`] when there are no credentials yet; [`Error::Database`] when the server answered and refused; [`Error::Io`] or
    /// [`Error::Timeout`] when it did not answer.
    pub async fn session(&self, op: &Op) -> Result<Session<'_>> {
        self.session_in(op, HOME).await
    }

    /// A session in another database.
    ///
    /// # Errors
    /// Those of [`Self::session`].
    pub async fn session_in(&self, op: &Op, database: &str) -> Result<Session<'_>> {
        let password = self.password(|file| {
            Err(Error::guest(format!("the agent has no account in the database yet ({file} is not there): prepare did not finish")))
        })?;
        let action = format!("log in to the database as {}", self.role());
        let opened = op.in_time(&action, CONNECT_DEADLINE, self.open(password.as_ref(), database)).await?;
        opened?.map_err(|error| convert(&error, action))
    }

    /// How the server is, as `pg_isready` would find out, and whether it lets the agent in. Its caller limits the time.
    ///
    /// # Errors
    /// It said nothing.
    pub async fn greet(&self) -> Result<Greeting> {
        // Before there are credentials, a refusal tells a living server from a dead one.
        let password = self.password(|_| Ok("none".into()))?;
        let action = "ask the database how it is";
        let error = match self.open(password.as_ref(), HOME).await? {
            Ok(session) => match session.client.simple_query("SELECT 1").await {
                Ok(_) => return Ok(Greeting::Good),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let starting = error.code() == Some(&SqlState::CANNOT_CONNECT_NOW);
        match convert(&error, action.into()) {
            refused @ Error::Database { .. } if starting => Ok(Greeting::Busy(refused)),
            refused @ Error::Database { .. } => Ok(Greeting::Refused(refused)),
            silent => Err(silent),
        }
    }

    async fn open(&self, password: Option<&SecretString>, database: &str) -> Result<Result<Session<'_>, tokio_postgres::Error>> {
        let permit =
            self.sessions.acquire().await.map_err(|_| Error::Cancelled { action: "wait for a session with the database".into() })?;
        let (directory, port) = self.address.address()?;
        let mut config = tokio_postgres::Config::new();
        // What begins with a slash is a socket's directory.
        config.host(directory.as_str()).port(port).user(self.role()).dbname(database);
        if let Some(password) = password {
            config.password(password.expose_secret());
        }
        config.application_name("trove-guestagent").options(OPTIONS);
        let connected = match &self.login {
            Login::Role { encryption, .. } => {
                let connected = config.ssl_mode(encryption.mode).connect(encryption.connector.clone()).await;
                connected.map(|(client, connection)| (client, drop(tokio::spawn(connection))))
            }
            _ => config.connect(NoTls).await.map(|(client, connection)| (client, drop(tokio::spawn(connection)))),
        };
        // The connection's task ends with the client.
        Ok(connected.map(|(client, ())| Session { client, _permit: permit }))
    }
}

impl Session<'_> {
    /// Runs statements without a result. Several, separated by semicolons, are one transaction.
    ///
    /// # Errors
    /// [`Error::Database`] with the server's words, without secrets.
    pub async fn run(&self, op: &Op, action: impl Into<String>, sql: &SqlText) -> Result<()> {
        self.rows(op, action, sql).await.map(drop)
    }

    /// Runs a statement and collects its rows.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn rows(&self, op: &Op, action: impl Into<String>, sql: &SqlText) -> Result<Vec<Row>> {
        let action = action.into();
        tracing::debug!(?sql, "running");
        let text = sql.render();
        let query = self.client.simple_query(text.expose_secret());
        let messages = op.in_time(&action, STATEMENT_DEADLINE, query).await?.map_err(|error| scrubbed(convert(&error, action), sql))?;
        let row = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// The first column of a statement's rows; a NULL in it is left out.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn texts(&self, op: &Op, action: impl Into<String>, sql: &SqlText) -> Result<Vec<String>> {
        Ok(self.rows(op, action, sql).await?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    }
}

fn scrubbed(error: Error, sql: &SqlText) -> Error {
    match error {
        Error::Database { action, code, message } => Error::Database { action, code, message: sql.scrub(&message) },
        other => other,
    }
}

/// The driver quotes nothing of a statement or a password; the server may quote a statement.
fn convert(error: &tokio_postgres::Error, action: String) -> Error {
    if let Some(said) = error.as_db_error() {
        let detail = said.detail().map(|detail| format!("; {detail}")).unwrap_or_default();
        return Error::Database { action, code: None, message: format!("{}{detail} (SQLSTATE {})", said.message(), said.code().code()) };
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source {
        Some(source) => Error::Io { action, source: std::io::Error::new(source.kind(), source.to_string()) },
        // The server went away: nobody answered.
        None if error.is_closed() => Error::Io { action, source: std::io::ErrorKind::UnexpectedEof.into() },
        None => {
            let reason = std::error::Error::source(error).map(|reason| format!(": {reason}")).unwrap_or_default();
            Error::Database { action, code: None, message: format!("{error}{reason}") }
        }
    }
}
