//! Sessions with the server, over its Unix socket: one an operation, as with every datastore (`system::mysql`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisError, ServerErrorKind,
};
use secrecy::{ExposeSecret, SecretString};

use super::request::Request;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::greeting::Greeting;

/// Until the server has let the agent in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// One command. The agent sends none that works through the data.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// What opens the server for the agent.
#[derive(Debug, Clone)]
pub struct Access {
    /// The server's socket.
    pub socket: Utf8PathBuf,
    /// Passwords of the default user that may be right, the likeliest first. None is tried after all of them.
    pub passwords: Vec<SecretString>,
    /// What `CONFIG` is called, if it is called differently.
    pub config_command: Option<SecretString>,
}

/// Knows how to get in at this moment: passwords change while the agent runs.
pub trait KeyHolder: Send + Sync + fmt::Debug {
    /// What opens the server now.
    ///
    /// # Errors
    /// The configuration cannot be read.
    fn access(&self) -> Result<Access>;
}

/// Opens sessions on one server.
#[derive(Debug, Clone)]
pub struct Client {
    keys: Arc<dyn KeyHolder>,
}

/// A session with the server.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    access: Access,
    password: Option<SecretString>,
}

struct Connection(MultiplexedConnection);

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection")
    }
}

impl Client {
    /// A client of the server that these keys open.
    pub fn new(keys: Arc<dyn KeyHolder>) -> Client {
        Client { keys }
    }

    /// A session of the default user.
    ///
    /// # Errors
    /// [`Error::Database`] when the server answered and refused; [`Error::Io`] or [`Error::Timeout`] when it did not answer.
    pub async fn session(&self, op: &Op) -> Result<Session> {
        let access = self.keys.access()?;
        let mut refusal = None;
        for password in access.passwords.iter().map(Some).chain([None]) {
            match self.open(op, password.cloned(), access.clone()).await {
                Err(error @ Error::Database { .. }) => refusal = refusal.or(Some(error)),
                other => return other,
            }
        }
        Err(refusal.unwrap_or_else(|| Error::guest("there is no way into the database")))
    }

    async fn open(&self, op: &Op, password: Option<SecretString>, access: Access) -> Result<Session> {
        let action = "log in to the database";
        let connecting = async {
            let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
            if let Some(password) = &password {
                settings = settings.set_password(password.expose_secret());
            }
            let address = ConnectionAddr::Unix(access.socket.clone().into_std_path_buf());
            let info = address.into_connection_info()?.set_redis_settings(settings);
            // Deadlines are the operation's, below.
            let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            redis::Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
        };
        let opened = op.in_time(action, CONNECT_DEADLINE, connecting).await?;
        let connection = opened.map_err(|error| convert(&error, action, None))?;
        let mut session = Session { connection: Connection(connection), access, password };
        // A server that wants a password lets everybody connect.
        match session.ask(op, action, &Request::new("PING")).await {
            Ok(Err(error)) if error.code() == Some("NOAUTH") => Err(convert(&error, action, None)),
            Ok(_) => Ok(session),
            Err(error) => Err(error),
        }
    }
}

impl Session {
    /// The server's socket.
    pub fn socket(&self) -> &Utf8Path {
        &self.access.socket
    }

    /// The password that opened it.
    pub fn password(&self) -> Option<&SecretString> {
        self.password.as_ref()
    }

    async fn ask(&mut self, op: &Op, action: &str, request: &Request) -> Result<Result<redis::Value, RedisError>> {
        let command = request.command();
        let answer = command.query_async::<redis::Value>(&mut self.connection.0);
        let answer = op.in_time(action, COMMAND_DEADLINE, answer).await?;
        Ok(answer.and_then(redis::Value::extract_error))
    }

    /// Runs a command.
    ///
    /// # Errors
    /// [`Error::Database`] with the server's words, without secrets.
    pub async fn run<T: FromRedisValue>(&mut self, op: &Op, action: &str, request: &Request) -> Result<T> {
        tracing::debug!(?request, "running");
        let value = self.ask(op, action, request).await?.map_err(|error| convert(&error, action, Some(request)))?;
        T::from_redis_value(value)
            .map_err(|error| Error::guest(format!("the server's answer to {request:?} is none that it gives: {error}")))
    }

