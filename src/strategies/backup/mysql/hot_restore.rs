//! [`HotRestore`]: a chain of hot backups into a directory, made into one a server can be started on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::{HotTool, hot_log};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::strategies::backup::{RestoreRunner, RestoreStep, unpack};
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::service::ServiceControl;

/// The log of hours of writing is applied within this time.
const PREPARE: Duration = Duration::from_secs(6 * 3600);
/// What unpacking may still do after the end of its input.
const ENDING: Duration = Duration::from_secs(600);

/// Restores into one directory. Ownership and the server are its caller's business.
#[derive(Debug)]
pub struct HotRestore {
    /// The tool.
    pub tool: HotTool,
    /// Its program.
    pub program: String,
    /// Where the tools run.
    pub service: Arc<dyn ServiceControl>,
    /// The directory: empty when it begins.
    pub directory: Utf8PathBuf,
    /// Where an incremental backup is unpacked until it is applied: on the same volume, outside the directory.
    pub aside: Utf8PathBuf,
}

impl HotRestore {
    /// Without undoing what was not committed: the next backup of the chain may have its end.
    fn prepare(&self, incremental: bool, last: bool) -> CommandSpec {
        let command = CommandSpec::new(&self.program).arg("--prepare").arg(format!("--target-dir={}", self.directory));
        // mariadb-backup never undoes anything here: the server does when it starts.
        let command = if self.tool == HotTool::XtraBackup && !last { command.arg("--apply-log-only") } else { command };
        let command = if incremental { command.arg(format!("--incremental-dir={}", self.aside)) } else { command };
        command.timeout(PREPARE)
    }

    async fn unpack(&self, op: &Op, step: RestoreStep, into: &Utf8Path) -> Result<()> {
        let unpacker = CommandSpec::new(self.tool.unpacker()).args(["-x", "-C", into.as_str()]).timeout(ENDING);
        let running = self.service.spawn(op, unpacker).await?;
        unpack(op, running, step.content, into, Ok).await
    }
}

#[async_trait]
impl RestoreRunner for HotRestore {
    async fn begin(&mut self, _op: &Op) -> Result<()> {
        files::remove_tree(&self.aside)?;
        files::ensure_directory(&self.directory, 0o750, None)
    }

    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()> {
        let (index, last) = (step.index, step.last);
        let incremental = index > 0;
        let into = if incremental { self.aside.clone() } else { self.directory.clone() };
        files::ensure_directory(&into, 0o750, None)?;
        tracing::info!(index, directory = %into, "unpacking a backup");
        self.unpack(op, step, &into).await.action(format!("unpack backup {index} of the chain"))?;
        let said = self.service.exec(op, self.prepare(incremental, last)).await.action(format!("prepare backup {index} of the chain"))?;
        hot_log::completed(&said.stderr).action(format!("prepare backup {index} of the chain"))?;
        if incremental { files::remove_tree(&self.aside) } else { Ok(()) }
    }

    async fn finish(&mut self, _op: &Op) -> Result<()> {
        if self.directory.join("mysql").is_dir() {
            return Ok(());
        }
        Err(Error::guest("what was restored is no database: there is no schema 'mysql' in it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::command::SystemCommands;
    use crate::system::service::{ServerCommand, build};

    fn restore(tool: HotTool) -> HotRestore {
        let text = "[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\ntransport_url = rabbit://u:p@127.0.0.1/\n";
        let settings = crate::config::Settings::from_text("guest.conf", text).unwrap();
        let service = build(&settings, &["mysql"], ServerCommand::default(), Arc::new(SystemCommands));
        HotRestore { tool, program: tool.programs()[0].to_owned(), service, directory: "/data".into(), aside: "/aside".into() }
    }

    /// xtrabackup itself cannot be had on the machines these tests run on: its argument vector is all that is checked of it.
    #[test]
    fn xtrabackup_prepares_with_these_arguments_which_no_real_one_has_seen() {
        let tool = restore(HotTool::XtraBackup);
        assert_eq!(tool.prepare(false, true).argv(), ["xtrabackup", "--prepare", "--target-dir=/data"]);
        assert_eq!(tool.prepare(false, false).argv(), ["xtrabackup", "--prepare", "--target-dir=/data", "--apply-log-only"]);
        let middle = ["xtrabackup", "--prepare", "--target-dir=/data", "--apply-log-only", "--incremental-dir=/aside"];
        assert_eq!(tool.prepare(true, false).argv(), middle);
        assert_eq!(tool.prepare(true, true).argv(), ["xtrabackup", "--prepare", "--target-dir=/data", "--incremental-dir=/aside"]);
        let maria = restore(HotTool::MariaBackup);
        assert_eq!(maria.prepare(true, false).argv(), ["mariadb-backup", "--prepare", "--target-dir=/data", "--incremental-dir=/aside"]);
    }
}
