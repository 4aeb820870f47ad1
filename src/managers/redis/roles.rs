//! [`Roles`]: what replication makes of the configuration and of the running server ([`Host`]). A role is a layer under the name Trove gives it.

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::Value;
use std::sync::Arc;

use super::descriptor::REDIS;
use super::directives::Directives;
use super::groups;
use super::running::Running;
use crate::codec::Document;
use crate::codec::RedisConf;
use crate::error::{Error, Result};
use crate::managers::lifecycle::Lifecycle;
use crate::model::Overrides;
use crate::op::Op;
use crate::strategies::replication::redis::{Host, Role};
use crate::system::address;
use crate::system::redis::Client;

/// Roles of one server.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) running: Running,
    pub(super) lifecycle: Arc<Lifecycle>,
}

fn layer_of(role: Role) -> &'static str {
    match role {
        Role::Source => "replication_master",
        Role::Replica => "replication_slave",
        Role::ReadOnly => "read_only",
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
        let Some(text) = conf.last("port") else { return Ok(REDIS.port) };
        text.parse().map_err(|_| Error::guest(format!("the server's port is '{}' in its configuration", text.escape_debug())))
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
        self.running.change_system(op, layer_of(role), Some(document)).await
    }

    async fn drop_role(&self, op: &Op, role: Role) -> Result<()> {
        if self.has_role(role)? {
            self.running.change_system(op, layer_of(role), None).await?;
        }
        Ok(())
    }

    async fn log_tail(&self, op: &Op) -> String {
        self.lifecycle.log_tail(op).await
    }
}
