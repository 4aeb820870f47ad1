//! [`Host`]: what the strategy needs of the guest it runs on.

use std::fmt;

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::Value;

use crate::error::Result;
use crate::model::{Overrides, SourceTls};
use crate::op::Op;
use crate::system::redis::Client;

/// A part an instance plays, and what of its configuration goes with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Others follow it.
    Source,
    /// It follows another one.
    Replica,
    /// Nobody may write to it.
    ReadOnly,
}

/// The guest.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// Sessions with the server.
    fn client(&self) -> &Client;

    /// The address other guests reach this one at.
    ///
    /// # Errors
    /// The guest has no network.
    fn address(&self) -> Result<String>;

    /// The server's port: the one for TLS, where it has no other.
    ///
    /// # Errors
    /// The configuration cannot be read.
    fn port(&self) -> Result<u16>;

    /// What the server offers replicas, which have no other way in than TLS; `None` when they have.
    ///
    /// # Errors
    /// The configuration, or a file that it names, cannot be read.
    fn tls(&self) -> Result<Option<SourceTls>>;

    /// The directives of a replica whose source lets nobody in without TLS; the authority to verify it with, and a certificate to connect with, are in files then.
    ///
    /// # Errors
    /// This instance's own certificates are of another authority; or a file cannot be written.
    async fn following_over_tls(&self, op: &Op, source: &SourceTls) -> Result<Vec<(&'static str, Value)>>;

    /// What the server wants to hear of those who log in.
    ///
    /// # Errors
    /// The configuration cannot be read.
    fn password(&self) -> Result<Option<SecretString>>;

    /// Whether it has the role.
    ///
    /// # Errors
    /// The configuration cannot be read.
    fn has_role(&self, role: Role) -> Result<bool>;

    /// Puts a role into the configuration and the running server: what is wanted, then what is required.
    ///
    /// # Errors
    /// The server refuses something; the configuration is as it was.
    async fn take_role(&self, op: &Op, role: Role, wanted: Option<&Overrides>, required: &[(&str, Value)]) -> Result<()>;

    /// Takes a role back out of both.
    ///
    /// # Errors
    /// The configuration cannot be written.
    async fn drop_role(&self, op: &Op, role: Role) -> Result<()>;

    /// The end of the server's log, for an error.
    async fn log_tail(&self, op: &Op) -> String;
}
