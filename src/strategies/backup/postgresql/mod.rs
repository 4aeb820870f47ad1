//! PostgreSQL's tools: `pg_basebackup` and `pg_dumpall`.

mod archive;
mod base;
mod base_facts;
mod dump;
mod incremental;
mod kept_log;
mod names;
mod replay;
mod tools;
mod usage;
mod wal;
mod wal_hold;
mod wal_range;

pub use archive::ArchiveCheck;
pub use base::PgBaseBackup;
pub use dump::PgDump;
pub use incremental::PgBaseBackupIncremental;
pub use names::Strategy;
pub use replay::Replay;
pub use tools::Tools;
pub use usage::PostgreSqlUsage;
pub use wal_range::Replayed;

/// Key, in what is kept with a backup, of the instance that made it.
const INSTANCE: &str = "instance";
