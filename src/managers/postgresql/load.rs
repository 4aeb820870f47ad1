//! [`LoadRestore`]: a dump into a new data directory, by a server that nobody else can reach.

use std::time::Duration;

use async_trait::async_trait;

use super::private_server::{PrivateServer, PrivateServerSpec};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::strategies::backup::postgresql::Replay;
use crate::strategies::backup::{RestoreRunner, RestoreStep, feed};
use crate::system::files;

/// What the client may still do after the end of its input: the last statements of a big dump make indexes.
const ENDING: Duration = Duration::from_secs(12 * 3600);

/// Restores into one directory.
#[derive(Debug)]
pub(super) struct LoadRestore {
    pub(super) spec: PrivateServerSpec,
    pub(super) server: Option<PrivateServer>,
}

#[async_trait]
impl RestoreRunner for LoadRestore {
    async fn begin(&mut self, op: &Op) -> Result<()> {
        let spec = &self.spec;
        files::remove_tree(&spec.directory)?;
        spec.owner.directory(op, &spec.directory, 0o700).await?;
        spec.program.initialize(op, &spec.directory).await?;
        self.server = Some(spec.start(op).await?);
        Ok(())
    }

    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()> {
        if step.index > 0 || !step.last {
            return Err(Error::guest("a dump is never part of a chain: the metadata of this backup name a parent"));
        }
        let Some(server) = &self.server else { return Err(Error::guest("there is no server to load the dump into")) };
        // As the server's account: a dump may have the client run programs, as a superuser of the database may.
        let load = self
            .spec
            .program
            .command(op, "psql")
            .await?
            .args(server.arguments())
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres", "--file=-", "--output=/dev/null"])
            // Nothing of rows and statements in messages.
            .args(["--set=VERBOSITY=terse", "--set=SHOW_CONTEXT=never"])
            .timeout(ENDING);
        let running = self.spec.service.spawn(op, load).await?;
        let mut replay = Replay::default();
        feed(op, running, step.content, |bytes| replay.pass(bytes)).await.action("load the dump")?;
        replay.end()
    }

    async fn finish(&mut self, op: &Op) -> Result<()> {
        match self.server.take() {
            Some(server) => server.stop(op).await,
            None => Err(Error::guest("nothing was loaded")),
        }
    }
}
