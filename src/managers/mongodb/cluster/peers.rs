//! [`Peers`]: how a guest reaches the servers of its cluster.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::super::configuration::{Conf, Configuration};
use super::super::layout::Layout;
use super::hosts::split;
use super::role::has_key;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::files;
use crate::system::mongodb::{Access, Address, Client, Login, Session};

/// Whom servers of one cluster take each other for, with the key as the password (manual, "Internal/Membership Authentication").
const SYSTEM: &str = "__system";
const LOCAL: &str = "local";

/// The cluster's key: what is in its file, without white space, as servers read it.
///
/// # Errors
/// It cannot be read.
pub(super) fn key(layout: &Layout) -> Result<Option<SecretString>> {
    let text = files::read_optional(&layout.key_file())?.map(SecretString::from);
    let key = text.map(|text| SecretString::from(text.expose_secret().split_whitespace().collect::<String>()));
    Ok(key.filter(|key| !key.expose_secret().is_empty()))
}

/// As whom a server of this cluster logs in to another one, and its agent where nobody has told it a password; nobody without a key, and outside of clusters.
///
/// # Errors
/// There is a key, and it cannot be read.
pub(in crate::managers::mongodb) fn cluster_login(layout: &Layout, layers: &Conf) -> Result<Option<Login>> {
    if !has_key(layers) {
        return Ok(None);
    }
    let password =
        key(layout)?.ok_or_else(|| Error::guest(format!("the key of the cluster is gone: there is none in {}", layout.key_file())))?;
    Ok(Some(Login { user: SYSTEM.into(), database: LOCAL.into(), password }))
}

/// The servers of one cluster.
#[derive(Debug)]
pub(super) struct Peers {
    pub(super) configuration: Arc<Configuration>,
}

impl Peers {
    async fn open(&self, op: &Op, address: Address) -> Result<Session> {
        let login = cluster_login(&self.configuration.layout, &self.configuration.read()?)?;
        Client::new(Arc::new(Access { address, login })).session(op).await
    }

    /// This guest's own server, as one of its cluster's.
    ///
    /// # Errors
    /// It does not answer, or the key is not its own.
    pub(super) async fn own(&self, op: &Op) -> Result<Session> {
        let socket = self.configuration.layout.socket(self.configuration.port()?);
        self.open(op, Address::Socket(socket)).await
    }

    /// Another one, by address and port.
    ///
    /// # Errors
    /// Likewise.
    pub(super) async fn session(&self, op: &Op, host: &str) -> Result<Session> {
        let (host, port) = split(host)?;
        self.open(op, Address::Tcp { host, port }).await
    }
}
