//! Sessions with the server: one an operation, as with every datastore (`system::mysql`).
//!
//! The driver looks for its server in the background until somebody's patience ends. A session looks first whether somebody listens, so that a server that is
//! down is found down at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use mongodb::bson::{Document, doc};
use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};
use mongodb::options::{ClientOptions, Credential, FindOptions, ServerAddress};
use secrecy::{ExposeSecret, SecretString};

use super::credentials::ADMIN;
use super::flavor::Flavor;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::greeting::Greeting;

/// Until the server has let the agent in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// One command. Longer than the longest wait of a controller for its answer.
const COMMAND_DEADLINE: Duration = Duration::from_secs(600);
/// In the server's log.
const NAME: &str = "trove-guestagent";
/// Fields of commands that no message may show.
const SECRETS: [&str; 2] = ["pwd", "key"];

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Its Unix socket.
    Socket(Utf8PathBuf),
    /// A port of this host or of another one.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// As whom.
#[derive(Debug, Clone)]
pub struct Login {
    /// Name.
    pub user: String,
    /// The database that the user is in.
    pub database: String,
    /// Password.
    pub password: SecretString,
}

/// What opens a server.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where it is.
    pub address: Address,
    /// As whom; none where nobody is asked, or for what needs no login.
    pub login: Option<Login>,
}

/// Knows how to get in at this moment: passwords, and ports, change while the agent runs.
pub trait KeyHolder: Send + Sync + fmt::Debug {
    /// What opens the server now.
    ///
    /// # Errors
    /// Configuration or credentials cannot be read.
    fn access(&self) -> Result<Access>;
}

impl KeyHolder for Access {
    fn access(&self) -> Result<Access> {
        Ok(self.clone())
    }
}

/// Opens sessions on one server.
#[derive(Debug, Clone)]
pub struct Client {
    keys: Arc<dyn KeyHolder>,
}

/// A session with the server. Dropping it ends it.
#[derive(Clone)]
pub struct Session {
    client: mongodb::Client,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Client {
    /// A client of the server that these keys open.
    pub fn new(keys: Arc<dyn KeyHolder>) -> Client {
        Client { keys }
    }

    /// A session. Whoever has no login yet gets one that may do what needs none.
    ///
    /// # Errors
    /// [`Error::Database`] when the server answered and refused; [`Error::Io`] or [`Error::Timeout`] when it did not answer.
    pub async fn session(&self, op: &Op) -> Result<Session> {
        self.open(op, self.keys.access()?).await
    }

    /// A session without a login, for what needs none and for the localhost exception (manual, "Localhost Exception").
    ///
    /// # Errors
    /// Those of [`Self::session`].
    pub async fn anonymous(&self, op: &Op) -> Result<Session> {
        self.open(op, Access { login: None, ..self.keys.access()? }).await
    }

    async fn open(&self, op: &Op, access: Access) -> Result<Session> {
        let action = match &access.login {
            Some(login) => format!("log in to the database as {}", login.user),
            None => "connect to the database".to_owned(),
        };
        let opening = async {
            knock(&access.address).await.action("connect to the database")?;
            let client = mongodb::Client::with_options(options(&access)).map_err(|error| convert(&error, &action, &[]))?;
            let session = Session { client };
            let ping = session.client.database(ADMIN).run_command(doc! {"ping": 1}).await;
            ping.map_err(|error| convert(&error, &action, &[]))?;
            Ok(session)
        };
        op.in_time(&action, CONNECT_DEADLINE, opening).await?
    }

    /// How the server is, and whether it lets the agent in. Its caller limits the time.
    ///
    /// # Errors
    /// It said nothing.
    pub async fn greet(&self, op: &Op) -> Result<Greeting> {
        match self.session(op).await {
            Ok(_) => Ok(Greeting::Good),
            Err(error @ Error::Database { .. }) => Ok(Greeting::Refused(error)),
            Err(error) => Err(error),
        }
    }
}

/// Finds out whether somebody listens.
async fn knock(address: &Address) -> std::io::Result<()> {
    match address {
        Address::Socket(path) => tokio::net::UnixStream::connect(path).await.map(drop),
        Address::Tcp { host, port } => tokio::net::TcpStream::connect((host.as_str(), *port)).await.map(drop),
    }
}

fn options(access: &Access) -> ClientOptions {
    let address = match &access.address {
        Address::Socket(path) => ServerAddress::Unix { path: path.clone().into_std_path_buf() },
        Address::Tcp { host, port } => ServerAddress::Tcp { host: host.clone(), port: Some(*port) },
    };
    let credential = access.login.as_ref().map(|login| {
        // Of the server's SCRAM variants the driver takes the best that the user has (`saslSupportedMechs`).
        Credential::builder()
            .username(login.user.clone())
            .source(login.database.clone())
            .password(login.password.expose_secret().to_owned())
            .build()
    });
    // This server, whatever its role in a replica set. Deadlines are the operation's.
    let mut options = ClientOptions::builder()
        .hosts(vec![address])
        .direct_connection(true)
        .app_name(NAME.to_owned())
        .server_selection_timeout(CONNECT_DEADLINE)
        .connect_timeout(CONNECT_DEADLINE)
        .max_pool_size(4)
        .retry_reads(false)
        .retry_writes(false)
        .build();
    options.credential = credential;
    options
}

impl Session {
    /// The driver's client, for cursors.
    pub fn driver(&self) -> &mongodb::Client {
        &self.client
    }

