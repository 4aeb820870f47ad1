//! Sessions with the server, over its Unix socket.
//!
//! A session is opened per operation and closed after it. That costs about a millisecond on a local socket and nothing at
//! rest, and there is no pooled connection that a restart, a failover, `wait_timeout` or a changed password could have broken.

use std::time::Duration;

use camino::Utf8PathBuf;
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::credentials;
use super::flavor::Flavor;
use super::quote::SqlText;
use crate::error::{Error, Result};
use crate::op::Op;

/// Sessions at the same time: a few reads beside one change.
const MAX_SESSIONS: usize = 4;
/// Until the server has let the agent in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// One statement, when nobody says how long the answer is waited for: longer than the longest wait of a controller.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(600);

/// What quoting relies on, and that a statement waits a minute, not a year, for a table somebody holds.
/// `NO_AUTO_CREATE_USER` (gone in MySQL 8) keeps GRANT from creating accounts.
const SETUP: &str = "SET NAMES utf8mb4, SESSION autocommit = 1, SESSION lock_wait_timeout = 60, \
    SESSION sql_mode = IF(VERSION() LIKE '%MariaDB%' OR VERSION() LIKE '5.%', \
    'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,NO_AUTO_CREATE_USER', 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION')";

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// Account name.
    pub user: String,
    /// Password; none for an account that knows the operating system's user, or has an empty one.
    pub password: Option<SecretString>,
}

/// Opens sessions on one server.
#[derive(Debug)]
pub struct Client {
    socket: Utf8PathBuf,
    credentials: Utf8PathBuf,
    sessions: Semaphore,
}

/// A session with the server.
#[derive(Debug)]
pub struct Session<'a> {
    conn: Conn,
    flavor: Flavor,
    lower_case_names: bool,
    _permit: SemaphorePermit<'a>,
}

impl Client {
    /// A client of the server at `socket`, whose administrator's credentials are in the option file `credentials`.
    pub fn new(socket: Utf8PathBuf, credentials: Utf8PathBuf) -> Client {
        Client { socket, credentials, sessions: Semaphore::new(MAX_SESSIONS) }
    }

    /// A session of `os_admin`.
    ///
    /// # Errors
    /// [`Error::Guest`] when there are no credentials yet; else those of [`Self::session_as`].
    pub async fn session(&self, op: &Op) -> Result<Session<'_>> {
        let login = credentials::read(&self.credentials)?.ok_or_else(|| {
            Error::guest(format!(
                "the agent has no account in the database yet ({} is not there): prepare did not finish",
                self.credentials
            ))
        })?;
        self.session_as(op, &login).await
    }

    /// A session of somebody else.
    ///
    /// # Errors
    /// [`Error::Database`] when the server answered and refused; [`Error::Io`] or [`Error::Timeout`] when it did not answer.
    pub async fn session_as(&self, op: &Op, login: &Login) -> Result<Session<'_>> {
        let action = format!("log in to the database as {}", login.user);
        op.in_time(&action, CONNECT_DEADLINE, self.open(login)).await?
    }

    async fn open(&self, login: &Login) -> Result<Session<'_>> {
        let action = || format!("log in to the database as {}", login.user);
        let permit = self.sessions.acquire().await.map_err(|_| Error::Cancelled { action: action() })?;
        let mut conn = Conn::new(self.options(login)).await.map_err(|error| convert(error, action()))?;
        conn.query_drop(SETUP).await.map_err(|error| convert(error, action()))?;
        let facts: Option<(String, String, i64)> = conn
            .query_first("SELECT VERSION(), @@version_comment, @@lower_case_table_names")
            .await
            .map_err(|error| convert(error, action()))?;
        let (version, comment, lower_case) = facts.unwrap_or_default();
        let flavor = Flavor::parse(&version, &comment)
            .ok_or_else(|| Error::guest(format!("the server calls itself '{version}', which is no version of MySQL or MariaDB")))?;
        Ok(Session { conn, flavor, lower_case_names: lower_case != 0, _permit: permit })
    }

    fn options(&self, login: &Login) -> Opts {
        OptsBuilder::default()
            .socket(Some(self.socket.as_str()))
            .user(Some(login.user.clone()))
            .pass(login.password.as_ref().map(|password| password.expose_secret().to_owned()))
            .prefer_socket(false)
            // Known, so that the driver need not ask for them.
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(60))
            .stmt_cache_size(0)
            .into()
    }
}

impl Session<'_> {
    /// Kind and version of the server.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// True when the server folds names of databases to lower case.
    pub fn lower_case_names(&self) -> bool {
        self.lower_case_names
    }

    /// Runs a statement without a result.
    ///
    /// # Errors
    /// [`Error::Database`] with the server's number and words, without secrets.
    pub async fn run(&mut self, op: &Op, action: impl Into<String>, sql: &SqlText) -> Result<()> {
        self.rows::<mysql_async::Row>(op, action, sql).await.map(drop)
    }

    /// Runs a statement and collects its rows.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn rows<T: FromRow + Send + 'static>(&mut self, op: &Op, action: impl Into<String>, sql: &SqlText) -> Result<Vec<T>> {
        let action = action.into();
        tracing::debug!(?sql, "running");
        let text = sql.render();
        let conn = &mut self.conn;
        let query = async {
            let rows: Vec<mysql_async::Row> = conn.query(text.expose_secret()).await?;
            let rows = rows.into_iter();
            rows.map(|row| mysql_async::from_row_opt(row).map_err(|error| mysql_async::Error::Other(Box::new(error))))
                .collect::<Result<_, _>>()
        };
        op.in_time(&action, STATEMENT_DEADLINE, query).await?.map_err(|error| scrubbed(convert(error, action), sql))
    }

    /// Says goodbye, so that the server does not count an aborted client.
    pub async fn close(self) {
        // Whatever was done is committed; a server that is gone by now is not this session's business.
        tokio::time::timeout(CONNECT_DEADLINE, self.conn.disconnect()).await.ok();
    }
}

fn scrubbed(error: Error, sql: &SqlText) -> Error {
    match error {
        Error::Database { action, code, message } => Error::Database { action, code, message: sql.scrub(&message) },
        other => other,
    }
}

fn convert(error: mysql_async::Error, action: String) -> Error {
    use mysql_async::{DriverError, Error as Driver, IoError};
    match error {
        Driver::Server(server) => Error::Database { action, code: Some(server.code), message: server.message },
        Driver::Io(IoError::Io(source)) => Error::Io { action, source },
        // The server went away, or was never there: nobody answered.
        Driver::Driver(DriverError::ConnectionClosed) => Error::Io { action, source: std::io::ErrorKind::UnexpectedEof.into() },
        other => Error::Database { action, code: None, message: other.to_string() },
    }
}
