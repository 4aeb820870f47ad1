//! [`ToolLogin`]: how a backup tool logs in. By a file with the password, never by its arguments.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::error::{Result, ResultExt};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::service::ServiceControl;

/// A file with the password, in the form the tools read (an option file of MySQL, a password file of PostgreSQL), where they run.
#[derive(Debug)]
pub struct ToolLogin {
    service: Arc<dyn ServiceControl>,
    path: Utf8PathBuf,
    is_copy: bool,
}

impl ToolLogin {
    /// A file of the guest that is there anyway.
    pub fn of_file(service: Arc<dyn ServiceControl>, path: Utf8PathBuf) -> Self {
        ToolLogin { service, path, is_copy: false }
    }

    /// A file of this `content` in the container that the server runs in, for its root alone. It goes with the value.
    ///
    /// # Errors
    /// The container's file system refused.
    pub async fn in_container(op: &Op, service: Arc<dyn ServiceControl>, content: SecretString) -> Result<Self> {
        let path = Utf8PathBuf::from("/tmp/.trove-backup-login");
        let install = CommandSpec::new("install").args(["-m", "0600", "/dev/stdin", path.as_str()]);
        service.exec(op, install.stdin_secret(content.expose_secret().into())).await.action(format!("write {path} in the container"))?;
        Ok(ToolLogin { service, path, is_copy: true })
    }

    /// Where the tools run.
    pub fn service(&self) -> &dyn ServiceControl {
        &*self.service
    }

    /// The file.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }
}

impl Drop for ToolLogin {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_copy {
            let (service, remove) = (Arc::clone(&self.service), CommandSpec::new("rm").args(["-f", "--", self.path.as_str()]));
            let removal = async move {
                if let Err(error) = service.exec(&Op::internal(CancellationToken::new()), remove).await {
                    tracing::warn!(%error, "failed to remove the password file of a backup tool from the container");
                }
            };
            runtime.spawn(removal.in_current_span());
        }
    }
}
