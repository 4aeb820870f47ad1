//! TLS between clients and the database: `ssl_show`, `ssl_action`, `ssl_rollback`. What is the same for every datastore is here; a datastore has a
//! [`ClientTls`].

mod details;
pub mod flow;
mod material;
mod server;
mod store;

pub use material::{Container, Material};
pub use server::ClientTls;
pub use store::{Offer, Record, State, TlsFiles, TlsStore};
