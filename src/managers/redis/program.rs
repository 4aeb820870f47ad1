//! The server's program: which one it is, and servers of the agent's own on a directory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use tokio::sync::Mutex;

use crate::codec::{Document, RedisConf};
use crate::error::{Error, Result, ResultExt};
use crate::managers::lifecycle::{Answer, Ask};
use crate::managers::upgrade::Product;
use crate::managers::{Owner, private};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::redis::{Access, Client, KeyHolder, Request, Session};
use crate::system::running::RunningCommand;
use crate::system::service::ServiceControl;

/// What the programs call themselves.
pub(super) const REDIS: &str = "Redis";
pub(super) const VALKEY: &str = "Valkey";

const SOCKET: &str = ".trove-private.sock";
const PID: &str = ".trove-private.pid";
const LOG: &str = ".trove-private.log";
const CONFIGURATION: &str = ".trove-private.conf";
/// What of the instance's configuration is not for a private server: who gets in and from where, whom it follows, what it writes.
const NOT_FOR_IT: &[&str] = &[
    "aclfile",
    "bind",
    "cluster-enabled",
    "masterauth",
    "masteruser",
    "port",
    "rename-command",
    "replicaof",
    "requirepass",
    "slaveof",
    "syslog-enabled",
    "tls-cluster",
    "tls-port",
    "tls-replication",
    "user",
];

/// Reads what a program says with `--version`: `Redis server v=7.0.15 sha=...`.
fn product(said: &str) -> Option<Product> {
    let name = if said.starts_with(VALKEY) { VALKEY } else { REDIS };
    let version = said.split_once(" v=")?.1.split_whitespace().next()?;
    let mut numbers = version.split('.').map(|text| text.parse::<u16>().ok());
    let mut next = || numbers.next().flatten();
    Some(Product { name, version: (next()?, next()?, next().unwrap_or_default()), series: 2, numbers: 3 })
}

/// The server's program on this guest, or in its container.
#[derive(Debug)]
pub(super) struct ServerProgram {
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) owner: Owner,
    pub(super) candidates: Vec<Utf8PathBuf>,
    pub(super) found: Mutex<Option<(String, Product)>>,
}

impl ServerProgram {
    /// Path and version; looked for until it is found.
    async fn program(&self, op: &Op) -> Result<(String, Product)> {
        let mut found = self.found.lock().await;
        if let Some(known) = &*found {
            return Ok(known.clone());
        }
        for name in self.candidates.iter().map(|path| path.as_str()) {
            let output = self.service.exec(op, CommandSpec::new(name).arg("--version")).await;
            if let Some(product) = output.ok().and_then(|output| product(&output.stdout)) {
                return Ok(found.insert((name.to_owned(), product)).clone());
            }
        }
        let names: Vec<&str> = self.candidates.iter().map(|path| path.as_str()).collect();
        Err(Error::guest(format!("no database server is installed: none of {} runs", names.join(", "))))
    }

    /// Looks again: another one may be installed now.
    pub(super) async fn forget(&self) {
        *self.found.lock().await = None;
    }

    /// Name and version of the installed program.
    pub(super) async fn product(&self, op: &Op) -> Result<Product> {
        self.program(op).await.map(|(_, product)| product)
    }

    /// Starts a server on a directory of its own, with the instance's parameters, that only the agent can reach. It writes nothing by itself.
    ///
    /// # Errors
    /// It does not start: its own words about the configuration or the data are in the error.
    pub(super) async fn start_private(&self, op: &Op, conf: &RedisConf, directory: &Utf8Path, wait: Duration) -> Result<PrivateServer> {
        let file = directory.join(CONFIGURATION);
        let log = directory.join(LOG);
        let conf = private_configuration(conf, directory)?;
        self.owner.directory(op, directory, 0o750).await?;
        files::write_atomic(&file, conf.render().as_bytes(), 0o600, None)?;
        self.owner.take(op, &file).await?;
        let (program, _) = self.program(op).await?;
        let command = CommandSpec::new(program).arg(file.as_str()).as_user(self.owner.name()).timeout(wait);
        let mut running = self.service.spawn(op, command).await.action("start a private database server")?;
        drop(running.take_stdin());
        let client = Client::new(Arc::new(Open(directory.join(SOCKET))));
        let asked = Private(client.clone());
        if let Err(error) = private::wait_until_up(op, &mut running, &asked, wait, &log).await {
            if op.cancel.is_cancelled() || running.end_so_far()?.is_none() {
                return Err(error);
            }
            // What it refuses of its configuration it says on its standard error.
            let said = running.finish(op).await.err().map(|said| format!("; {said}")).unwrap_or_default();
            return Err(Error::guest(format!("{error}{said}")));
        }
        Ok(PrivateServer { running, client, directory: directory.to_owned() })
    }

