//! What the server is to its [`crate::managers::lifecycle::Lifecycle`].

use std::sync::Arc;

use async_trait::async_trait;
use camino::Utf8PathBuf;

use super::configuration::Configuration;
use super::program::greet;
use crate::config::ServiceControlKind;
use crate::managers::lifecycle::{Answer, Ask, Server};
use crate::op::Op;
use crate::system::redis::Client;

/// One server.
#[derive(Debug)]
pub(super) struct RedisServer {
    pub(super) client: Client,
    pub(super) configuration: Arc<Configuration>,
}

#[async_trait]
impl Ask for RedisServer {
    async fn ask(&self, op: &Op) -> Answer {
        greet(&self.client, op).await
    }
}

impl Server for RedisServer {
    fn directories(&self) -> Vec<(Utf8PathBuf, u32)> {
        let layout = &self.configuration.layout;
        let log = layout.error_log();
        // The supervisor makes the log's directory, which is its own, by itself.
        let logs = log.parent().filter(|_| layout.control == ServiceControlKind::Systemd).map(|logs| (logs.to_owned(), 0o750));
        std::iter::once((layout.run_dir(), 0o755)).chain(logs).collect()
    }

    fn error_log(&self) -> Utf8PathBuf {
        self.configuration.layout.error_log()
    }
}
