//! Backups of Redis and Valkey: RDB files.

mod files;
mod header;
mod runner;

pub use files::RdbFile;
pub use header::RdbHeader;
pub use runner::{KIND, RedisBackup};
