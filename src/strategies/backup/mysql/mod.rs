//! The MySQL family's tools: `mysqldump` and `mariadb-dump`, `xtrabackup` and `mariadb-backup`.

mod dump;
mod hot;
mod hot_log;
mod hot_restore;
mod names;
mod usage;

pub use dump::MySqlDump;
pub use hot::{HotBackup, HotTool};
pub use hot_restore::HotRestore;
pub use names::Strategy;
pub use usage::MySqlUsage;
