//! [`ReplicationStrategy`]: what a way of replicating is to the flow around it.

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;
use crate::model::{BackupMetadata, LastTxn, MemberRole, Opaque, Overrides, ReplicaContext, ReplicaInfo};
use crate::op::Op;

/// One way for instances to follow each other. Every change can be repeated: what an attempt that was cut off has done is found done.
#[async_trait]
pub trait ReplicationStrategy: Send + Sync + fmt::Debug {
    /// Class name of the Python strategy that does the same: source and replica must agree on it, on the wire.
    fn name(&self) -> &str;

    /// True when a replica is made from a backup of its source.
    fn needs_backup(&self) -> bool;

    /// What this instance's part is now, for people; `None` when the strategy cannot tell.
    ///
    /// # Errors
    /// The server does not say.
    async fn role(&self, _op: &Op) -> Result<Option<MemberRole>> {
        Ok(None)
    }

    /// Makes this instance one that others can follow.
    ///
    /// # Errors
    /// The server refuses `config`, or does not come up with it.
    async fn enable_as_source(&self, op: &Op, config: Option<&Overrides>) -> Result<()>;

    /// What a replica has to know of this source. Makes the account replicas log in with, once.
    ///
    /// # Errors
    /// This instance is no source.
    async fn context(&self, op: &Op) -> Result<ReplicaContext>;

    /// Where a backup of this source is, in the strategy's own words, from what was kept with it; goes with the context to a replica made of it.
    ///
    /// # Errors
    /// The server refused.
    async fn place_of_backup(&self, op: &Op, metadata: &BackupMetadata) -> Result<Opaque>;

    /// Makes this instance follow another one, and waits until it does.
    ///
    /// # Errors
    /// It does not follow, and is detached again: as it was before.
    async fn attach(&self, op: &Op, info: &ReplicaInfo, config: Option<&Overrides>) -> Result<()>;

    /// Stops following. `for_failover`: the instance may be promoted next, or follow another source; it must have applied what it has
    /// received, and stays read-only. Returns what `cleanup_source_on_replica_detach` is told.
    ///
    /// # Errors
    /// It fell behind (`for_failover`), and still follows; or the server refused.
    async fn detach(&self, op: &Op, for_failover: bool) -> Result<Value>;

    /// Lets nobody write, or everybody again.
    ///
    /// # Errors
    /// The server refused, or somebody holds a lock for too long.
    async fn set_read_only(&self, op: &Op, read_only: bool) -> Result<()>;

    /// Everything this instance has done, in the strategy's own words; empty when it cannot tell.
    ///
    /// # Errors
    /// The server refused.
    async fn latest_transaction(&self, op: &Op) -> Result<String>;

    /// What [`Self::latest_transaction`] says as the controller is told it: a text, where Python's agents have no other form.
    fn transaction_on_wire(&self, transaction: String) -> Value {
        Value::String(transaction)
    }

    /// Whom this replica follows, and how far it has come: the greatest number of several replicas has lost least.
    ///
    /// # Errors
    /// The server refused.
    async fn last_transaction(&self, op: &Op) -> Result<LastTxn>;

    /// How many transactions this instance has done; `None` when the strategy does not count.
    ///
    /// # Errors
    /// The server refused.
    async fn transaction_count(&self, op: &Op) -> Result<Option<u64>>;

    /// Waits until this replica has done `transaction`, what its source answered to [`Self::latest_transaction`].
    ///
    /// # Errors
    /// [`crate::error::Error::Timeout`] says what is missing; or replication is broken; or this replica has transactions its source never had.
    async fn wait_for_transaction(&self, op: &Op, transaction: &str) -> Result<()>;

    /// A replica of this source was detached: takes back what only it needed.
    ///
    /// # Errors
    /// The server refused.
    async fn forget_replica(&self, op: &Op, info: &Opaque) -> Result<()>;

    /// This instance is no source any more.
    ///
    /// # Errors
    /// Its configuration cannot be changed.
    async fn demote(&self, op: &Op) -> Result<()>;
}
