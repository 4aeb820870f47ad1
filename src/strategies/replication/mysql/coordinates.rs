//! [`Coordinates`]: a place in a server's binary log, and what a backup noted of it.

use std::fmt;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::system::files;

/// Where physical backups of the family note their place, best first (mariabackup from 11.1; before it, and xtrabackup).
pub(super) const INFO_FILES: &[&str] = &["mariadb_backup_binlog_info", "xtrabackup_binlog_info"];
/// Bits of [`Coordinates::ordinal`] for the place within a file.
const PLACE_BITS: u32 = 40;

/// A file of the binary log and a place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Coordinates {
    pub(super) file: String,
    pub(super) place: u64,
}

impl Coordinates {
    /// Reads `file:place`.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn parse(text: &str) -> Result<Coordinates> {
        let parsed =
            text.trim().rsplit_once(':').and_then(|(file, place)| Some(Coordinates { file: file.to_owned(), place: place.parse().ok()? }));
        parsed
            .filter(|found| found.number().is_some())
            .ok_or_else(|| Error::invalid(format!("'{}' is not a place in a binary log", text.escape_debug())))
    }

    /// The file's number: `mysql-bin.000017` is 17.
    fn number(&self) -> Option<u64> {
        self.file.rsplit_once('.')?.1.parse().ok()
    }

    /// A number that grows with the log. Only those of one server can be compared.
    pub(super) fn ordinal(&self) -> u64 {
        (self.number().unwrap_or_default() << PLACE_BITS) | self.place.min((1 << PLACE_BITS) - 1)
    }
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.place)
    }
}

/// What a backup noted of its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BackupPlace {
    /// In the binary log, if it was on.
    pub(super) coordinates: Option<Coordinates>,
    /// In GTIDs, if there were any.
    pub(super) gtid: Option<String>,
}

impl BackupPlace {
    /// Reads the note in a restored data directory; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(data_dir: &Utf8Path) -> Result<Option<BackupPlace>> {
        for name in INFO_FILES {
            if let Some(text) = files::read_optional(&data_dir.join(name))? {
                return Ok(Some(BackupPlace::parse(&text)));
            }
        }
        Ok(None)
    }

    /// `file<TAB>place[<TAB>GTIDs]`; the GTIDs of many servers are on several lines.
    fn parse(text: &str) -> BackupPlace {
        let mut words = text.split_whitespace();
        let (file, place) = (words.next().unwrap_or_default(), words.next().and_then(|text| text.parse().ok()));
        let gtid: String = words.collect();
        BackupPlace {
            coordinates: place.filter(|_| !file.is_empty()).map(|place| Coordinates { file: file.to_owned(), place }),
            gtid: Some(gtid).filter(|gtid| !gtid.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_ordered() {
        let place = |text| Coordinates::parse(text).unwrap();
        assert_eq!(place("mysql-bin.000017:4").to_string(), "mysql-bin.000017:4");
        assert!(place("b.000002:4").ordinal() > place("b.000001:4294967296").ordinal());
        assert!(place("b.000002:5").ordinal() > place("b.000002:4").ordinal());
        for bad in ["", "x", "x:1", "b.000001:", "b.000001:-4", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"] {
            assert!(Coordinates::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_note_of_a_backup_may_have_many_lines() {
        let many = BackupPlace::parse(
            "mysql-bin.000003\t157\t3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,\n4d2b1c30-71ca-11e1-9e33-c80aa9429562:1-3\n",
        );
        assert_eq!(many.coordinates.unwrap().to_string(), "mysql-bin.000003:157");
        assert_eq!(many.gtid.unwrap(), "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,4d2b1c30-71ca-11e1-9e33-c80aa9429562:1-3");
        let maria = BackupPlace::parse("mariadb-bin.000001\t328\t0-1-5\n");
        assert_eq!(maria.gtid.as_deref(), Some("0-1-5"));
        let plain = BackupPlace::parse("mysql-bin.000003 157\n");
        assert!(plain.gtid.is_none() && plain.coordinates.is_some());
        assert_eq!(BackupPlace::parse(""), BackupPlace::default());
    }

    #[test]
    fn the_newer_note_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap();
        assert!(BackupPlace::read(path).unwrap().is_none());
        std::fs::write(path.join("xtrabackup_binlog_info"), "b.000001\t4\t0-1-1").unwrap();
        std::fs::write(path.join("mariadb_backup_binlog_info"), "b.000001\t9\t0-1-2").unwrap();
        assert_eq!(BackupPlace::read(path).unwrap().unwrap().gtid.as_deref(), Some("0-1-2"));
    }
}
