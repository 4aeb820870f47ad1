//! The password of the default user ([`RootAccess`]): what Trove calls root here, as there is no other account.

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::configuration::{PASSWORD, layer};
use super::directives::Directives;
use super::running::Running;
use crate::codec::RedisConf;
use crate::error::{Error, Result};
use crate::managers::RootAccess;
use crate::model::UserSpec;
use crate::op::Op;
use crate::system::password::random_password;

/// The name of an account without a name (trove/common/db/redis/models.py: `RedisRootUser`).
const NAME: &str = "-";

/// The password of one server.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) running: Running,
    pub(super) password_length: usize,
}

impl Root {
    async fn change(&self, op: &Op, document: Option<RedisConf>) -> Result<()> {
        let configuration = &self.running.configuration;
        configuration.keep_password()?;
        self.running.change_system(op, PASSWORD, document).await?;
        configuration.forget_password()
    }
}

#[async_trait]
impl RootAccess for Root {
    async fn is_enabled(&self, op: &Op) -> Result<bool> {
        Ok(self.password(op).await?.is_some())
    }

    /// Replicas log in to each other with it too: whichever of them is promoted, they find it right.
    async fn enable(&self, op: &Op, password: Option<SecretString>) -> Result<UserSpec> {
        let password = match password {
            Some(password) if password.expose_secret().is_empty() => return Err(Error::invalid("the password must not be empty")),
            Some(password) => password,
            None => random_password(self.password_length)?,
        };
        let text = password.expose_secret();
        self.change(op, Some(layer([("requirepass", json!(text)), ("masterauth", json!(text))])?)).await?;
        Ok(UserSpec { name: NAME.into(), password: Some(password), host: None, databases: Vec::new(), is_root: true })
    }

    async fn disable(&self, op: &Op) -> Result<()> {
        self.change(op, None).await
    }

    fn tells_password(&self) -> bool {
        true
    }

    async fn password(&self, _op: &Op) -> Result<Option<SecretString>> {
        let conf = self.running.configuration.effective()?;
        Ok(conf.last("requirepass").filter(|password| !password.is_empty()).map(SecretString::from))
    }
}
