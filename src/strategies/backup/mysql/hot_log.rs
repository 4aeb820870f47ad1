//! What `xtrabackup` and `mariadb-backup` say of a backup in their logs.

use crate::error::{Error, Result};
use crate::model::BackupMetadata;

/// The last line of a run that succeeded ends with this.
const COMPLETED: &str = "completed OK!";

/// The last line decides, as well as the exit status.
///
/// # Errors
/// It says something else.
pub(super) fn completed(log: &str) -> Result<()> {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.last().is_some_and(|line| line.ends_with(COMPLETED)) {
        return Ok(());
    }
    let end = lines[lines.len().saturating_sub(6)..].join("; ");
    Err(Error::guest(format!("the backup tool's log does not end with '{COMPLETED}': {end}")))
}

/// The value between quotes after `label`, at its last place.
fn quoted<'a>(log: &'a str, label: &str) -> Option<&'a str> {
    let (_, rest) = log.rsplit_once(label)?;
    rest.split('\'').nth(1)
}

/// What an incremental backup on top of this one needs (`lsn`), and what a replica of it does.
///
/// # Errors
/// There is no LSN in the log.
pub(super) fn metadata(log: &str) -> Result<BackupMetadata> {
    let lsn = quoted(log, "The latest check point (for incremental):")
        .filter(|lsn| !lsn.is_empty() && lsn.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| Error::guest("the backup tool's log does not say up to which LSN it has copied"))?;
    let mut found = BackupMetadata::from([("lsn".to_owned(), lsn.to_owned())]);
    if let Some((_, line)) = log.rsplit_once("binlog position:") {
        let line = line.lines().next().unwrap_or_default();
        let labels = [("binlog_file", "filename"), ("binlog_position", "position"), ("gtid", "GTID of the last change")];
        for (key, label) in labels {
            if let Some(value) = quoted(line, label).filter(|value| !value.is_empty()) {
                found.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARIADB: &str = "[00] 2026-11-22 22:01:00 MySQL binlog position: filename 'mysqld-bin.000003', position '1348', GTID of the last change '0-1-7'\n\
        mariabackup: The latest check point (for incremental): '47258'\n[00] 2026-11-22 22:01:01 completed OK!\n";
    const XTRABACKUP_80: &str = "2026-11-22T22:01:00.1-00:00 0 [Note] [MY-011825] [Xtrabackup] MySQL binlog position: filename 'binlog.000002', position '157'\n\
        2026-11-22T22:01:00.2-00:00 0 [Note] [MY-011825] [Xtrabackup] The latest check point (for incremental): '19475384'\n\
        2026-11-22T22:01:01.3-00:00 0 [Note] [MY-011825] [Xtrabackup] completed OK!\n";
    const INNOBACKUPEX: &str = "xtrabackup: The latest check point (for incremental): '1597945'\ninnobackupex: MySQL binlog position: filename 'b.000001', position 107\n\
        150522 10:01:02  innobackupex: completed OK!\n";

    #[test]
    fn logs_of_every_tool_give_the_lsn() {
        for (log, lsn) in [(MARIADB, "47258"), (XTRABACKUP_80, "19475384"), (INNOBACKUPEX, "1597945")] {
            completed(log).unwrap();
            assert_eq!(metadata(log).unwrap()["lsn"], lsn);
        }
        let found = metadata(MARIADB).unwrap();
        assert_eq!(
            (found["binlog_file"].as_str(), found["binlog_position"].as_str(), found["gtid"].as_str()),
            ("mysqld-bin.000003", "1348", "0-1-7")
        );
    }

    #[test]
    fn a_log_that_ends_otherwise_is_a_failure() {
        let error = completed(&format!("{MARIADB}[00] FATAL ERROR: failed to copy enough redo log\n")).unwrap_err().to_string();
        assert!(error.contains("failed to copy enough redo log"), "{error}");
        assert!(completed("").is_err());
        assert!(metadata("completed OK!").is_err());
    }
}
