//! What the server is to its [`crate::managers::lifecycle::Lifecycle`].

use async_trait::async_trait;
use camino::Utf8PathBuf;

use super::layout::Layout;
use crate::config::ServiceControlKind;
use crate::managers::lifecycle::{Answer, Ask, Server};
use crate::op::Op;
use crate::system::mongodb::Client;

/// One server.
#[derive(Debug)]
pub(super) struct MongoDbServer {
    pub(super) client: Client,
    pub(super) layout: Layout,
}

#[async_trait]
impl Ask for MongoDbServer {
    async fn ask(&self, op: &Op) -> Answer {
        self.client.greet(op).await.into()
    }
}

impl Server for MongoDbServer {
    fn directories(&self) -> Vec<(Utf8PathBuf, u32)> {
        let log = self.layout.error_log();
        // The supervisor makes the log's directory, which is its own, by itself.
        let logs = log.parent().filter(|_| self.layout.control == ServiceControlKind::Systemd).map(|logs| (logs.to_owned(), 0o750));
        std::iter::once((self.layout.run_dir().to_owned(), 0o755)).chain(logs).collect()
    }

    fn error_log(&self) -> Utf8PathBuf {
        self.layout.error_log()
    }
}
