//! What a base backup says of itself: in `backup_label`, the first file of its archive, and in the tool's log.

use crate::error::{Error, Result};
use crate::model::BackupMetadata;

/// The rest of the line after `label`.
fn line<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.split_once(label)?.1.lines().next().map(str::trim).filter(|value| !value.is_empty())
}

/// A position in the log: `1A/2B000028`.
fn position(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from(u32::from_str_radix(high, 16).ok()?) << 32 | u64::from(u32::from_str_radix(low, 16).ok()?))
}

/// Name of the file of the log that ends with `end`, or has it in it (src/include/access/xlog_internal.h: `XLByteToPrevSeg`, `XLogFileName`).
fn file_name(timeline: u32, end: u64, segment_size: u64) -> Option<String> {
    let segment = end.checked_sub(1)?.checked_div(segment_size)?;
    let per_id = (1_u64 << 32).checked_div(segment_size)?;
    Some(format!("{timeline:08X}{:08X}{:08X}", segment.checked_div(per_id)?, segment.checked_rem(per_id)?))
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
    let stop_file =
        position(stop_segment).and_then(|end| file_name(timeline, end, segment_size)).ok_or_else(|| missing("where its log ends"))?;
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
        assert_eq!(file_name(1, 0x1_0000_0001, 1 << 30).unwrap(), "000000010000000100000000");
        assert!(metadata("", LOG, 16 << 20).is_err() && metadata(HEAD, "", 16 << 20).is_err() && metadata(HEAD, LOG, 0).is_err());
        assert!(completed("pg_basebackup: removing contents of data directory\n").is_err() && completed("").is_err());
    }
}
