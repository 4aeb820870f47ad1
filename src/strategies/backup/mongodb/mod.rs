//! Backups of MongoDB: archives as `mongodump` makes them, by that program or through the driver.

pub mod archive;
mod catalog;
mod directory;
mod dump;
mod indexes;
mod load;
mod names;
mod oplog;
mod replay;
mod tools;
mod usage;

pub use directory::{DirectoryLoad, look};
pub use dump::DriverDump;
pub use load::Loader;
pub use names::{KIND, is_known};
pub use tools::{DUMP, RESTORE, ToolDump, ToolLoad};
pub use usage::MongoDbUsage;
