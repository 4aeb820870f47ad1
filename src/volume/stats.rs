//! The answer to `get_filesystem_stats`.

use camino::Utf8Path;
use nix::sys::statvfs::statvfs;
use serde::Serialize;

use crate::error::{Error, Result};

/// Space on a file system. The mixture of units is part of Trove's interface
/// (trove/guestagent/dbaas.py: `get_filesystem_volume_stats`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilesystemStats {
    /// Bytes per block.
    pub block_size: u64,
    /// Blocks in all.
    pub total_blocks: u64,
    /// Free blocks, those kept for root included.
    pub free_blocks: u64,
    /// Free blocks for everybody.
    pub avail_blocks: u64,
    /// Size, GiB.
    pub total: f64,
    /// Free space, bytes.
    pub free: u64,
    /// Used space, GiB.
    pub used: f64,
}

impl FilesystemStats {
    /// Size, bytes.
    pub fn size(&self) -> u64 {
        self.total_blocks.saturating_mul(self.block_size)
    }

    /// What is used, bytes.
    pub fn occupied(&self) -> u64 {
        self.total_blocks.saturating_sub(self.free_blocks).saturating_mul(self.block_size)
    }

    /// What is free for everybody, bytes.
    pub fn available(&self) -> u64 {
        self.avail_blocks.saturating_mul(self.block_size)
    }
}

/// GiB with two decimals, rounded as Python rounds: what is there is never shown as nothing.
fn gib(bytes: u64) -> f64 {
    if bytes == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "two decimals are kept")]
    let exact = bytes as f64 / f64::from(1 << 30);
    // Decimal rounding of the exact binary value, half to even: what Python's round() does.
    format!("{exact:.2}").parse().unwrap_or(exact).max(0.01)
}

/// Space on the file system `path` is on.
///
/// # Errors
/// `Filesystem not found (PATH)`, Trove's words.
pub fn filesystem_stats(path: &Utf8Path) -> Result<FilesystemStats> {
    let stats = statvfs(path.as_std_path()).map_err(|errno| Error::guest(format!("Filesystem not found ({path}): {errno}")))?;
    let block_size = stats.block_size();
    let bytes = |blocks: u64| blocks.saturating_mul(block_size);
    Ok(FilesystemStats {
        block_size,
        total_blocks: stats.blocks(),
        free_blocks: stats.blocks_free(),
        avail_blocks: stats.blocks_available(),
        total: gib(bytes(stats.blocks())),
        free: bytes(stats.blocks_free()),
        used: gib(bytes(stats.blocks().saturating_sub(stats.blocks_free()))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the very number goes on the wire")]
    fn gigabytes_as_python_rounds_them() {
        assert_eq!(gib(0), 0.0);
        assert_eq!(gib(1), 0.01);
        assert_eq!(gib(1 << 30), 1.0);
        // 0.125 is a tie: Python gives 0.12; 0.375 gives 0.38.
        assert_eq!(gib(1 << 27), 0.12);
        assert_eq!(gib(3 << 27), 0.38);
        assert_eq!(gib(1_500_000_000), 1.4);
    }

    #[test]
    fn a_path_that_is_not_there() {
        let error = filesystem_stats(Utf8Path::new("/no/such")).unwrap_err();
        assert!(error.to_string().starts_with("Filesystem not found (/no/such)"), "{error}");
    }

    #[test]
    fn keys_on_the_wire() {
        let stats = serde_json::to_value(filesystem_stats(Utf8Path::new("/")).unwrap()).unwrap();
        let keys: Vec<&String> = stats.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["avail_blocks", "block_size", "free", "free_blocks", "total", "total_blocks", "used"]);
    }
}
