//! A server of MySQL's family, spoken to: sessions over its socket, statements that quote and hide what they must, and what
//! follows from its version. Managers and strategies share it.

pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod flavor;
pub(crate) mod quote;

pub use client::{Client, Login, Session};
pub use credentials::OS_ADMIN;
pub use flavor::{Flavor, Kind, Version};
pub use quote::{Account, Ident, Literal, SqlText};
