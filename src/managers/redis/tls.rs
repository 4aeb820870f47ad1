//! TLS for clients ([`ClientTls`]): a layer of the configuration, which the running server takes at once (`CONFIG SET`).
//!
//! The server has a port for TLS and one for everybody else, so a mode is a matter of ports: up to `basic` TLS is on the port after the instance's own; with `enforced` and
//! `mtls` it is on the instance's own, and there is no other.

use std::collections::BTreeMap;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use serde_json::json;

use super::configuration::{CLIENT_TLS, CLUSTERING, layer};
use super::descriptor::REDIS;
use super::directives::Directives;
use super::running::Running;
use crate::codec::RedisConf;
use crate::config::TlsMode;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::Group;
use crate::managers::tls::{ClientTls, Offer, TlsFiles, TlsStore};
use crate::op::Op;
use crate::system::certificates;

/// What of the server's settings says which TLS it speaks. The passphrase of a key is not among them.
const SETTINGS: [&str; 5] = ["tls-auth-clients", "tls-ca-cert-file", "tls-cert-file", "tls-key-file", "tls-port"];

/// TLS of one server.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) store: TlsStore,
    pub(super) configured_mode: Option<TlsMode>,
    pub(super) running: Running,
}

/// A port of a configuration; 0 is none.
fn port(conf: &RedisConf, name: &str) -> Option<u16> {
    conf.last(name)?.parse().ok()
}

/// The layer that offers these files; `own` is the instance's port.
fn offering(files: &TlsFiles, mode: Option<TlsMode>, own: u16) -> Result<RedisConf> {
    let mut directives = vec![
        ("tls-auth-clients", json!(mode == Some(TlsMode::Mtls))),
        ("tls-cert-file", json!(files.certificate)),
        ("tls-key-file", json!(files.private_key)),
    ];
    if let Some(authorities) = &files.authorities {
        directives.push(("tls-ca-cert-file", json!(authorities)));
    }
    match mode {
        None | Some(TlsMode::Basic) => {
            let next = own.checked_add(1).ok_or_else(|| Error::bad_request("there is no port after the server's own for TLS"))?;
            directives.push(("tls-port", json!(next)));
        }
        Some(TlsMode::Enforced | TlsMode::Mtls) => directives.extend([("port", json!(0)), ("tls-port", json!(own))]),
    }
    layer(directives)
}

impl Tls {
    /// The configuration without what was done about TLS.
    fn without(&self) -> Result<RedisConf> {
        let mut layers = self.running.configuration.read()?;
        layers.remove_change(Group::System, CLIENT_TLS);
        layers.merged()
    }

    /// The layer for an offer; none, where the rest of the configuration is what is wanted.
    fn layer(&self, offer: &Offer, mode: Option<TlsMode>) -> Result<Option<RedisConf>> {
        let others = self.without()?;
        let (own, own_tls) = (port(&others, "port").unwrap_or(REDIS.port), port(&others, "tls-port").filter(|port| *port != 0));
        let own = if own == 0 { own_tls.unwrap_or(REDIS.port) } else { own };
        match offer {
            Offer::Own(_) => Ok(None),
            // Servers that are built without TLS do not know its directives.
            Offer::Off => own_tls.map(|_| layer([("port", json!(own)), ("tls-port", json!(0))])).transpose(),
            Offer::Files(number) => offering(&self.store.files(*number), mode, own).map(Some),
        }
    }

    /// The layer for a server that is started next on a volume that came with files.
    ///
    /// # Errors
    /// What was done about TLS cannot be read, or the configuration cannot be written.
    pub(super) async fn reinstate(&self, op: &Op) -> Result<()> {
        let Some(record) = self.store.read()? else { return Ok(()) };
        self.store.take(op).await?;
        // The ports are those of the rest.
        let layer = self.layer(&record.current.offer, record.current.mode)?;
        self.running.configuration.change_system(op, CLIENT_TLS, layer).await.map(drop)
    }

    async fn settings(&self, op: &Op) -> Result<BTreeMap<String, String>> {
        let seen = self.running.client.session(op).await?.parameters(op, "tls-*").await?;
        let shown = |(name, value): (String, secrecy::SecretString)| (name, value.expose_secret().to_owned());
        Ok(seen.into_iter().filter(|(name, _)| SETTINGS.contains(&name.as_str())).map(shown).collect())
    }
}

#[async_trait]
impl ClientTls for Tls {
    fn store(&self) -> &TlsStore {
        &self.store
    }

    fn configured_mode(&self) -> Option<TlsMode> {
        self.configured_mode
    }

    async fn presented(&self, op: &Op) -> Result<Option<String>> {
        let seen = self.settings(op).await?;
        match seen.get("tls-port").map_or("0", String::as_str) {
            "0" => Ok(None),
            _ => certificates::public_part(
                &self.running.configuration.layout.data_dir().join(seen.get("tls-cert-file").map_or("", String::as_str)),
            ),
        }
    }

    async fn own_settings(&self, op: &Op) -> Result<BTreeMap<String, String>> {
        self.settings(op).await
    }

    async fn check(&self, _op: &Op, _offer: &Offer) -> Result<()> {
        Ok(())
    }

    async fn offer(&self, op: &Op, offer: &Offer, mode: Option<TlsMode>) -> Result<bool> {
        if let Offer::Files(_) = offer {
            if self.running.configuration.has_system(CLUSTERING)? {
                return Err(Error::bad_request(
                    "a member of a cluster tells the others its port in the clear: TLS is for instances of their own",
                ));
            }
            if self.settings(op).await?.is_empty() {
                return Err(Error::bad_request("the server of this guest is built without TLS: an image with another one is needed"));
            }
        }
        let layer = self.layer(offer, mode)?;
        self.running.change_system(op, CLIENT_TLS, layer).await.action("have the server offer its certificates")
    }

    /// Ports are for everybody, and the offer's.
    async fn hold_accounts_to(&self, _op: &Op, _mode: Option<TlsMode>) -> Result<()> {
        Ok(())
    }
}
