//! [`LoadRestore`]: a dump into a new data directory, by a server that nobody else can reach.

use std::mem;

use async_trait::async_trait;
use bytes::Bytes;

use super::flavor::Flavor;
use super::private_server::{Access, PrivateServer, PrivateServerSpec};
use super::upgrade;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::strategies::backup::{RestoreRunner, RestoreStep, feed};
use crate::system::command::CommandSpec;
use crate::system::files;

/// Clients that load a dump, best first.
pub(super) const CLIENTS: [&str; 2] = ["mariadb", "mysql"];
/// How much of the dump's beginning is looked at.
const HEAD: usize = 4096;

/// Restores into one directory.
#[derive(Debug)]
pub(super) struct LoadRestore {
    pub(super) spec: PrivateServerSpec,
    pub(super) owner: Owner,
    /// The client's program.
    pub(super) client: &'static str,
    pub(super) flavor: Flavor,
    pub(super) server: Option<PrivateServer>,
}

#[async_trait]
impl RestoreRunner for LoadRestore {
    async fn begin(&mut self, op: &Op) -> Result<()> {
        let spec = &self.spec;
        files::remove_tree(&spec.directory)?;
        self.owner.directory(op, &spec.directory, 0o750).await?;
        spec.initialize(op).await?;
        self.owner.take(op, &spec.directory).await?;
        self.server = Some(spec.start(op, Access::Accounts).await?);
        Ok(())
    }

    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()> {
        if step.index > 0 || !step.last {
            return Err(Error::guest("a dump is never part of a chain: the metadata of this backup name a parent"));
        }
        let load = CommandSpec::new(self.client)
            .args(["--no-defaults", "--user=root", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"])
            .arg(format!("--socket={}", self.spec.socket()))
            .timeout(self.spec.wait);
        let running = self.spec.service.spawn(op, load).await?;
        let mut head = Vec::new();
        let see = |bytes: Bytes| {
            head.extend_from_slice(&bytes[..HEAD.saturating_sub(head.len()).min(bytes.len())]);
            Ok(bytes)
        };
        feed(op, running, step.content, see).await.action("load the dump")?;
        let made_by = upgrade::dumped_by(&String::from_utf8_lossy(&head));
        if made_by.is_some_and(|old| upgrade::is_needed(old, self.flavor)) {
            upgrade::run(op, &self.spec).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, op: &Op) -> Result<()> {
        match mem::take(&mut self.server) {
            Some(server) => server.stop(op).await,
            None => Err(Error::guest("nothing was loaded")),
        }
    }
}
