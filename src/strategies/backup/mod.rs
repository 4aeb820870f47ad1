//! Backups: the tools that make and take them ([`BackupRunner`], [`RestoreRunner`]) and the stream between tool and storage.

mod runner;

pub use runner::{BackupJob, BackupRunner, BackupStream, Parent, RestoreRunner, RestoreStep};
