//! The data volume: format, mount, fstab, unmount, migrate, resize, statistics.
//!
//! Knows block devices and file systems, nothing of datastores. Devices are told apart by their number, never by text, and a
//! device that holds anything is never formatted.

mod aside;
mod content;
mod device;
mod frozen;
mod fstab;
mod holders;
mod identity;
mod migrate;
mod missing;
mod mounts;
mod readahead;
mod release;
mod resize;
mod stats;

pub use aside::clear_left_over;
pub use content::FileSystem;
pub use device::{Existing, Formatted, Volume};
pub use frozen::Freezer;
pub use fstab::FstabEntry;
pub use missing::is_missing;
pub use stats::{FilesystemStats, filesystem_stats};
