//! The data directory, which may be the volume itself.

use camino::Utf8Path;

use crate::error::{Result, ResultExt};
use crate::system::files;

/// Leaves nothing of a database: what is the file system's or the agent's own stays.
///
/// # Errors
/// The file system refused.
pub(super) fn remove(directory: &Utf8Path) -> Result<()> {
    for entry in directory.read_dir_utf8().action(format!("read {directory}"))? {
        let entry = entry.action(format!("read {directory}"))?;
        let path = entry.path();
        if entry.file_name() == "lost+found" || entry.file_name().starts_with(".trove-") {
            continue;
        }
        if path.is_dir() { files::remove_tree(path)? } else { files::remove(path)? }
    }
    Ok(())
}
