//! What is remembered of a published log: in the store, for every reader, and on this guest, for the time between two requests to the store.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::error::{Error, Result};
use crate::system::files;

/// The metafile. Keys of Trove's agents, which read it, too; and one of our own, which they ignore.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Metafile {
    #[serde(default)]
    pub(super) log_name: String,
    #[serde(default)]
    pub(super) log_type: String,
    #[serde(default)]
    pub(super) log_file: String,
    /// Bytes that are stored.
    pub(super) log_size: u64,
    /// MD5 of the first line.
    #[serde(default)]
    pub(super) log_header_digest: String,
    /// MD5 of the last bytes that are stored; a Python agent has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log_tail_digest: Option<String>,
}

/// The piece that was stored last, or that a crash kept from being: its name is taken again for what begins at the same place, so that no piece
/// is stored twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Last part of the object's name.
    pub(super) piece: String,
    /// Where in the log it begins.
    pub(super) offset: u64,
}

/// Where the record of a log is.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: Utf8PathBuf,
}

impl RecordFile {
    pub(super) fn new(settings: &Settings, log: &str) -> Self {
        RecordFile { path: settings.state_dir.join("logs").join(format!("{log}.json")) }
    }

    /// One that cannot be read is of no use, and of no harm beyond a piece that may be there twice.
    pub(super) fn read(&self) -> Result<Option<Record>> {
        let text = files::read_optional(&self.path)?;
        Ok(text.and_then(|text| {
            serde_json::from_str(&text).inspect_err(|error| tracing::warn!(path = %self.path, %error, "a record is not readable")).ok()
        }))
    }

    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|error| Error::guest(format!("cannot write {}: {error}", self.path)))?;
        if let Some(directory) = self.path.parent() {
            files::ensure_directory(directory, 0o700, None)?;
        }
        files::write_atomic(&self.path, &text, 0o600, None)
    }

    pub(super) fn remove(&self) -> Result<()> {
        files::remove(&self.path)
    }
}
