//! [`VolumeSnapshots`]: what a datastore does about snapshots of its volume, which the controller takes (`pre_create_backup`, `post_create_backup`).

use std::fmt;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::op::Op;

/// Holds database and volume still while somebody else copies the volume.
#[async_trait]
pub trait VolumeSnapshots: Send + Sync + fmt::Debug {
    /// Nothing changes from here to [`Self::release`]. Returns what the controller keeps with the snapshot: where it is in the history of the
    /// database. One hold at a time: an earlier one ends, and its snapshot is worth nothing.
    ///
    /// # Errors
    /// The database, or the volume, cannot be held still: neither is.
    async fn hold(&self, op: &Op) -> Result<Map<String, Value>>;

    /// Everybody may write again.
    ///
    /// # Errors
    /// Something was not held still all the time, or is not any more: the snapshot is worth nothing.
    async fn release(&self) -> Result<()>;

    /// Lets go of what is held, if anything is: the database or the agent is about to stop. [`Self::release`] then says that the snapshot is worth
    /// nothing.
    async fn abandon(&self);
}
