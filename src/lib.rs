//! The guest agent of OpenStack Trove, in Rust.
//!
//! Life cycle: `main` reads the injected files into [`config::Settings`], builds a datastore manager, connects to the
//! broker and consumes `guestagent.<guest_id>`. Each request is decoded into a typed value, runs on its lane, and is answered the
//! way oslo.messaging expects. Heartbeats tell the conductor the truth about the database. Docs: `docs/`.

pub mod agent;
pub mod cli;
pub mod codec;
pub mod config;
pub mod ctl;
pub mod error;
#[cfg(test)]
mod generated;
pub mod journal;
pub mod managers;
pub mod model;
pub mod monitor;
pub mod op;
pub mod progress;
pub mod release;
pub mod rpc;
pub mod status;
pub mod strategies;
pub mod system;
pub mod telemetry;
pub mod volume;
mod wait;
pub mod watchdog;

pub use error::{Error, Result};
