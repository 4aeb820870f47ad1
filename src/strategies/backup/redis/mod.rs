//! Backups of Redis and Valkey: RDB files.

mod checksum;
mod files;
mod header;
mod runner;
mod usage;

pub use files::RdbFile;
pub use header::RdbHeader;
pub use runner::{KIND, RedisBackup};
pub use usage::RedisUsage;
