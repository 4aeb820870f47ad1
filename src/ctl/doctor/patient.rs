//! [`Patient`]: the guest that is looked at.

use std::sync::Arc;

use crate::config::Settings;
use crate::managers::DatastoreManager;
use crate::monitor::Snapshot;
use crate::op::Op;
use crate::status::Phase;
use crate::system::command::CommandRunner;

/// What every check is given.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) settings: Arc<Settings>,
    pub(super) manager: Arc<dyn DatastoreManager>,
    pub(super) commands: Arc<dyn CommandRunner>,
    /// With a token for the storage, if there is one.
    pub(super) op: Op,
    /// Account in Swift, if the caller names one.
    pub(super) swift_url: Option<String>,
    /// How far the guest is as an instance, as it is on disk; `None` when that cannot be read.
    pub(super) phase: Option<Phase>,
    /// What the agent says of itself; `None` when it does not run.
    pub(super) agent: Option<Snapshot>,
}
