//! [`MySqlDump`]: all databases as statements.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::dumped::dumped;
use crate::error::{Error, Result};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::backup::{BackupJob, BackupRunner, BackupStream, ToolLogin};
use crate::system::command::{CommandOutput, CommandSpec};

/// What the tool may still do after the end of its output.
const ENDING: Duration = Duration::from_secs(60);
/// The last line of a whole dump; a date may follow.
const COMPLETED: &str = "-- Dump completed";

/// `mysqldump`, or `mariadb-dump`.
#[derive(Debug)]
pub struct MySqlDump {
    /// The program.
    pub program: &'static str,
    /// How it logs in.
    pub login: Arc<ToolLogin>,
    /// The option that writes the source's position into the dump, as a comment; none without a binary log.
    pub position_option: Option<&'static str>,
}

impl MySqlDump {
    fn command(&self, job: &BackupJob) -> CommandSpec {
        CommandSpec::new(self.program)
            .arg(format!("--defaults-file={}", self.login.path()))
            .args(["--all-databases", "--opt", "--single-transaction", "--routines", "--triggers", "--events"])
            .args(self.position_option)
            .args(&job.extra_options)
            // Whatever the others switch off: the last line is how a whole dump is told from half of one.
            .arg("--comments")
            .env(BackupJob::MARK, &job.id)
            .timeout(ENDING)
    }
}

#[async_trait]
impl BackupRunner for MySqlDump {
    fn name(&self) -> &'static str {
        "MySQLDump"
    }

    fn extension(&self) -> &'static str {
        ""
    }

    async fn start(&self, op: &Op, job: &BackupJob) -> Result<BackupStream> {
        if job.parent.is_some() {
            return Err(Error::bad_request("mysqldump makes no incremental backups: set backup_strategy to one that does"));
        }
        let running = self.login.service().spawn(op, self.command(job).in_background()).await?.guarded_by(Arc::clone(&self.login));
        dumped(op, running, |output, dump| {
            judge(output, &dump.tail())?;
            Ok(position(&dump.head()))
        })
    }
}

/// The tool has ended well by its exit status: do its log and its last line say the same?
fn judge(output: &CommandOutput, tail: &str) -> Result<()> {
    let complaint = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["error", "couldn't", "can't"].iter().any(|word| line.contains(word)) && !line.contains("[warning]")
    };
    if let Some(line) = output.stderr.lines().find(complaint) {
        return Err(Error::guest(format!("the dump ended well by its exit status, but it says: {}", line.trim())));
    }
    let last = tail.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    if last.starts_with(COMPLETED) {
        return Ok(());
    }
    Err(Error::guest(format!("the dump does not end with '{COMPLETED}': it is not whole")))
}

/// The source's position, from the comment near the beginning.
fn position(head: &str) -> BackupMetadata {
    let statement = head.lines().find_map(|line| {
        let line = line.trim_start_matches(['-', ' ']);
        (line.starts_with("CHANGE MASTER TO ") || line.starts_with("CHANGE REPLICATION SOURCE TO ")).then_some(line)
    });
    let Some(statement) = statement else { return BackupMetadata::new() };
    let value = |name: &str| {
        let (_, rest) = statement.split_once(name)?;
        let value = rest.trim_start_matches(['=', ' ']).split([',', ';']).next()?.trim().trim_matches('\'');
        (!value.is_empty()).then(|| value.to_owned())
    };
    [("binlog_file", "LOG_FILE"), ("binlog_position", "LOG_POS")]
        .into_iter()
        .filter_map(|(key, name)| Some((key.to_owned(), value(name)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stderr: &str) -> CommandOutput {
        CommandOutput { code: 0, stdout: String::new(), stderr: stderr.to_owned() }
    }

    #[test]
    fn status_log_and_last_line_must_agree() {
        let whole = "INSERT INTO t VALUES (1);\n-- Dump completed on 2026-11-22  1:02:03\n";
        judge(&output("mysqldump: [Warning] A partial dump from a server that has GTIDs; error handling is yours\n"), whole).unwrap();
        judge(&output(""), "-- Dump completed\n").unwrap();
        let complaint = output("mysqldump: Couldn't execute 'SHOW FIELDS FROM `v`': View 'a.v' references invalid table(s) (1356)\n");
        assert!(judge(&complaint, whole).unwrap_err().to_string().contains("Couldn't execute"));
        assert!(judge(&output(""), "INSERT INTO t VALUES ('-- Dump completed');\n").unwrap_err().to_string().contains("not whole"));
        assert!(judge(&output(""), "").is_err());
    }

    #[test]
    fn the_position_is_found_in_either_dialect() {
        let old = "--\n-- CHANGE MASTER TO MASTER_LOG_FILE='mysql-bin.000003', MASTER_LOG_POS=328;\n";
        let new = "-- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000003', SOURCE_LOG_POS=328;\n";
        for (head, file) in [(old, "mysql-bin.000003"), (new, "binlog.000003")] {
            let found = position(head);
            assert_eq!((found["binlog_file"].as_str(), found["binlog_position"].as_str()), (file, "328"));
        }
        assert!(position("-- MySQL dump 10.13\n").is_empty());
    }
}
