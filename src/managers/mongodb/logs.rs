//! The server's messages as a log to publish ([`GuestLogs`]).

use async_trait::async_trait;

use super::layout::Layout;
use crate::error::{Error, Result};
use crate::managers::logs::{GuestLogs, LogDefinition, LogKind};
use crate::op::Op;

/// Trove's guests published none of this datastore: the name is the datastore's, as with the others.
const MONGODB: &str = "mongodb";

/// The logs of one server.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) layout: Layout,
}

#[async_trait]
impl GuestLogs for Logs {
    async fn definitions(&self, _op: &Op) -> Result<Vec<LogDefinition>> {
        Ok(vec![LogDefinition { name: MONGODB, kind: LogKind::System, file: self.layout.error_log() }])
    }

    async fn switch(&self, _op: &Op, name: &str, _on: bool) -> Result<()> {
        Err(Error::bad_request(format!("the log '{name}' is always written: it cannot be switched")))
    }
}
