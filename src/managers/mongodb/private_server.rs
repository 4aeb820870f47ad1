//! [`PrivateServer`]: a server on a directory that nobody else can reach: to make the agent's user, to load a backup into, to look at one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::program::ServerProgram;
use crate::codec::{Document, Yaml};
use crate::error::{Result, ResultExt};
use crate::managers::lifecycle::{Answer, Ask};
use crate::managers::private;
use crate::op::Op;
use crate::system::files;
use crate::system::mongodb::{Access, Address, Client};
use crate::system::running::RunningCommand;

/// Below the data directory: its configuration, its socket.
const DIRECTORY: &str = ".trove-private";
const CONFIGURATION: &str = "mongod.conf";
const LOG: &str = "log";
const PID: &str = "pid";
const SOCKET: &str = "mongod.sock";
/// What of the instance's configuration a private server has, too: how the data are stored.
const SHARED: [&str; 1] = ["storage"];
/// It has few clients, and is beside others.
const CACHE_GIB: f64 = 0.25;

/// Who gets into a private server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doors {
    /// Whoever gets at its socket may do everything.
    Open,
    /// Users; while there are none, whoever gets at its socket may make the first (manual, "Localhost Exception").
    LocalhostException,
}

/// A running one. Dropping it kills it.
#[derive(Debug)]
pub(super) struct PrivateServer {
    running: RunningCommand,
    client: Client,
    own: Utf8PathBuf,
}

#[derive(Debug)]
struct Private(Client);

#[async_trait]
impl Ask for Private {
    async fn ask(&self, op: &Op) -> Answer {
        self.0.greet(op).await.into()
    }
}

fn configuration(conf: &Yaml, data: &Utf8Path, own: &Utf8Path, doors: Doors) -> Result<Yaml> {
    let mut private = Yaml::parse("");
    for (names, value) in conf.settings() {
        if names.first().is_some_and(|first| SHARED.contains(&first.as_str())) {
            private.set(&names.iter().map(String::as_str).collect::<Vec<_>>(), &value)?;
        }
    }
    let authorization = if doors == Doors::Open { "disabled" } else { "enabled" };
    private.set(&["storage", "dbPath"], &json!(data.as_str()))?;
    private.set(&["storage", "wiredTiger", "engineConfig", "cacheSizeGB"], &json!(CACHE_GIB))?;
    // A path is a socket; there is no port then, and no socket in /tmp.
    private.set(&["net", "bindIp"], &json!(own.join(SOCKET).as_str()))?;
    private.set(&["net", "unixDomainSocket", "enabled"], &json!(false))?;
    private.set(&["processManagement", "fork"], &json!(false))?;
    private.set(&["processManagement", "pidFilePath"], &json!(own.join(PID).as_str()))?;
    private.set(&["systemLog", "destination"], &json!("file"))?;
    private.set(&["systemLog", "path"], &json!(own.join(LOG).as_str()))?;
    private.set(&["security", "authorization"], &json!(authorization))?;
    private.set(&["setParameter", "enableLocalhostAuthBypass"], &json!(doors == Doors::LocalhostException))?;
    private.set(&["setParameter", "diagnosticDataCollectionEnabled"], &json!(false))?;
    // What is restored is as it was: what is out of date goes when the instance's own server runs.
    private.set(&["setParameter", "ttlMonitorEnabled"], &json!(false))?;
    Ok(private)
}

impl PrivateServer {
    /// Starts one on `data` with the instance's way of storing data. It recovers what is in the directory first.
    ///
    /// # Errors
    /// It ended, or did not answer in time; its last words are in the error.
    pub(super) async fn start(
        op: &Op,
        program: &ServerProgram,
        conf: &Yaml,
        data: &Utf8Path,
        doors: Doors,
        wait: Duration,
    ) -> Result<PrivateServer> {
        let own = data.join(DIRECTORY);
        files::remove_tree(&own)?;
        program.owner.directory(op, &own, 0o700).await?;
        let file = own.join(CONFIGURATION);
        files::write_atomic(&file, configuration(conf, data, &own, doors)?.render().as_bytes(), 0o600, None)?;
        program.owner.take(op, &file).await?;
        let command = program.command(op).await?.args(["--config", file.as_str()]).timeout(wait);
        let mut running = program.service.spawn(op, command).await.action("start a private database server")?;
        drop(running.take_stdin());
        let client = Client::new(Arc::new(Access { address: Address::Socket(own.join(SOCKET)), login: None }));
        private::wait_until_up(op, &mut running, &Private(client.clone()), wait, &own.join(LOG)).await?;
        Ok(PrivateServer { running, client, own })
    }

    /// Opens sessions with it, without a login.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A directory of root's and the server's account, which goes with the server.
    pub(super) fn directory(&self) -> &Utf8Path {
        &self.own
    }

    /// Its socket.
    pub(super) fn socket(&self) -> Utf8PathBuf {
        self.own.join(SOCKET)
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// It did not end in time, or not well.
    pub(super) async fn stop(self, op: &Op) -> Result<()> {
        self.running.stop(op).await.action("stop the private server")?;
        files::remove_tree(&self.own)
    }
}

/// Ends a private server that an agent which was killed has left on a directory.
///
/// # Errors
/// It cannot be ended.
pub(super) async fn end_left_over(op: &Op, data: &Utf8Path) -> Result<()> {
    let own = data.join(DIRECTORY);
    private::end_left_over(op, &own.join(PID), &own).await?;
    files::remove_tree(&own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_server_stores_data_as_the_instance_does_and_takes_nothing_else() {
        let conf = Yaml::parse(
            "storage:\n  directoryPerDB: true\n  dbPath: /x\nnet:\n  port: 27017\n  bindIp: \"*\"\nreplication:\n  replSetName: rs1\nsecurity:\n  keyFile: /k\n",
        );
        let own = configuration(&conf, "/d".into(), "/d/p".into(), Doors::LocalhostException).unwrap();
        let get = |path: &[&str]| own.get(path);
        assert_eq!(get(&["storage", "directoryPerDB"]), Some(json!(true)));
        assert_eq!((get(&["storage", "dbPath"]), get(&["net", "bindIp"])), (Some(json!("/d")), Some(json!("/d/p/mongod.sock"))));
        assert_eq!((get(&["net", "port"]), get(&["replication"]), get(&["security", "keyFile"])), (None, None, None));
        assert_eq!(get(&["setParameter", "enableLocalhostAuthBypass"]), Some(json!(true)));
    }
}
