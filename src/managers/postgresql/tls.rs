//! TLS for clients ([`ClientTls`]): parameters of the system's layer, which a reload brings into effect, and what `pg_hba.conf` asks of clients.
//!
//! Meaning of the modes is Trove's (trove/guestagent/datastore/postgres/manager.py: `_enable_ssl_certificate_impl`).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;

use super::configuration::Configuration;
use super::groups::Groups;
use crate::codec::{Document, PostgreSqlConf};
use crate::config::TlsMode;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::{ChangeName, Group};
use crate::managers::tls::{ClientTls, Offer, TlsStore};
use crate::op::Op;
use crate::system::certificates;
use crate::system::postgresql::{Client, SqlText};

/// What there is to set.
const PARAMETERS: [&str; 4] = ["ssl", "ssl_ca_file", "ssl_cert_file", "ssl_key_file"];

/// TLS of one server.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) store: TlsStore,
    pub(super) configured_mode: Option<TlsMode>,
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) groups: Arc<Groups>,
}

/// The override file. Its number is fixed: operators know it by its name.
fn change() -> ChangeName {
    ChangeName { group: Group::System, number: 4, id: "client-tls".to_owned() }
}

impl Tls {
    /// What clients must use.
    ///
    /// # Errors
    /// What was done about TLS cannot be read.
    pub(super) fn mode(&self) -> Result<Option<TlsMode>> {
        Ok(self.store.mode()?.or(self.configured_mode))
    }

    /// The override file; `None` when there is to be none.
    fn parameters(&self, offer: &Offer) -> Result<Option<PostgreSqlConf>> {
        let mut document = PostgreSqlConf::parse("");
        match offer {
            Offer::Own(_) => return Ok(None),
            Offer::Off => document.set(&["ssl"], &json!("off"))?,
            Offer::Files(number) => {
                let files = self.store.files(*number);
                document.set(&["ssl"], &json!("on"))?;
                document.set(&["ssl_cert_file"], &json!(files.certificate))?;
                document.set(&["ssl_key_file"], &json!(files.private_key))?;
                document.set(&["ssl_ca_file"], &json!(files.authorities.unwrap_or_default()))?;
            }
        }
        Ok(Some(document))
    }

    async fn seen(&self, op: &Op) -> Result<BTreeMap<String, String>> {
        let sql = SqlText::new("SELECT name, setting FROM pg_settings WHERE name IN (").literals(PARAMETERS).raw(")");
        let rows = self.client.session(op).await?.rows(op, "ask which TLS the server speaks", &sql).await?;
        let pair = |row: Vec<Option<String>>| {
            let mut columns = row.into_iter().flatten();
            Some((columns.next()?, columns.next().unwrap_or_default()))
        };
        Ok(rows.into_iter().filter_map(pair).collect())
    }

    /// For a server that is started next on a volume that came with files.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub(super) async fn reinstate(&self, op: &Op) -> Result<()> {
        if let Some(record) = self.store.read()? {
            self.store.take(op).await?;
            self.offer(op, &record.current.offer, record.current.mode).await?;
        }
        self.configuration.write_rules(op, self.mode()?).await
    }

    /// A new instance has no TLS of an earlier one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn forget(&self) -> Result<()> {
        self.store.forget()
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
        let seen = self.seen(op).await?;
        match seen.get("ssl").map(String::as_str) {
            Some("on") => {
                let file = seen.get("ssl_cert_file").map(String::as_str).unwrap_or_default();
                certificates::public_part(&self.configuration.layout.data_dir.join(file))
            }
            _ => Ok(None),
        }
    }

    async fn own_settings(&self, op: &Op) -> Result<BTreeMap<String, String>> {
        self.seen(op).await
    }

    async fn check(&self, _op: &Op, _offer: &Offer) -> Result<()> {
        Ok(())
    }

    async fn offer(&self, op: &Op, offer: &Offer, _mode: Option<TlsMode>) -> Result<bool> {
        let (name, parameters) = (change(), self.parameters(offer)?);
        let changed = self.groups.change_own(op, |layers| match parameters {
            Some(parameters) => layers.place_change(&name, parameters),
            None => drop(layers.remove_change(name.group, &name.id)),
        });
        changed.await.action("have the server offer its certificates")?;
        Ok(false)
    }

    async fn hold_accounts_to(&self, op: &Op, mode: Option<TlsMode>) -> Result<()> {
        self.configuration.write_rules(op, mode).await?;
        match self.groups.change_own(op, |_| ()).await {
            Err(error @ Error::BadRequest { .. }) => Err(error).action("have the server read who may log in"),
            other => other,
        }
    }
}
