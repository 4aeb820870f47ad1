//! Which manager serves which `datastore_manager`.

use std::sync::Arc;

use super::{DatastoreManager, Deps};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::system::command::CommandRunner;
use crate::system::packages::PackageManager;

/// Names a guest may be given as `datastore_manager` in this build.
pub const MANAGERS: &[&str] = &["mysql", "percona", "mariadb"];

/// Builds the manager `settings` name.
///
/// # Errors
/// An unknown `datastore_manager`.
pub fn build(
    settings: &Arc<Settings>,
    commands: Arc<dyn CommandRunner>,
    packages: Arc<dyn PackageManager>,
) -> Result<Arc<dyn DatastoreManager>> {
    let _ = (commands, packages, std::any::type_name::<Deps>());
    Err(Error::guest(format!("Manager class not registered for datastore manager {}", settings.datastore_manager)))
}