    /// Lets the server read a configuration, and returns its parameters with it.
    ///
    /// # Errors
    /// It refuses something; its words are in the error.
    pub(super) async fn read(&self, op: &Op, conf: &RedisConf, beside: &Utf8Path, wait: Duration) -> Result<Parameters> {
        let scratch =
            tempfile::Builder::new().prefix(".trove-check-").tempdir_in(beside).action(format!("create a directory in {beside}"))?;
        let directory = Utf8PathBuf::from_path_buf(scratch.path().to_owned())
            .map_err(|path| Error::guest(format!("{} is not a path of plain text", path.display())))?;
        let server = self.start_private(op, conf, &directory, wait).await.action("have the server read the configuration")?;
        let mut session = server.session(op).await?;
        let parameters = session.parameters(op, "*").await?;
        drop(session);
        server.stop(op).await?;
        Ok(parameters)
    }

    /// Ends a private server that an earlier agent has left on a directory.
    ///
    /// # Errors
    /// It cannot be ended.
    pub(super) async fn end_left_over(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        // The program shows its configuration file in its command line, and then its socket.
        private::end_left_over(op, &directory.join(PID), &directory.join(".trove-private.")).await
    }
}

/// Parameters by name, as `CONFIG GET` shows them.
pub(super) type Parameters = std::collections::BTreeMap<String, secrecy::SecretString>;

fn private_configuration(conf: &RedisConf, directory: &Utf8Path) -> Result<RedisConf> {
    let mut own = conf.clone();
    for name in NOT_FOR_IT {
        own.remove(&[name]);
    }
    for (name, value) in [
        ("port", json!(0)),
        ("daemonize", json!(false)),
        ("supervised", json!("no")),
        ("dir", json!(directory.as_str())),
        ("pidfile", json!(directory.join(PID).as_str())),
        ("logfile", json!(directory.join(LOG).as_str())),
        ("unixsocket", json!(directory.join(SOCKET).as_str())),
        ("unixsocketperm", json!("700")),
        ("save", json!("")),
        ("appendonly", json!(false)),
    ] {
        own.set(&[name], &value)?;
    }
    Ok(own)
}

/// Lets everybody in who can get at its socket.
#[derive(Debug)]
struct Open(Utf8PathBuf);

impl KeyHolder for Open {
    fn access(&self) -> Result<Access> {
        Ok(Access { socket: self.0.clone(), passwords: Vec::new(), config_command: None })
    }
}

#[derive(Debug)]
struct Private(Client);

#[async_trait]
impl Ask for Private {
    async fn ask(&self, op: &Op) -> Answer {
        greet(&self.0, op).await
    }
}

/// Asks a server how it is.
pub(super) async fn greet(client: &Client, op: &Op) -> Answer {
    let greeting = async { client.session(op).await?.greet(op).await };
    greeting.await.into()
}

/// A running private server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct PrivateServer {
    running: RunningCommand,
    client: Client,
    directory: Utf8PathBuf,
}

impl PrivateServer {
    /// A session with it.
    pub(super) async fn session(&self, op: &Op) -> Result<Session> {
        self.client.session(op).await
    }

    /// Ends it; what it has in memory is not written.
    ///
    /// # Errors
    /// It did not end in time, or not well.
    pub(super) async fn stop(self, op: &Op) -> Result<()> {
        let directory = self.directory;
        let log = directory.join(LOG);
        let mut session = self.client.session(op).await?;
        // The server hangs up instead of answering.
        match session.command(op, "end a private database server", &Request::new("SHUTDOWN").arg("NOSAVE")).await {
            Ok(()) | Err(Error::Io { .. }) => {}
            Err(error) => return Err(error),
        }
        let ended = self.running.finish(op).await;
        ended.map_err(|error| Error::guest(format!("{error}{}", private::log_end(&log)))).action("stop the private server")?;
        [SOCKET, PID, LOG, CONFIGURATION].iter().try_for_each(|name| files::remove(&directory.join(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_tell_what_they_are() {
        let redis = product("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c9\n").unwrap();
        assert_eq!((redis.to_string().as_str(), redis.version), ("Redis 7.0.15", (7, 0, 15)));
        let valkey = product("Valkey server v=9.0.0 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1\n").unwrap();
        assert_eq!(valkey.to_string(), "Valkey 9.0.0");
        assert_eq!(product("command not found"), None);
    }

    #[test]
    fn a_private_server_takes_nothing_from_the_instances_but_parameters() {
        let conf =
            RedisConf::parse("port 6379\nrequirepass planted\nsave 900 1\nmaxmemory 5mb\nreplicaof 198.51.100.7 6379\nappendonly yes\n");
        let own = private_configuration(&conf, "/x".into()).unwrap().render();
        assert!(own.contains("maxmemory 5mb") && own.contains("port 0\n") && own.contains("save \"\"\n"), "{own}");
        assert!(!own.contains("planted") && !own.contains("198.51.100.7") && !own.contains("appendonly yes"), "{own}");
    }
}
