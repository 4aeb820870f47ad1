//! What a base backup says of itself: in `backup_label`, the first file of its archive, and in the tool's log.

use super::wal;
use crate::error::{Error, Result};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::system::postgresql::{Session, SqlText};

/// The rest of the line after `label`.
fn line<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.split_once(label)?.1.lines().next().map(str::trim).filter(|value| !value.is_empty())
}

/// How big a file of the log is, bytes.
pub(super) async fn segment_size(op: &Op, session: &Session<'_>) -> Result<u64> {
    let sql = SqlText::new("SELECT pg_size_bytes(current_setting('wal_segment_size'))");
    let sizes = session.texts(op, "ask how big a file of the log is", &sql).await?;
    let size = sizes.first().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
    size.ok_or_else(|| Error::guest("the server does not say how big a file of its log is"))
}

/// Name of the file of the log that a base backup begins in, as its label has it.
pub(super) fn start_file(label: &str) -> Option<&str> {
    line(label, "START WAL LOCATION: ")?.strip_suffix(')')?.split_once(" (file ").map(|(_, file)| file)
}

/// Where a backup ends in the log.
pub(super) fn stop(metadata: &BackupMetadata) -> Option<u64> {
    wal::position(metadata.get("stop_segment")?)
}

/// What Trove keeps of a base backup (trove/guestagent/strategies/backup/experimental/postgresql_impl.py: `PgBaseBackupUtil`), from the beginning of the archive and
/// the tool's log.
///
/// # Errors
/// One of them does not say what every base backup does: it is none.
pub(super) fn metadata(head: &str, log: &str, segment_size: u64) -> Result<BackupMetadata> {
    let missing = |what: &str| Error::guest(format!("pg_basebackup ended well by its exit status, but does not say {what}"));
    let start = line(head, "START WAL LOCATION: ").and_then(|line| line.strip_suffix(')')?.split_once(" (file "));
    let (start_segment, start_file) = start.ok_or_else(|| missing("where its log begins"))?;
    let checkpoint = line(head, "CHECKPOINT LOCATION: ").ok_or_else(|| missing("which checkpoint it begins with"))?;
    let label = line(head, "\nLABEL: ").ok_or_else(|| missing("its label"))?;
    let timeline = start_file.get(..8).and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or_else(|| missing("its timeline"))?;
    let stop = line(log, "write-ahead log end point: ").and_then(|line| line.split_whitespace().next());
    let stop_segment = stop.ok_or_else(|| missing("where its log ends"))?;
    // The file that ends there, or has it in it (`XLByteToPrevSeg`).
    let stop_file = wal::position(stop_segment)
        .and_then(|end| wal::file_name(timeline, end.checked_sub(1)?.checked_div(segment_size)?, segment_size))
        .ok_or_else(|| missing("where its log ends"))?;
    let facts = [
        ("start_segment", start_segment),
        ("start_wal_file", start_file),
        ("stop_segment", stop_segment),
        ("stop_wal_file", &stop_file),
        ("checkpoint_location", checkpoint),
        ("label", label),
    ];
    Ok(facts.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// The log's last word.
///
/// # Errors
/// It is another one.
pub(super) fn completed(log: &str) -> Result<()> {
    match log.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        Some(last) if last.ends_with("base backup completed") => Ok(()),
        last => {
            Err(Error::guest(format!("pg_basebackup ended well by its exit status, but says at its end: {}", last.unwrap_or_default())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "backup_label\0\0ustar\0START WAL LOCATION: 1/FE000028 (file 0000000200000001000000FE)\nCHECKPOINT LOCATION: 1/FE000060\n\
        BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-25 18:00:00 UTC\nLABEL: 4f0c\nSTART TIMELINE: 2\n\0\0";
    const LOG: &str = "pg_basebackup: initiating base backup, waiting for checkpoint to complete\npg_basebackup: checkpoint completed\n\
        pg_basebackup: write-ahead log start point: 1/FE000028 on timeline 2\npg_basebackup: write-ahead log end point: 2/0\n\
        pg_basebackup: base backup completed\n";

    #[test]
    fn label_and_log_tell_where_it_begins_and_ends() {
        completed(LOG).unwrap();
        let found = metadata(HEAD, LOG, 16 << 20).unwrap();
        let wanted = [
            ("checkpoint_location", "1/FE000060"),
            ("label", "4f0c"),
            ("start_segment", "1/FE000028"),
            ("start_wal_file", "0000000200000001000000FE"),
            ("stop_segment", "2/0"),
            ("stop_wal_file", "0000000200000001000000FF"),
        ];
        assert_eq!(found, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(stop(&found), Some(2 << 32));
        assert!(metadata("", LOG, 16 << 20).is_err() && metadata(HEAD, "", 16 << 20).is_err() && metadata(HEAD, LOG, 0).is_err());
        assert!(completed("pg_basebackup: removing contents of data directory\n").is_err() && completed("").is_err());
    }
}
