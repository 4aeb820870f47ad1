//! [`Roles`]: what replication makes of the configuration and of the running server ([`Host`]). A role is a layer under the name Trove gives it.

use async_trait::async_trait;
use camino::Utf8PathBuf;
use openssl::x509::X509;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::sync::Arc;

use super::configuration::CLIENT_TLS;
use super::descriptor::REDIS;
use super::directives::Directives;
use super::groups;
use super::running::Running;
use crate::codec::Document;
use crate::codec::RedisConf;
use crate::error::{Error, Result};
use crate::managers::configuration::Group;
use crate::managers::lifecycle::Lifecycle;
use crate::model::{Overrides, SourceTls};
use crate::op::Op;
use crate::strategies::replication::redis::{Host, Role};
use crate::system::redis::Client;
use crate::system::{address, certificates, files};

/// In the data directory: what a replica follows a source over TLS with.
const SOURCE_TLS: &str = ".trove-source-tls";

/// Roles of one server.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) running: Running,
    pub(super) lifecycle: Arc<Lifecycle>,
}

/// True when the certificates of one bundle are in the other.
fn has_all(bundle: &str, wanted: &str) -> bool {
    let read = |pem: &str| X509::stack_from_pem(pem.as_bytes()).unwrap_or_default();
    let there = read(bundle);
    read(wanted).iter().all(|wanted| there.contains(wanted))
}

fn layer_of(role: Role) -> &'static str {
    match role {
        Role::Source => "replication_master",
        Role::Replica => "replication_slave",
        Role::ReadOnly => "read_only",
    }
}

impl Roles {
    fn source_tls(&self) -> Utf8PathBuf {
        self.running.configuration.layout.data_dir().join(SOURCE_TLS)
    }
}

#[async_trait]
impl Host for Roles {
    fn client(&self) -> &Client {
        &self.running.client
    }

    fn address(&self) -> Result<String> {
        address::own()
    }

    fn port(&self) -> Result<u16> {
        let conf = self.running.configuration.effective()?;
        let plain = conf.last("port");
        let port = if plain.as_deref() == Some("0") { conf.last("tls-port") } else { plain };
        let Some(text) = port else { return Ok(REDIS.port) };
        text.parse().map_err(|_| Error::guest(format!("the server's port is '{}' in its configuration", text.escape_debug())))
    }

    fn tls(&self) -> Result<Option<SourceTls>> {
        let conf = self.running.configuration.effective()?;
        let is_none = |name: &str| conf.last(name).is_none_or(|port| port == "0");
        if conf.last("port").as_deref() != Some("0") || is_none("tls-port") {
            return Ok(None);
        }
        let data_dir = self.running.configuration.layout.data_dir();
        let file = |name: &str| conf.last(name).filter(|path| !path.is_empty()).map(|path| certificates::public_part(&data_dir.join(path)));
        Ok(Some(SourceTls {
            ca: file("tls-ca-cert-file").transpose()?.flatten(),
            certificate: file("tls-cert-file").transpose()?.flatten(),
        }))
    }

    async fn following_over_tls(&self, op: &Op, source: &SourceTls) -> Result<Vec<(&'static str, Value)>> {
        let configuration = &self.running.configuration;
        let layers = configuration.read()?;
        let own = |name: &str| layers.change(Group::System, CLIENT_TLS).and_then(|layer| layer.last(name));
        let mut directives = vec![("tls-replication", Value::from(true))];
        let told = source.ca.as_deref().unwrap_or_default();
        if let Some(file) = own("tls-ca-cert-file") {
            if !has_all(&certificates::public_part(file.as_str().into())?.unwrap_or_default(), told) {
                return Err(Error::bad_request(
                    "this instance's own TLS (ssl_action) has other authorities than its source: the server has one set for both; give it a ca with all of them",
                ));
            }
            return Ok(directives);
        }
        let directory = self.source_tls();
        configuration.owner.directory(op, &directory, 0o700).await?;
        let mut keep = |directive: &'static str, name: &str, text: &str, mode| {
            let path = directory.join(name);
            directives.push((directive, Value::from(path.as_str())));
            files::write_atomic(&path, text.as_bytes(), mode, None)
        };
        keep("tls-ca-cert-file", "ca.pem", told, 0o644)?;
        if own("tls-cert-file").is_none() {
            // The server connects with nothing less.
            let (key, certificate) = certificates::self_signed("trove-replica")?;
            keep("tls-cert-file", "cert.pem", &certificate, 0o644)?;
            keep("tls-key-file", "key.pem", key.expose_secret(), 0o600)?;
        }
        configuration.owner.take(op, &directory).await?;
        Ok(directives)
    }

    fn password(&self) -> Result<Option<SecretString>> {
        let conf = self.running.configuration.effective()?;
        Ok(conf.last("requirepass").filter(|password| !password.is_empty()).map(SecretString::from))
    }

    fn has_role(&self, role: Role) -> Result<bool> {
        self.running.configuration.has_system(layer_of(role))
    }

    async fn take_role(&self, op: &Op, role: Role, wanted: Option<&Overrides>, required: &[(&str, Value)]) -> Result<()> {
        let mut document = match wanted {
            Some(wanted) => groups::parse(wanted)?,
            None => RedisConf::parse(""),
        };
        for (name, value) in required {
            document.set(&[name], value)?;
        }
        self.running.change_system(op, layer_of(role), Some(document)).await.map(drop)
    }

    async fn drop_role(&self, op: &Op, role: Role) -> Result<()> {
        if self.has_role(role)? {
            self.running.change_system(op, layer_of(role), None).await?;
        }
        if role == Role::Replica { files::remove_tree(&self.source_tls()) } else { Ok(()) }
    }

    async fn log_tail(&self, op: &Op) -> String {
        self.lifecycle.log_tail(op).await
    }
}
