//! [`SnapshotPlace`]: where a database is that is held still for a snapshot of its volume.

use camino::{Utf8Path, Utf8PathBuf};
use mysql_async::Row;
use serde::Serialize;

use super::coordinates::INFO_FILES;
use super::dialect::Dialect;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::files;
use crate::system::mysql::{Session, SqlText};

/// Column of `SHOW BINARY LOG STATUS` with MySQL's GTIDs.
const EXECUTED: usize = 4;

/// The end of the binary log, in the names of `pre_create_backup`'s answer (trove/guestagent/datastore/mysql/manager.py of 2026.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotPlace {
    log_file: String,
    log_position: u64,
    log_executed_gtid_set: String,
}

impl SnapshotPlace {
    /// Asks the server; `None` when it writes no binary log.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn of(op: &Op, session: &mut Session<'_>) -> Result<Option<SnapshotPlace>> {
        let dialect = Dialect(session.flavor());
        let rows: Vec<Row> = session.rows(op, "look where the binary log ends", &dialect.show_log_end()).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let place = row.get_opt(0).and_then(std::result::Result::ok).zip(row.get_opt(1).and_then(std::result::Result::ok));
        let (log_file, log_position) =
            place.ok_or_else(|| Error::guest("the server tells its place in the binary log in a way nobody knows"))?;
        let gtid = if dialect.has_gtid_positions() {
            let sql = SqlText::new("SELECT CONVERT(@@GLOBAL.gtid_current_pos USING utf8mb4)");
            session.rows::<Option<String>>(op, "read the variable gtid_current_pos", &sql).await?.pop().flatten()
        } else {
            row.get_opt::<String, _>(EXECUTED).and_then(std::result::Result::ok)
        };
        Ok(Some(SnapshotPlace { log_file, log_position, log_executed_gtid_set: gtid.unwrap_or_default() }))
    }

    /// Notes a place with the data, as a physical backup does; what an earlier backup noted there is not true of a snapshot.
    /// Returns the note, which is to be the server's.
    ///
    /// # Errors
    /// The file system refused.
    pub fn note(place: Option<&SnapshotPlace>, data_dir: &Utf8Path) -> Result<Option<Utf8PathBuf>> {
        for name in INFO_FILES {
            files::remove(&data_dir.join(name))?;
        }
        let Some(SnapshotPlace { log_file, log_position, log_executed_gtid_set }) = place else { return Ok(None) };
        let text = format!("{log_file}\t{log_position}\t{log_executed_gtid_set}\n");
        let note = data_dir.join(INFO_FILES[INFO_FILES.len() - 1]);
        files::write_atomic(&note, text.as_bytes(), 0o640, None)?;
        Ok(Some(note))
    }
}
