//! Backups: the tools that make and take them ([`BackupRunner`], [`RestoreRunner`]) and the stream between tool and storage.

mod cipher;
mod content;
mod decode;
mod deflate;
mod digest;
mod download;
mod dumped;
mod encode;
mod feed;
mod inflate;
mod keep;
mod login;
pub mod mongodb;
pub mod mysql;
mod pace;
pub mod postgresql;
pub mod redis;
mod retry;
mod runner;
mod threads;
mod upload;
mod watched;

pub use download::{Decoding, download};
pub use encode::{Encoding, encode};
pub use feed::{feed, unpack};
pub use login::ToolLogin;
pub use pace::{Pace, RateLimits, Usage};
pub(crate) use retry::Failures;
pub use retry::Retry;
pub use runner::{BackupJob, BackupRunner, BackupStream, Parent, RestoreRunner, RestoreStep};
pub use upload::{Limits, Uploaded, discard, upload};
