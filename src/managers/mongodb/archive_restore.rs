//! [`ArchiveRestore`]: an archive, or a tar of the Python agent, into a new data directory, by a server that nobody else can reach.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;

use super::configuration::Configuration;
use super::private_server::{Doors, PrivateServer};
use super::program::ServerProgram;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::strategies::backup::mongodb::{DirectoryLoad, Loader, ToolLoad, look};
use crate::strategies::backup::{RestoreRunner, RestoreStep};

/// Restores into one directory, which is empty.
#[derive(Debug)]
pub(super) struct ArchiveRestore {
    pub(super) program: Arc<ServerProgram>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) directory: Utf8PathBuf,
    pub(super) wait: Duration,
    /// `mongorestore` is there.
    pub(super) with_tool: bool,
    pub(super) server: Option<PrivateServer>,
}

#[async_trait]
impl RestoreRunner for ArchiveRestore {
    async fn begin(&mut self, op: &Op) -> Result<()> {
        let conf = self.configuration.effective()?;
        let server = PrivateServer::start(op, &self.program, &conf, &self.directory, Doors::Open, self.wait).await?;
        self.server = Some(server);
        Ok(())
    }

    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()> {
        if step.index > 0 || !step.last {
            return Err(Error::guest("a backup of this datastore is never part of a chain: the metadata of this one name a parent"));
        }
        let Some(server) = &self.server else { return Err(Error::guest("there is no server to load the archive into")) };
        let (is_directory, content) = look(op, step.content).await?;
        if is_directory {
            let session = server.client().session(op).await?;
            let load = DirectoryLoad { op, session: &session, room: server.directory().join("dump") };
            return load.load(content).await.action("load the dump");
        }
        if self.with_tool {
            let load = ToolLoad { service: Arc::clone(&self.program.service), socket: server.socket() };
            return load.load(op, content).await;
        }
        let session = server.client().session(op).await?;
        Loader::new(op, &session).load(content).await.action("load the archive")
    }

    async fn finish(&mut self, op: &Op) -> Result<()> {
        match self.server.take() {
            Some(server) => server.stop(op).await,
            None => Err(Error::guest("nothing was loaded")),
        }
    }
}
