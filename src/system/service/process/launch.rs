//! Starting the server's program, and what its log says when that does not work.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, fchown};

use camino::Utf8PathBuf;
use nix::unistd::User;
use tokio::process::Child;

use super::record::ServerProcess;
use crate::error::{Error, Result, ResultExt};
use crate::system::command::{CommandSpec, spawn_detached};
use crate::system::files;
use crate::system::service::ServerCommand;

/// A server that was just started.
#[derive(Debug)]
pub(super) struct Launched {
    /// The child, to be reaped.
    pub(super) child: Child,
    /// Its identity.
    pub(super) process: ServerProcess,
    /// Where in the log its own lines begin.
    pub(super) log_start: u64,
}

impl ServerCommand {
    /// The server program on this host.
    pub(super) fn program(&self) -> Option<&Utf8PathBuf> {
        self.programs.iter().find(|path| path.is_file())
    }

    /// Starts the server; its directories exist afterwards. `mark` goes into its environment.
    pub(super) fn launch(&self, mark: (&str, String)) -> Result<Launched> {
        let program = self.program().ok_or_else(|| self.missing())?;
        for directory in &self.run_dirs {
            files::ensure_directory(directory, 0o755, Some(&self.user))?;
        }
        let log = self.open_log()?;
        let log_start = log.metadata().action(format!("read the size of {}", self.log_file))?.len();
        let command = CommandSpec::new(program.as_str()).args(&self.args).env(mark.0, mark.1);
        let command = if self.started_as_user { command.as_user(&self.user) } else { command };
        let child = spawn_detached(&command, log)?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        // Not reaped yet, so that its number is still its own even if it has ended.
        let process = pid.map_or_else(|| Err(Error::guest(format!("{program} ended before it was started"))), ServerProcess::of)?;
        Ok(Launched { child, process, log_start })
    }

    pub(super) fn missing(&self) -> Error {
        let programs: Vec<&str> = self.programs.iter().map(|path| path.as_str()).collect();
        Error::guest(format!(
            "the database server's program ({}) is not on this guest: install the datastore's package",
            programs.join(", ")
        ))
    }

    fn open_log(&self) -> Result<File> {
        if let Some(parent) = self.log_file.parent() {
            std::fs::create_dir_all(parent).action(format!("create {parent}"))?;
        }
        let open = || -> std::io::Result<File> {
            let log = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.log_file)?;
            // The server may open it again by name once it has changed to its own user.
            if let Some(user) = User::from_name(&self.user)? {
                fchown(&log, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
            Ok(log)
        };
        open().action(format!("open {}", self.log_file))
    }
}
