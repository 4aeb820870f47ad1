//! What the family's server is to its [`crate::managers::lifecycle::Lifecycle`].

use std::sync::Arc;

use async_trait::async_trait;
use camino::Utf8PathBuf;

use super::client::Client;
use super::configuration::Configuration;
use super::quote::SqlText;
use crate::error::{Error, Result};
use crate::managers::lifecycle::{Answer, Ask, Server};
use crate::op::Op;

/// One server.
#[derive(Debug)]
pub(super) struct MySqlServer {
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
}

impl MySqlServer {
    async fn select(&self, op: &Op) -> Result<()> {
        let mut session = match self.client.session(op).await {
            // Before there are credentials, a refusal tells a living server from a dead one.
            Err(Error::Guest { .. }) => {
                let nobody = super::Login { user: super::OS_ADMIN.to_owned(), password: None };
                self.client.session_as(op, &nobody).await?
            }
            other => other?,
        };
        session.run(op, "ask the database how it is", &SqlText::new("SELECT 1")).await?;
        session.close().await;
        Ok(())
    }
}

#[async_trait]
impl Ask for MySqlServer {
    async fn ask(&self, op: &Op) -> Answer {
        self.select(op).await.into()
    }
}

impl Server for MySqlServer {
    fn directories(&self) -> Vec<(Utf8PathBuf, u32)> {
        let layout = &self.configuration.layout;
        let logs = layout.error_log.parent().filter(|_| layout.sets_error_log).map(|logs| (logs.to_owned(), 0o750));
        std::iter::once((layout.run_dir().to_owned(), 0o755)).chain(logs).collect()
    }

    fn error_log(&self) -> Utf8PathBuf {
        self.configuration.error_log()
    }
}
