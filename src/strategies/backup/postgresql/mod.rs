//! PostgreSQL's tools: `pg_basebackup` and `pg_dumpall`.

mod archive;
mod base;
mod base_facts;
mod dump;
mod names;
mod replay;
mod tools;
mod usage;
mod wal_hold;

pub use archive::ArchiveCheck;
pub use base::PgBaseBackup;
pub use dump::PgDump;
pub use names::Strategy;
pub use replay::Replay;
pub use tools::Tools;
pub use usage::PostgreSqlUsage;
