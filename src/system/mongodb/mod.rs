//! Talking to MongoDB: sessions, the agent's credentials, and what one version of the server does differently from another.

mod client;
pub mod credentials;
mod cursor;
mod flavor;

pub use client::{Access, Address, Client, KeyHolder, Login, Session};
pub use credentials::OS_ADMIN;
pub use flavor::{Flavor, Kind};