    /// Runs a command whose answer says nothing but that it worked.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn command(&mut self, op: &Op, action: &str, request: &Request) -> Result<()> {
        self.run::<redis::Value>(op, action, request).await.map(drop)
    }

    /// How the server is.
    ///
    /// # Errors
    /// It said nothing.
    pub async fn greet(&mut self, op: &Op) -> Result<Greeting> {
        let action = "ask the database how it is";
        Ok(match self.ask(op, action, &Request::new("PING")).await? {
            Ok(_) => Greeting::Good,
            Err(error) => {
                let busy = error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading) || error.code() == Some("BUSY");
                let server = error.code().is_some() && !error.is_io_error();
                match convert(&error, action, None) {
                    error if busy => Greeting::Busy(error),
                    error if server => Greeting::Refused(error),
                    error => return Err(error),
                }
            }
        })
    }

    /// A section of `INFO`, by field.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn info(&mut self, op: &Op, section: &str) -> Result<BTreeMap<String, String>> {
        let text: String = self.run(op, &format!("read the server's {section}"), &Request::new("INFO").arg(section)).await?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    fn config(&self) -> Request {
        match &self.access.config_command {
            Some(name) => Request::secret_command(name.clone()),
            None => Request::new("CONFIG"),
        }
    }

    /// Values of the parameters that `pattern` names (`CONFIG GET`).
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn parameters(&mut self, op: &Op, pattern: &str) -> Result<BTreeMap<String, SecretString>> {
        let request = self.config().arg("GET").arg(pattern);
        let values: BTreeMap<String, String> = self.run(op, &format!("read the parameter {pattern}"), &request).await?;
        Ok(values.into_iter().map(|(name, value)| (name, value.into())).collect())
    }

    /// Sets a parameter of the running server (`CONFIG SET`).
    ///
    /// # Errors
    /// Those of [`Self::run`]: the server refuses the value, or takes the parameter at its start only.
    pub async fn set_parameter(&mut self, op: &Op, name: &str, value: SecretString) -> Result<()> {
        let request = self.config().arg("SET").arg(name).secret(value);
        self.command(op, &format!("set the parameter {name}"), &request).await
    }

    /// Sets several parameters of the running server, all of them or none (servers before 7 take one at a time). Those whose names end in `-pass` are secrets.
    ///
    /// # Errors
    /// Those of [`Self::set_parameter`].
    pub async fn set_parameters(&mut self, op: &Op, parameters: Vec<(String, SecretString)>) -> Result<()> {
        let names: Vec<String> = parameters.iter().map(|(name, _)| name.clone()).collect();
        let add = |request: Request, (name, value): (String, SecretString)| {
            let is_secret = name.ends_with("-pass");
            let request = request.arg(name);
            if is_secret { request.secret(value) } else { request.arg(value.expose_secret()) }
        };
        let request = parameters.into_iter().fold(self.config().arg("SET"), add);
        self.command(op, &format!("set the parameters {}", names.join(", ")), &request).await
    }

    /// Has the server write its parameters into its configuration file (`CONFIG REWRITE`).
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn rewrite_configuration(&mut self, op: &Op) -> Result<()> {
        let request = self.config().arg("REWRITE");
        self.command(op, "have the server write its configuration file", &request).await
    }
}

fn convert(error: &RedisError, action: &str, request: Option<&Request>) -> Error {
    let action = action.to_owned();
    if error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() {
        let kind = if error.is_connection_refusal() { std::io::ErrorKind::ConnectionRefused } else { std::io::ErrorKind::BrokenPipe };
        return Error::Io { action, source: std::io::Error::new(kind, error.to_string()) };
    }
    let words = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    Error::Database { action, code: None, message: request.map_or(words.clone(), |request| request.scrub(&words)) }
}
