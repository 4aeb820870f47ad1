//! Files in which strategies remember what no server does, in the agent's own directory. They hold passwords: for root's eyes alone, and never quoted.

use camino::Utf8Path;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::system::files;

/// What was remembered; nothing, when there is no file.
///
/// # Errors
/// The file cannot be read.
pub(super) fn load<T: DeserializeOwned + Default>(path: &Utf8Path) -> Result<T> {
    let Some(text) = files::read_optional(path)? else { return Ok(T::default()) };
    // The parser's words may quote the file, which holds a password.
    serde_json::from_str(&text)
        .map_err(|_| Error::guest(format!("{path} is not readable any more: remove it, and attach the replicas again")))
}

/// Writes it down.
///
/// # Errors
/// The file cannot be written; the old one is still there.
pub(super) fn save(path: &Utf8Path, memory: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(memory).map_err(|error| Error::guest(format!("failed to write {path}: {error}")))?;
    files::write_atomic(path, text.as_bytes(), 0o600, None)
}
