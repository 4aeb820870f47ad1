//! [`ClientTls`]: what a datastore does about TLS.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::store::{Offer, TlsStore};
use crate::config::TlsMode;
use crate::error::Result;
use crate::op::Op;

/// TLS of one server. Every change can be made again: what is done is found done.
#[async_trait]
pub trait ClientTls: Send + Sync {
    /// Where keys and certificates are kept.
    fn store(&self) -> &TlsStore;

    /// The mode the instance was made with, until `ssl_action` sets one.
    fn configured_mode(&self) -> Option<TlsMode>;

    /// The certificates the running server shows its clients, in PEM and without a private key; `None` when it does not speak TLS.
    ///
    /// # Errors
    /// The server does not answer.
    async fn presented(&self, op: &Op) -> Result<Option<String>>;

    /// The running server's own settings of TLS, for the way back to them.
    ///
    /// # Errors
    /// The server does not answer.
    async fn own_settings(&self, op: &Op) -> Result<BTreeMap<String, String>>;

    /// Refuses what this server cannot offer.
    ///
    /// # Errors
    /// It cannot; what to do instead is in the error.
    async fn check(&self, op: &Op, offer: &Offer) -> Result<()>;

    /// Has the server offer this, from its configuration on, and at once where it can. True when it takes a restart. The mode is for servers whose
    /// ports it concerns.
    ///
    /// # Errors
    /// The server refuses; what it was before must be offered again then.
    async fn offer(&self, op: &Op, offer: &Offer, mode: Option<TlsMode>) -> Result<bool>;

    /// Holds the users' accounts to the mode, where there are accounts; those that are made later are, too.
    ///
    /// # Errors
    /// The server refuses.
    async fn hold_accounts_to(&self, op: &Op, mode: Option<TlsMode>) -> Result<()>;
}
