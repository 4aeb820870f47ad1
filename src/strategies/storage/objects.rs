//! [`ObjectStore`]: single objects, for what is no backup.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{ByteStream, ObjectName};
use crate::error::Result;
use crate::model::BackupMetadata;
use crate::op::Op;

/// The content of an object on its way to the store.
#[derive(Debug)]
pub struct ObjectContent {
    /// The bytes.
    pub bytes: ByteStream,
    /// Their number.
    pub size: u64,
    /// Their MD5: 32 lower-case hexadecimal digits. The store keeps nothing that has another.
    pub md5: String,
}

/// A store of single objects. One value serves one request: it has that request's credentials.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Makes sure that the container is there.
    ///
    /// # Errors
    /// The store refused, or is out of reach.
    async fn make_container(&self, op: &Op, container: &str) -> Result<()>;

    /// Stores an object, in place of one of the same name: one attempt, all of it or nothing. `expiry` is after how long the store deletes it by
    /// itself; a store that cannot do that keeps it.
    ///
    /// # Errors
    /// It is not stored; [`crate::error::Error::is_transient`] tells whether another attempt may succeed.
    async fn put_object(
        &self,
        op: &Op,
        name: &ObjectName,
        content: ObjectContent,
        metadata: &BackupMetadata,
        expiry: Option<Duration>,
    ) -> Result<()>;

    /// All of a small object; `None` when it, or its container, is not there.
    ///
    /// # Errors
    /// It cannot be read, or has more than `at_most` bytes.
    async fn get_object(&self, op: &Op, name: &ObjectName, at_most: usize) -> Result<Option<Vec<u8>>>;

    /// Names of the container's objects that begin with `prefix`, in order. A container that is not there has none.
    ///
    /// # Errors
    /// The store refused, or is out of reach.
    async fn list_objects(&self, op: &Op, container: &str, prefix: &str) -> Result<Vec<ObjectName>>;

    /// Deletes an object. Nothing there is success.
    ///
    /// # Errors
    /// It is still there.
    async fn delete_object(&self, op: &Op, name: &ObjectName) -> Result<()>;
}
