//! [`Replayed`]: the log that a chain of backups brings, from the base backup's beginning to the last one's end.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;

use super::{base_facts, wal};
use crate::error::{Error, Result, ResultExt};
use crate::model::BackupMetadata;

/// What is to be replayed upon a base backup.
#[derive(Debug)]
pub struct Replayed {
    stop: u64,
    text: String,
}

fn damaged(reason: impl Into<String>) -> Error {
    Error::Storage { action: "put the log together".into(), reason: reason.into(), transient: false }
}

impl Replayed {
    /// Up to the end of the backup with these `metadata`.
    ///
    /// # Errors
    /// They do not say where that is.
    pub fn up_to(metadata: &BackupMetadata) -> Result<Replayed> {
        let text = metadata.get("stop_segment").cloned().unwrap_or_default();
        let stop = base_facts::stop(metadata).ok_or_else(|| damaged("the backup's metadata do not say where it ends"))?;
        Ok(Replayed { stop, text })
    }

    /// Makes sure that every segment is in a restored data directory.
    ///
    /// # Errors
    /// One is missing: which one.
    pub fn check(&self, data_dir: &Utf8Path) -> Result<()> {
        let label = std::fs::read_to_string(data_dir.join("backup_label")).action("read the base backup's label")?;
        let first = base_facts::start_file(&label).ok_or_else(|| damaged("the base backup's label does not say where its log begins"))?;
        let directory = data_dir.join("pg_wal");
        let mut sizes = BTreeMap::new();
        for entry in directory.read_dir_utf8().action(format!("list {directory}"))? {
            let entry = entry.action(format!("list {directory}"))?;
            if wal::is_segment(entry.file_name()) {
                sizes.insert(entry.file_name().to_owned(), entry.metadata().action(format!("look at {}", entry.path()))?.len());
            }
        }
        let size = sizes.get(first).copied().filter(|size| *size > 0);
        let size = size.ok_or_else(|| damaged(format!("its segment {first} is missing, or not whole")))?;
        let (mut timeline, begin) = wal::file_place(first, size).ok_or_else(|| damaged(format!("'{first}' is no segment")))?;
        let whole: BTreeMap<u64, BTreeSet<u32>> =
            sizes.iter().filter(|(_, found)| **found == size).fold(BTreeMap::new(), |mut all, (name, _)| {
                if let Some((timeline, segment)) = wal::file_place(name, size) {
                    all.entry(segment).or_default().insert(timeline);
                }
                all
            });
        for segment in begin..=self.stop / size {
            timeline = whole.get(&segment).and_then(BTreeSet::last).copied().ok_or_else(|| wal::missing(timeline, segment, size))?;
        }
        Ok(())
    }

    /// Parameters of a server that recovers it. That it gets so far, or else does not start, is its own business since PostgreSQL 13.
    pub fn parameters(&self) -> [(&'static str, &str); 4] {
        [
            // All of the log is where the server looks next.
            ("restore_command", "false"),
            ("recovery_target_lsn", &self.text),
            ("recovery_target_action", "promote"),
            ("recovery_target_timeline", "latest"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_that_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(directory.path()).unwrap();
        std::fs::create_dir(data.join("pg_wal")).unwrap();
        let label = "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nCHECKPOINT LOCATION: 0/3000060\n";
        std::fs::write(data.join("backup_label"), label).unwrap();
        let segment = |timeline: u32, number: u32| format!("{timeline:08X}{:08X}{number:08X}", 0);
        let file = |name: String| std::fs::File::create(data.join("pg_wal").join(name)).unwrap().set_len(1 << 20).unwrap();
        let metadata = |stop: &str| BackupMetadata::from([("stop_segment".to_owned(), stop.to_owned())]);
        let replayed = Replayed::up_to(&metadata("0/32FFF00")).unwrap();
        // A server whose segments have 1 MiB.
        std::fs::write(data.join("backup_label"), label.replace("0003)", "0030)")).unwrap();
        assert!(replayed.check(data).unwrap_err().to_string().contains("000000010000000000000030 is missing"));
        file(segment(1, 0x30));
        file(segment(2, 0x31));
        assert!(replayed.check(data).unwrap_err().to_string().contains("000000020000000000000032 is missing"));
        file(segment(2, 0x32));
        replayed.check(data).unwrap();
        std::fs::File::create(data.join("pg_wal").join(segment(2, 0x31))).unwrap().set_len(7).unwrap();
        assert!(replayed.check(data).unwrap_err().to_string().contains("000000010000000000000031 is missing"));
        assert!(Replayed::up_to(&metadata("x")).is_err());
    }
}
