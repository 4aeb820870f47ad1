//! [`Freezer`]: the volume's file system held still while somebody takes a snapshot of the volume (fsfreeze(8)).

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio_util::sync::CancellationToken;

use super::mounts::{self, DeviceNumber};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandRunner, CommandSpec};
use crate::system::files;

/// In the state directory while something is frozen: which mount point.
const NOTE: &str = "frozen";
/// Until everything that was written is on the disk, which freezing waits for.
const FREEZE_DEADLINE: Duration = Duration::from_secs(120);
/// Thawing waits for nothing.
const THAW_DEADLINE: Duration = Duration::from_secs(30);
/// What fsfreeze says of a file system that is not frozen (EINVAL of the ioctl FITHAW).
const NOT_FROZEN: &str = "Invalid argument";

/// Freezes and thaws one mount point. A frozen file system outlives its mount and whoever froze it: a note in the state directory tells the next agent.
#[derive(Debug)]
pub struct Freezer {
    commands: Arc<dyn CommandRunner>,
    mount_point: Utf8PathBuf,
    state_dir: Utf8PathBuf,
}

impl Freezer {
    /// For the volume at `mount_point`.
    pub fn new(commands: Arc<dyn CommandRunner>, mount_point: Utf8PathBuf, state_dir: Utf8PathBuf) -> Freezer {
        Freezer { commands, mount_point, state_dir }
    }

    /// Everything written so far is on the disk when this returns, and whoever writes waits until [`Self::thaw`].
    ///
    /// # Errors
    /// It is no volume of its own; the file system cannot be frozen: it is not then.
    pub async fn freeze(&self, op: &Op) -> Result<()> {
        self.check()?;
        files::write_atomic(&self.note(), self.mount_point.as_str().as_bytes(), 0o600, None)?;
        let frozen = self.run(op, "--freeze", FREEZE_DEADLINE).await;
        if frozen.is_err() {
            // One that was cut off may have frozen it all the same.
            self.thaw().await?;
        }
        frozen.action(format!("freeze the file system at {}", self.mount_point))
    }

    /// Lets everybody write again. Done again, it changes nothing. Nobody cancels it.
    ///
    /// # Errors
    /// It stays frozen; what to do is in the error.
    pub async fn thaw(&self) -> Result<()> {
        let op = Op::internal(CancellationToken::new());
        match self.run(&op, "--unfreeze", THAW_DEADLINE).await {
            Err(error) if !error.to_string().contains(NOT_FROZEN) => {
                Err(error).action(format!("thaw the file system at {0} (by hand: fsfreeze --unfreeze {0})", self.mount_point))
            }
            _ => files::remove(&self.note()),
        }
    }

    /// Thaws what an agent that was killed has left frozen. For the agent's start.
    ///
    /// # Errors
    /// Those of [`Self::thaw`].
    pub async fn thaw_left_over(commands: Arc<dyn CommandRunner>, state_dir: &Utf8Path) -> Result<()> {
        let Some(mount_point) = files::read_optional(&state_dir.join(NOTE))? else { return Ok(()) };
        tracing::warn!(mount_point, "an earlier agent was cut off while it held the volume still for a snapshot; thawing it");
        Freezer::new(commands, mount_point.into(), state_dir.to_owned()).thaw().await
    }

    /// What the agent itself, or the whole guest, writes to must not be frozen.
    fn check(&self) -> Result<()> {
        let mount = mounts::at(&self.mount_point)?
            .ok_or_else(|| Error::guest(format!("no volume is mounted at {}: there is nothing to take a snapshot of", self.mount_point)))?;
        let own = std::fs::metadata(&self.state_dir).action(format!("look at {}", self.state_dir))?.dev();
        if mounts::is_root(mount.device)? || DeviceNumber::new(own) == mount.device {
            return Err(Error::guest(format!(
                "the file system at {} is the guest's own: it cannot be held still for a snapshot of the volume",
                self.mount_point
            )));
        }
        Ok(())
    }

    async fn run(&self, op: &Op, action: &str, deadline: Duration) -> Result<()> {
        let command = CommandSpec::new("fsfreeze").args([action, self.mount_point.as_str()]).timeout(deadline).outside();
        self.commands.run(op, command).await.map(drop)
    }

    fn note(&self) -> Utf8PathBuf {
        self.state_dir.join(NOTE)
    }
}
