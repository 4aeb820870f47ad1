//! A PostgreSQL server, spoken to: sessions over its Unix socket, or with another host over TLS, statements that quote and hide what they must, and the agent's credentials.

mod client;
pub(crate) mod credentials;
mod encryption;
mod lsn;
mod quote;
mod verifier;

pub use client::{Address, Client, Row, Session};
pub use credentials::OS_ADMIN;
pub use encryption::Encryption;
pub use lsn::Lsn;
pub use quote::{Ident, MAX_NAME, SqlText};
pub use verifier::scram_verifier;
