//! [`Guest`]: the guest this command runs on, as its agent has it.

use std::sync::Arc;

use camino::Utf8Path;
use tokio_util::sync::CancellationToken;

use super::remote;
use crate::config::Settings;
use crate::error::Result;
use crate::managers::{DatastoreManager, registry};
use crate::model::RequestContext;
use crate::op::Op;
use crate::system::command::{CommandRunner, SystemCommands};
use crate::system::packages;

/// Its configuration, its datastore, and an operation on a person's behalf.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) settings: Arc<Settings>,
    pub(super) commands: Arc<dyn CommandRunner>,
    pub(super) manager: Arc<dyn DatastoreManager>,
    /// With the token of the given file.
    pub(super) op: Op,
}

impl Guest {
    /// `token_file` holds a token for the storage.
    ///
    /// # Errors
    /// The datastore is not known; the file cannot be read.
    pub(super) fn of(settings: Settings, token_file: Option<&Utf8Path>) -> Result<Self> {
        let settings = Arc::new(settings);
        let commands: Arc<dyn CommandRunner> = Arc::new(SystemCommands);
        let manager = registry::build(&settings, Arc::clone(&commands), packages::detect(Arc::clone(&commands)))?;
        let auth_token = token_file.map(remote::read_secret).transpose()?.map(Into::into);
        let context = RequestContext { auth_token, tenant: settings.tenant_id.clone(), ..RequestContext::default() };
        let op = Op::new(CancellationToken::new(), context);
        Ok(Guest { settings, commands, manager, op })
    }
}
