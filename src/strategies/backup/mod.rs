//! Backups: the tools that make and take them ([`BackupRunner`], [`RestoreRunner`]) and the stream between tool and storage.

mod download;
mod encode;
mod feed;
pub mod mysql;
mod progress;
mod runner;
mod upload;
mod watched;

pub use download::{Decoding, download};
pub use encode::{Encoding, encode};
pub use feed::feed;
pub use progress::{Progress, ProgressSnapshot};
pub use runner::{BackupJob, BackupRunner, BackupStream, Parent, RestoreRunner, RestoreStep};
pub use upload::{Limits, Retry, Uploaded, discard, upload};
