//! Talking to Redis and Valkey: sessions, and the stream a replica would get.

mod client;
mod request;
mod snapshot;

pub use client::{Access, Client, KeyHolder, Session};
pub use request::Request;
pub use snapshot::{Snapshot, snapshot};
