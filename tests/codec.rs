//! The codecs of configuration files, against what real files hold and what real programs read.

#![expect(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "codec/files.rs"]
mod files;
#[path = "codec/programs.rs"]
mod programs;
#[path = "codec/support.rs"]
mod support;
