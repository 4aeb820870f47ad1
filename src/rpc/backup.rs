//! `create_backup`: what the conductor is told, and when. And snapshots of the volume, of which the controller tells.

use std::sync::Arc;

use serde_json::{Value, json};

use super::dispatch::Dispatcher;
use crate::error::{Error, Result};
use crate::journal::Letter;
use crate::managers::backup::{self, BackupEnv, Finished};
use crate::model::{BackupRequest, BackupState, BackupUpdate};
use crate::op::Op;
use crate::strategies::storage::{Storage, StorageRequest, storage_for};
use crate::volume;

/// Width of the controller's column.
const NOTE: usize = 255;

impl Dispatcher {
    /// `pre_create_backup`: the answer becomes part of what a replica is made from (`dataset`).
    pub(super) async fn hold_for_snapshot(&self, op: &Op) -> Result<Value> {
        let snapshots = self.facet("pre_create_backup", self.manager.snapshots())?;
        snapshots.hold(op).await.map(Value::Object)
    }

    /// `post_create_backup`.
    pub(super) async fn release_snapshot(&self) -> Result<Value> {
        let snapshots = self.facet("post_create_backup", self.manager.snapshots())?;
        snapshots.release().await.map(|()| json!({}))
    }

    /// BUILDING is with the broker before the work begins. COMPLETED or FAILED leaves with the answer, through the journal.
    pub(super) async fn create_backup(&self, op: &Op, request: &BackupRequest, casts: &mut Vec<Letter>) -> Result<Finished> {
        let size = volume::filesystem_stats(&self.manager.mount_point()).ok().map(|stats| stats.used);
        let building = BackupUpdate { size, ..update(request, BackupState::Building) };
        let letter = self.conductor.update_backup(&op.context, &building)?;
        op.until_cancelled("tell that the backup begins", self.conductor.publisher().publish(&Arc::new(letter))).await??;
        let mut kind = None;
        match self.make_backup(op, request, &mut kind).await {
            Ok(finished) => {
                casts.push(self.completed(op, request, &finished, size)?);
                Ok(finished)
            }
            Err(error) => {
                let undone = self.undo_backup(op, request).await;
                // Given up because the agent ends: the reason is the one that its next life would tell.
                let error = if op.cancel.is_cancelled() { Error::interrupted("create_backup") } else { error };
                // The agent ends and could not clean up: its next start does, and tells.
                if undone || !op.cancel.is_cancelled() {
                    self.report_failed(op, request, kind, &error, casts);
                }
                Err(error)
            }
        }
    }

    fn completed(&self, op: &Op, request: &BackupRequest, finished: &Finished, size: Option<f64>) -> Result<Letter> {
        let Finished { runner, checksum, location, .. } = finished.clone();
        let kind = backup::type_word(self.release.current(), &runner, request.parent.is_some()).to_owned();
        let state = update(request, BackupState::Completed);
        let done = BackupUpdate { size, backup_type: Some(kind), checksum: Some(checksum), location: Some(location), ..state };
        self.told.backup(&done);
        self.conductor.update_backup(&op.context, &done)
    }

    /// What to tell of a backup that was whole when the agent ended; none for one that was not.
    pub(super) fn finished_backup(&self, op: &Op, request: &BackupRequest) -> Option<Letter> {
        // BUILDING, which came first, has the size.
        let found = backup::finished(&self.settings, &request.id);
        let told = found.and_then(|finished| finished.map(|finished| self.completed(op, request, &finished, None)).transpose());
        told.unwrap_or_else(|error| {
            tracing::error!(%error, backup = request.id, "failed to find out what became of a backup");
            None
        })
    }

    /// A backup that the agent's end cut short.
    pub(super) async fn abandon_backup(&self, op: &Op, request: &BackupRequest, error: &Error, casts: &mut Vec<Letter>) {
        self.undo_backup(op, request).await;
        self.report_failed(op, request, None, error, casts);
    }

    async fn make_backup(&self, op: &Op, request: &BackupRequest, kind: &mut Option<String>) -> Result<Finished> {
        let backups = self.manager.backups().ok_or_else(|| self.not_supported("create_backup"))?;
        let release = self.release.current();
        let runner = backup::runner(op, backups, request).await?;
        *kind = Some(backup::type_word(release, runner.name(), request.parent.is_some()).to_owned());
        let storage = self.storage(op, request).await?;
        let env = BackupEnv { settings: self.settings.clone(), storage, release, mount_point: self.manager.mount_point() };
        env.create(op, backups, &*runner, request).await
    }

    async fn storage(&self, op: &Op, request: &BackupRequest) -> Result<Arc<dyn Storage>> {
        let (swift_url, storage_driver) = (request.swift_url.clone(), request.storage_driver.clone());
        let wanted = StorageRequest { swift_url, storage_driver, release: Some(self.release.current()) };
        storage_for(op, &self.settings, &wanted).await
    }

    /// False when something may still be stored.
    async fn undo_backup(&self, op: &Op, request: &BackupRequest) -> bool {
        let undone = async {
            let storage = self.storage(op, request).await?;
            backup::undo(op, &self.settings, &*storage, &request.id).await
        };
        match undone.await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, backup = request.id, "failed to delete what there is of a failed backup: look into its container");
                false
            }
        }
    }

    fn report_failed(&self, op: &Op, request: &BackupRequest, kind: Option<String>, error: &Error, casts: &mut Vec<Letter>) {
        let note = error.to_string().chars().take(NOTE).collect();
        let failed = BackupUpdate { backup_type: kind, note: Some(note), ..update(request, BackupState::Failed) };
        self.told.backup(&failed);
        match self.conductor.update_backup(&op.context, &failed) {
            Ok(letter) => casts.push(letter),
            Err(error) => tracing::error!(%error, "failed to report that a backup failed"),
        }
    }
}

fn update(request: &BackupRequest, state: BackupState) -> BackupUpdate {
    BackupUpdate { backup_id: request.id.clone(), state, size: None, backup_type: None, checksum: None, location: None, note: None }
}
