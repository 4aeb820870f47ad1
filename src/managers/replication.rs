//! The flow around a replication strategy: the same for every datastore.

use serde_json::{Map, Value};

use super::DatastoreManager;
use crate::config::DatastoreSettings;
use crate::error::{Error, Result};
use crate::model::{Overrides, Release, ReplicaInfo};
use crate::op::Op;
use crate::strategies::replication::ReplicationStrategy;
use crate::volume::filesystem_stats;

/// Class name of a strategy: the datastore's option, the class the controller wants (2026.1), or the datastore's own.
pub(super) fn strategy_name(settings: &DatastoreSettings, default: &'static str) -> String {
    let class = settings.replication_class.as_deref().and_then(|path| path.rsplit('.').next());
    settings.replication_strategy.as_deref().or(class).filter(|name| !name.is_empty()).unwrap_or(default).to_owned()
}

/// The datastore's strategy.
///
/// # Errors
/// It has none.
fn strategy<'a>(manager: &'a dyn DatastoreManager, operation: &str) -> Result<&'a dyn ReplicationStrategy> {
    manager.replication().ok_or_else(|| Error::not_supported(operation, manager.descriptor().name))
}

/// `get_replica_context`, in the words of a controller of `release`.
///
/// # Errors
/// Those of [`ReplicationStrategy::context`].
pub async fn context(op: &Op, manager: &dyn DatastoreManager, release: Release) -> Result<Map<String, Value>> {
    let context = strategy(manager, "get_replica_context")?.context(op).await?;
    Ok(context.wire(release))
}

/// `attach_replica`, and what `prepare` does with a snapshot.
///
/// # Errors
/// The source is of another kind, or has more data than this volume can hold; else those of [`ReplicationStrategy::attach`].
pub async fn attach(op: &Op, manager: &dyn DatastoreManager, info: &ReplicaInfo, config: Option<&Overrides>) -> Result<()> {
    let strategy = strategy(manager, "attach_replica")?;
    if let Some(theirs) = info.strategy.as_deref().filter(|theirs| *theirs != strategy.name()) {
        return Err(Error::IncompatibleReplication { replica: strategy.name().to_owned(), source_strategy: theirs.to_owned() });
    }
    if let Some(dataset) = info.dataset.as_ref().and_then(|dataset| dataset.dataset_size) {
        let volume = filesystem_stats(&manager.mount_point())?.total;
        if volume < dataset {
            return Err(Error::NoSpaceForReplica { volume, dataset });
        }
    }
    strategy.attach(op, info, config).await
}
