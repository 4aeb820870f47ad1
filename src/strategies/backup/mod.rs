//! Backups: the tools that make and take them ([`BackupRunner`], [`RestoreRunner`]) and the stream between tool and storage.

mod feed;
pub mod mysql;
mod runner;
mod watched;

pub use feed::feed;
pub use runner::{BackupJob, BackupRunner, BackupStream, Parent, RestoreRunner, RestoreStep};
