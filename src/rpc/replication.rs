//! `get_replication_snapshot`: a source, a backup of it, and what a replica made from that has to know.

use std::sync::Arc;

use serde_json::{Value, json};

use super::args::GetReplicationSnapshot;
use super::dispatch::Dispatcher;
use crate::error::{Error, Result};
use crate::journal::Letter;
use crate::model::{BackupMetadata, BackupRequest, Opaque};
use crate::op::Op;
use crate::volume;

/// The backup a snapshot is to be made of; `None` when it is there already: made for an earlier replica of the same call (Kilo), or by the
/// controller, as a snapshot of the volume.
fn backup_of(info: &Opaque) -> Result<Option<BackupRequest>> {
    let is_later = info.0.get("replica_number").and_then(Value::as_u64).is_some_and(|number| number > 1);
    if is_later || info.text("storage_driver") == Some("cinder") {
        return Ok(None);
    }
    // The parser's words may quote what it read.
    let request = serde_json::from_value(Value::Object(info.0.clone()));
    request.map(Some).map_err(|_| Error::bad_request("snapshot_info does not say which backup to make: it needs an id"))
}

impl Dispatcher {
    /// The conductor hears of the backup before the caller hears of the snapshot: the controller looks the backup up when it has its answer.
    pub(super) async fn replication_snapshot(&self, op: &Op, args: &GetReplicationSnapshot) -> Result<Value> {
        let strategy = self.manager.replication().ok_or_else(|| self.not_supported("get_replication_snapshot"))?;
        let backup = if strategy.needs_backup() { backup_of(&args.snapshot_info)? } else { None };
        strategy.enable_as_source(op, args.replica_source_config.as_ref()).await?;
        let metadata = match &backup {
            Some(backup) => self.snapshot_backup(op, backup).await?,
            None => BackupMetadata::new(),
        };
        let mut context = strategy.context(op).await?;
        context.log_position.0.extend(strategy.place_of_backup(op, &metadata).await?.0);
        let mut snapshot = context.wire(self.release.current());
        let volume = volume::filesystem_stats(&self.manager.mount_point())?;
        let dataset = json!({
            "datastore_manager": self.settings.datastore_manager,
            "dataset_size": volume.used,
            "volume_size": volume.total,
            "snapshot_id": args.snapshot_info.0.get("id"),
        });
        snapshot.insert("dataset".into(), dataset);
        snapshot.insert("replication_strategy".into(), json!(strategy.name()));
        Ok(Value::Object(snapshot))
    }

    async fn snapshot_backup(&self, op: &Op, backup: &BackupRequest) -> Result<BackupMetadata> {
        let mut letters = Vec::new();
        let made = self.create_backup(op, backup, &mut letters).await;
        for letter in letters {
            self.conductor.publisher().publish(&Arc::new(letter)).await?;
        }
        made.map(|finished| finished.metadata)
    }

    /// A snapshot that the agent's end cut short.
    pub(super) async fn abandon_snapshot(&self, op: &Op, args: &GetReplicationSnapshot, error: &Error, casts: &mut Vec<Letter>) {
        if let Ok(Some(backup)) = backup_of(&args.snapshot_info) {
            self.abandon_backup(op, &backup, error, casts).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(info: Value) -> Result<Option<BackupRequest>> {
        backup_of(&serde_json::from_value(info).unwrap())
    }

    #[test]
    fn one_backup_serves_all_replicas_of_a_call() {
        let first = json!({"id": "b", "instance_id": "i", "replica_number": 1, "storage_driver": "swift", "parent": {"location": "l"}});
        assert_eq!(of(first).unwrap().unwrap().parent.unwrap().location, "l");
        assert!(of(json!({"id": "b", "replica_number": 2})).unwrap().is_none());
        assert!(of(json!({"id": "b", "storage_driver": "cinder"})).unwrap().is_none());
        assert!(of(json!({"id": null})).is_err());
    }
}
