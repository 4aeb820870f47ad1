//! [`Tools`]: how the client programs find the server, and log in.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;

use crate::strategies::backup::{BackupJob, ToolLogin};
use crate::system::command::CommandSpec;
use crate::system::postgresql::OS_ADMIN;

/// The server's client programs, and the server they are to talk to.
#[derive(Debug)]
pub struct Tools {
    /// Where they are.
    pub directory: Utf8PathBuf,
    /// A password file of `os_admin`.
    pub login: Arc<ToolLogin>,
    /// Directory of the server's socket.
    pub socket_dir: Utf8PathBuf,
    /// Its port, which is in the socket's name.
    pub port: u16,
}

impl Tools {
    /// What a tool may still do after the end of its output.
    pub(super) const ENDING: Duration = Duration::from_secs(300);

    /// One of them, at work for a backup.
    pub(super) fn command(&self, name: &str, job: &BackupJob) -> CommandSpec {
        CommandSpec::new(self.directory.join(name))
            .arg(format!("--host={}", self.socket_dir))
            .arg(format!("--port={}", self.port))
            .arg(format!("--username={OS_ADMIN}"))
            .arg("--no-password")
            .env("PGPASSFILE", self.login.path().as_str())
            .env("PGAPPNAME", "trove-guestagent")
            .env(BackupJob::MARK, &job.id)
            .timeout(Tools::ENDING)
            .in_background()
    }
}
