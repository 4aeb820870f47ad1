//! The server's messages as a log to publish ([`GuestLogs`]).

use std::sync::Arc;

use async_trait::async_trait;

use super::configuration::Configuration;
use crate::error::{Error, Result};
use crate::managers::logs::{GuestLogs, LogDefinition, LogKind};
use crate::op::Op;

/// Trove's name of it (trove/guestagent/datastore/experimental/redis/manager.py: `datastore_log_defs`).
const REDIS: &str = "redis";

/// The logs of one server.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) configuration: Arc<Configuration>,
}

#[async_trait]
impl GuestLogs for Logs {
    async fn definitions(&self, _op: &Op) -> Result<Vec<LogDefinition>> {
        Ok(vec![LogDefinition { name: REDIS, kind: LogKind::System, file: self.configuration.layout.error_log() }])
    }

    async fn switch(&self, _op: &Op, name: &str, _on: bool) -> Result<()> {
        Err(Error::bad_request(format!("the log '{name}' is always written: it cannot be switched")))
    }
}
