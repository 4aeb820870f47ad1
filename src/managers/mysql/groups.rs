//! Configuration groups ([`ConfigGroups`]).

use std::sync::Arc;

use async_trait::async_trait;

use super::client::Client;
use super::configuration::Configuration;
use super::variables;
use crate::error::Result;
use crate::managers::ConfigGroups;
use crate::model::Overrides;
use crate::op::Op;

/// The configuration group of one server.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
}

#[async_trait]
impl ConfigGroups for Groups {
    async fn update(&self, op: &Op, overrides: &Overrides, remove: bool) -> Result<()> {
        // What Trove does: remove, and then lay down what came with it, if anything did.
        if remove {
            self.configuration.remove_user()?;
        }
        if overrides.is_empty() { Ok(()) } else { self.configuration.write_user(op, overrides).await }
    }

    async fn apply(&self, op: &Op, overrides: &Overrides) -> Result<()> {
        if overrides.is_empty() {
            return Ok(());
        }
        let mut session = self.client.session(op).await?;
        variables::apply(op, &mut session, overrides).await?;
        session.close().await;
        Ok(())
    }
}
