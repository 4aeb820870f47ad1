//! [`Following`]: bringing the data of a stopped server in line with those of a source.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::copied;
use super::layout::Layout;
use super::program::ServerProgram;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::managers::restoring::HalfRestored;
use crate::op::Op;
use crate::strategies::replication::postgresql::Conninfo;
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::service::ServiceControl;

/// A whole database goes over the network.
const DEADLINE: Duration = Duration::from_secs(12 * 3600);
/// Beside the data directory, on the same volume: a copy that is being made.
const INCOMING: &str = ".trove-incoming";

/// The data of one server.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) layout: Layout,
    pub(super) program: Arc<ServerProgram>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) owner: Owner,
}

impl Following {
    /// Says that the data are half rewound, in the words of a restore: nobody starts the server then.
    pub(super) fn half_done(&self) -> HalfRestored {
        HalfRestored::new(&self.layout.state_dir, self.layout.data_dir.clone())
    }

    fn incoming(&self) -> Utf8PathBuf {
        self.layout.data_dir.with_file_name(INCOMING)
    }

    async fn rewinding(&self, op: &Op, source: &Conninfo) -> Result<CommandSpec> {
        let command = self.program.command(op, "pg_rewind").await?.arg(format!("--target-pgdata={}", self.layout.data_dir));
        let version = self.program.version(op).await?;
        // A server that has not ended well recovers first, with its own configuration. The option is of PostgreSQL 15; before it, such a server has to be copied.
        let command = if version.0 >= 15 { command.arg(format!("--config-file={}", self.layout.main_file())) } else { command };
        Ok(command.arg(format!("--source-server={source}")).timeout(DEADLINE))
    }

    /// See [`crate::strategies::replication::postgresql::Host::rewind`].
    pub(super) async fn rewind(&self, op: &Op, source: &Conninfo) -> Result<bool> {
        let trial = self.rewinding(op, source).await?.arg("--dry-run");
        match self.service.exec(op, trial).await {
            Ok(_) => {}
            Err(error @ Error::Command { .. }) => {
                tracing::warn!(%error, "the data cannot be rewound: they are replaced by a copy of the source's");
                return Ok(false);
            }
            Err(error) => return Err(error).action("try to rewind the data"),
        }
        self.half_done().set()?;
        let rewind = self.rewinding(op, source).await?;
        // It must not stop in its middle for an agent that is restarted.
        let output = self.service.exec(&op.to_its_end(), rewind).await.action("rewind the data")?;
        let said = output.stderr.lines().last().unwrap_or_default();
        tracing::info!(said, "rewound the data");
        copied::forget_source(op, &self.owner, &self.layout.data_dir).await?;
        self.half_done().forget()?;
        Ok(true)
    }

    /// See [`crate::strategies::replication::postgresql::Host::copy`].
    pub(super) async fn copy(&self, op: &Op, source: &Conninfo, slot: &str) -> Result<()> {
        let (incoming, data) = (self.incoming(), &self.layout.data_dir);
        files::remove_tree(&incoming)?;
        let copied = self.copy_to(op, &incoming, source, slot).await;
        if let Err(error) = copied {
            if let Err(left) = files::remove_tree(&incoming) {
                tracing::warn!(error = %left, "a copy that is not complete stays in the way");
            }
            return Err(error).action("copy the data of the source");
        }
        // What the exchange promises must be on the disk first.
        let synced = crate::op::spawn_blocking(nix::unistd::sync).await;
        synced.map_err(|error| Error::guest(format!("writing the copied files to the disk broke off: {error}")))?;
        let exchanged = renameat2(AT_FDCWD, incoming.as_std_path(), AT_FDCWD, data.as_std_path(), RenameFlags::RENAME_EXCHANGE);
        exchanged.map_err(std::io::Error::from).action(format!("put {incoming} in the place of {data}"))?;
        self.half_done().forget()?;
        files::remove_tree(&incoming)
    }

    async fn copy_to(&self, op: &Op, incoming: &Utf8PathBuf, source: &Conninfo, slot: &str) -> Result<()> {
        self.owner.directory(op, incoming, 0o700).await?;
        let command = self.program.command(op, "pg_basebackup").await?;
        let command = command
            .arg(format!("--pgdata={incoming}"))
            .arg(format!("--dbname={source}"))
            .args(["--wal-method=stream", "--checkpoint=fast", "--no-password"])
            .arg(format!("--slot={slot}"))
            .timeout(DEADLINE);
        self.service.exec(op, command).await?;
        copied::forget_source(op, &self.owner, incoming).await.map(drop)
    }

    /// The server is one that nobody can write to, from its next start on.
    pub(super) fn make_standby(&self) -> Result<()> {
        let data = &self.layout.data_dir;
        let metadata = std::fs::metadata(data).action(format!("look at {data}"))?;
        let file = data.join(copied::STANDBY);
        files::write_atomic(&file, b"", 0o600, None)?;
        // By number: a container's account is none of this guest's.
        std::os::unix::fs::chown(&file, Some(metadata.uid()), Some(metadata.gid())).action(format!("set the owner of {file}"))
    }

    /// True when it is.
    pub(super) fn is_standby(&self) -> bool {
        self.layout.data_dir.join(copied::STANDBY).exists()
    }
}
