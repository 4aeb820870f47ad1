//! [`PgDump`]: all databases, and the roles, as statements.

use async_trait::async_trait;

use super::super::dumped::dumped;
use super::Tools;
use crate::error::{Error, Result};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::backup::{BackupJob, BackupRunner, BackupStream};
use crate::system::command::{CommandOutput, CommandSpec};

/// The last words of a whole dump.
const COMPLETED: &str = "-- PostgreSQL database cluster dump complete";

/// `pg_dumpall`.
#[derive(Debug)]
pub struct PgDump {
    /// The programs.
    pub tools: Tools,
}

impl PgDump {
    fn command(&self, job: &BackupJob) -> CommandSpec {
        // Somebody may hold a table for hours: a backup that waits for that is none.
        self.tools.command("pg_dumpall", job).arg("--lock-wait-timeout=600s").args(&job.extra_options)
    }
}

#[async_trait]
impl BackupRunner for PgDump {
    fn name(&self) -> &'static str {
        "PgDump"
    }

    fn extension(&self) -> &'static str {
        ""
    }

    async fn start(&self, op: &Op, job: &BackupJob) -> Result<BackupStream> {
        if job.parent.is_some() {
            return Err(Error::bad_request("pg_dumpall makes no incremental backups: ask for a full one"));
        }
        let login = &self.tools.login;
        let running = login.service().spawn(op, self.command(job)).await?.guarded_by(std::sync::Arc::clone(login));
        dumped(op, running, |output, dump| {
            judge(output, &dump.tail())?;
            Ok(BackupMetadata::new())
        })
    }
}

/// The tool has ended well by its exit status: do its log and its last line say the same?
fn judge(output: &CommandOutput, tail: &str) -> Result<()> {
    if let Some(line) = output.stderr.lines().find(|line| line.contains(": error: ")) {
        return Err(Error::guest(format!("the dump ended well by its exit status, but it says: {}", line.trim())));
    }
    let is_said = |line: &&str| !line.is_empty() && *line != "--" && !line.starts_with("\\unrestrict");
    if tail.lines().map(str::trim).rfind(is_said) == Some(COMPLETED) {
        return Ok(());
    }
    Err(Error::guest(format!("the dump does not end with '{COMPLETED}': it is not whole")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stderr: &str) -> CommandOutput {
        CommandOutput { code: 0, stdout: String::new(), stderr: stderr.to_owned() }
    }

    #[test]
    fn status_log_and_last_line_must_agree() {
        let whole = "\\unrestrict x\n\n--\n-- PostgreSQL database cluster dump complete\n--\n\n";
        let warning = "pg_dump: warning: there are circular foreign-key constraints on this table:\npg_dump: detail: t\n";
        judge(&output(warning), whole).unwrap();
        let complaint = output("pg_dump: error: query failed: ERROR:  invalid page in block 0 of relation base/5/16384\n");
        assert!(judge(&complaint, whole).unwrap_err().to_string().contains("invalid page"));
        for half in ["", "1\tPostgreSQL database cluster dump complete\n", "--\n-- PostgreSQL database dump complete\n--\n"] {
            assert!(judge(&output(""), half).unwrap_err().to_string().contains("not whole"), "{half}");
        }
    }
}
