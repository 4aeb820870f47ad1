//! [`HotBackup`]: the server's files, copied while it works.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8PathBuf;

use super::hot_log;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::strategies::backup::{BackupJob, BackupRunner, BackupStream, ToolLogin};
use crate::system::command::CommandSpec;

/// What the tool may still do after the end of its output.
const ENDING: Duration = Duration::from_secs(300);

/// The tool a guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HotTool {
    /// Percona's, for MySQL and Percona Server.
    XtraBackup,
    /// MariaDB's: `mariadb-backup`, called `mariabackup` before 10.5.
    MariaBackup,
}

impl HotTool {
    /// Names of the program, best first.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            HotTool::XtraBackup => &["xtrabackup"],
            HotTool::MariaBackup => &["mariadb-backup", "mariabackup"],
        }
    }

    /// The program that unpacks its stream.
    pub(super) fn unpacker(self) -> &'static str {
        match self {
            HotTool::XtraBackup => "xbstream",
            HotTool::MariaBackup => "mbstream",
        }
    }

    /// Packages that bring it, for an error.
    pub fn package(self) -> &'static str {
        match self {
            HotTool::XtraBackup => "percona-xtrabackup of the server's version",
            HotTool::MariaBackup => "mariadb-backup",
        }
    }

    /// Class name of the Python runner.
    fn class(self, incremental: bool) -> &'static str {
        match (self, incremental) {
            (HotTool::XtraBackup, false) => "InnoBackupEx",
            (HotTool::XtraBackup, true) => "InnoBackupExIncremental",
            (HotTool::MariaBackup, false) => "MariaBackup",
            (HotTool::MariaBackup, true) => "MariaBackupIncremental",
        }
    }
}

/// `xtrabackup` or `mariadb-backup`, full or incremental.
#[derive(Debug)]
pub struct HotBackup {
    /// The tool.
    pub tool: HotTool,
    /// Its program.
    pub program: String,
    /// How it logs in.
    pub login: Arc<ToolLogin>,
    /// The server's data directory.
    pub data_dir: Utf8PathBuf,
    /// True for a backup of what has changed since another one.
    pub incremental: bool,
}

impl HotBackup {
    fn command(&self, job: &BackupJob) -> Result<CommandSpec> {
        let command = CommandSpec::new(&self.program)
            .arg(format!("--defaults-file={}", self.login.path()))
            .args(["--backup", "--stream=xbstream"])
            .arg(format!("--datadir={}", self.data_dir))
            // Nothing is written there but temporary files.
            .arg("--target-dir=/tmp")
            .env(BackupJob::MARK, &job.id)
            .timeout(ENDING);
        let command = match &job.parent {
            Some(parent) => {
                let lsn = parent.metadata.get("lsn").filter(|lsn| !lsn.is_empty() && lsn.bytes().all(|byte| byte.is_ascii_digit()));
                let lsn = lsn.ok_or_else(|| {
                    Error::bad_request(format!(
                        "there is no LSN with the parent backup {}: an incremental backup cannot build on it",
                        parent.location
                    ))
                })?;
                command.arg(format!("--incremental-lsn={lsn}"))
            }
            None if self.incremental => return Err(Error::bad_request("an incremental backup needs a parent")),
            None => command,
        };
        Ok(command.args(&job.extra_options))
    }
}

#[async_trait]
impl BackupRunner for HotBackup {
    fn name(&self) -> &'static str {
        self.tool.class(self.incremental)
    }

    fn extension(&self) -> &'static str {
        ".xbstream"
    }

    async fn start(&self, op: &Op, job: &BackupJob) -> Result<BackupStream> {
        let command = self.command(job)?;
        let mut running = self.login.service().spawn(op, command.in_background()).await?.guarded_by(Arc::clone(&self.login));
        drop(running.take_stdin());
        let Some(output) = running.take_stdout() else { return Err(Error::guest("the backup tool has no output")) };
        let op = op.clone();
        let parent = job.parent.clone();
        let finish = async move {
            let log = running.finish(&op).await?.stderr;
            hot_log::completed(&log)?;
            let mut metadata = hot_log::metadata(&log)?;
            if let Some(parent) = parent {
                metadata.insert("parent_location".to_owned(), parent.location);
                metadata.insert("parent_checksum".to_owned(), parent.checksum);
            }
            Ok(metadata)
        };
        Ok(BackupStream { reader: Box::pin(output), finish: Box::pin(finish) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackupMetadata;
    use crate::strategies::backup::Parent;
    use crate::system::command::SystemCommands;
    use crate::system::service::{ServerCommand, build};

    fn backup(tool: HotTool, incremental: bool) -> HotBackup {
        let text = "[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\ntransport_url = rabbit://u:p@127.0.0.1/\n";
        let settings = crate::config::Settings::from_text("guest.conf", text).unwrap();
        let service = build(&settings, &["mysql"], ServerCommand::default(), Arc::new(SystemCommands));
        let login = Arc::new(ToolLogin::of_file(service, "/state/os_admin.cnf".into()));
        HotBackup { tool, program: tool.programs()[0].to_owned(), login, data_dir: "/data".into(), incremental }
    }

    fn job(lsn: Option<&str>) -> BackupJob {
        let metadata = lsn.map(|lsn| BackupMetadata::from([("lsn".to_owned(), lsn.to_owned())])).unwrap_or_default();
        let parent = lsn.map(|_| Parent { location: "http://s/c/o".into(), checksum: "c".into(), metadata });
        BackupJob { id: "b".into(), parent, extra_options: vec!["--parallel=2".into()] }
    }

    /// xtrabackup itself cannot be had on the machines these tests run on: its argument vector is all that is checked of it.
    #[test]
    fn xtrabackup_is_given_these_arguments_which_no_real_one_has_seen() {
        let full = backup(HotTool::XtraBackup, false).command(&job(None)).unwrap();
        let start =
            ["xtrabackup", "--defaults-file=/state/os_admin.cnf", "--backup", "--stream=xbstream", "--datadir=/data", "--target-dir=/tmp"];
        assert_eq!(full.argv(), [&start[..], &["--parallel=2"]].concat());
        let next = backup(HotTool::XtraBackup, true).command(&job(Some("4711"))).unwrap();
        assert_eq!(next.argv(), [&start[..], &["--incremental-lsn=4711", "--parallel=2"]].concat());
    }

    #[test]
    fn a_parent_without_lsn_is_refused() {
        let incremental = backup(HotTool::MariaBackup, true);
        assert!(incremental.command(&job(Some("47; rm"))).unwrap_err().to_string().contains("no LSN"));
        assert!(incremental.command(&job(None)).is_err());
        assert_eq!((incremental.name(), backup(HotTool::XtraBackup, false).name()), ("MariaBackupIncremental", "InnoBackupEx"));
    }
}