    /// Runs a command.
    ///
    /// # Errors
    /// [`Error::Database`] with the server's words, without secrets.
    pub async fn run(&self, op: &Op, action: &str, database: &str, command: Document) -> Result<Document> {
        let name = command.keys().next().cloned().unwrap_or_default();
        tracing::debug!(command = name, database, "running");
        let secrets: Vec<String> = SECRETS.iter().filter_map(|field| Some(command.get_str(field).ok()?.to_owned())).collect();
        let database = self.client.database(database);
        let running = database.run_command(command);
        let answer =
            op.in_time(action, COMMAND_DEADLINE, running.into_future()).await?.map_err(|error| convert(&error, action, &secrets))?;
        kept(action, answer)
    }

    /// Documents of a collection, in the order of their `_id`.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn find(
        &self,
        op: &Op,
        action: &str,
        database: &str,
        collection: &str,
        filter: Document,
        limit: Option<usize>,
    ) -> Result<Vec<Document>> {
        let finding = async {
            let options = FindOptions::builder().sort(doc! {"_id": 1}).limit(limit.and_then(|limit| i64::try_from(limit).ok())).build();
            let collection = self.client.database(database).collection::<Document>(collection);
            let mut cursor = collection.find(filter).with_options(options).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok::<_, DriverError>(found)
        };
        op.in_time(action, COMMAND_DEADLINE, finding).await?.map_err(|error| convert(&error, action, &[]))
    }

    /// What the server is.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub async fn flavor(&self, op: &Op) -> Result<Flavor> {
        let build = self.run(op, "ask the server for its version", ADMIN, doc! {"buildInfo": 1}).await?;
        Flavor::of_server(&build).ok_or_else(|| Error::guest("the server does not tell its version"))
    }
}

/// A command that was done, and that not enough members of the replica set have (manual, "Write Concern"), is answered as if all were well, but for one field.
fn kept(action: &str, answer: Document) -> Result<Document> {
    let Ok(failed) = answer.get_document("writeConcernError") else { return Ok(answer) };
    let code = failed.get_i32("code").ok().and_then(|code| u16::try_from(code).ok());
    let text = |key: &str| failed.get_str(key).unwrap_or_default();
    Err(Error::Database { action: action.to_owned(), code, message: format!("{} ({})", text("errmsg"), text("codeName")) })
}

/// The server's words, without secrets.
pub(crate) fn convert(error: &DriverError, action: &str, secrets: &[String]) -> Error {
    let action = action.to_owned();
    let said = |code: Option<i32>, words: String| {
        let hidden = |words: String, secret: &String| if secret.is_empty() { words } else { words.replace(secret.as_str(), "***") };
        let message = secrets.iter().fold(words, hidden);
        Error::Database { action: action.clone(), code: code.and_then(|code| u16::try_from(code).ok()), message }
    };
    match error.kind.as_ref() {
        ErrorKind::Command(error) => said(Some(error.code), format!("{} ({})", error.message, error.code_name)),
        ErrorKind::Write(WriteFailure::WriteError(error)) => said(Some(error.code), error.message.clone()),
        ErrorKind::Io(source) => Error::Io { action, source: std::io::Error::new(source.kind(), source.to_string()) },
        ErrorKind::ServerSelection { message, .. } | ErrorKind::ConnectionPoolCleared { message, .. } => {
            Error::Io { action, source: std::io::Error::new(std::io::ErrorKind::NotConnected, message.clone()) }
        }
        // Error 18 of the server, whose words these are.
        ErrorKind::Authentication { message, .. } => said(Some(18), message.clone()),
        other => said(None, other.to_string()),
    }
}
