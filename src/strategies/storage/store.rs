//! [`Storage`]: the few verbs a backup needs of an object store. Retrying, hashing and checking content are not here: they are the same for all
//! (`strategies::backup`).

use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;

use super::{ByteStream, Location, ObjectName};
use crate::error::Result;
use crate::model::BackupMetadata;
use crate::op::Op;

/// A stored segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name.
    pub name: ObjectName,
    /// Its size, in bytes.
    pub size: u64,
    /// MD5 of its content: 32 lower-case hexadecimal digits.
    pub md5: String,
}

/// A piece of an object that can be read and checked by itself.
pub type Part = Segment;

/// The content of a segment on its way to storage. Its size may not be known before it ends.
#[derive(Debug)]
pub struct SegmentBody {
    /// The bytes.
    pub bytes: ByteStream,
    /// Their number, where it is known: a segment sent again.
    pub size: Option<u64>,
}

/// What is known of a stored backup before a byte of it is read.
#[derive(Debug, Clone)]
pub struct StoredObject {
    /// Its checksum, as Trove has it: the MD5 of the content of a single object; the MD5 of the segments' MD5s (hexadecimal, in a row) of a large
    /// one, or, of more segments than one manifest of Swift can have, that of the MD5s of its parts. Storage has compared it with its parts.
    pub checksum: String,
    /// All bytes.
    pub size: u64,
    /// What is kept with it.
    pub metadata: BackupMetadata,
    /// Its segments in order, or itself.
    pub parts: Vec<Part>,
}

/// What a look at a store without any backup in mind came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// What there is, for a person.
    pub found: String,
    /// The time it is where the store is, to the second.
    pub time: Option<SystemTime>,
}

/// An object store. One value serves one request: it has that request's credentials.
#[async_trait]
pub trait Storage: Send + Sync + fmt::Debug {
    /// Where an object of this name is, or will be.
    fn location(&self, name: &ObjectName) -> String;

    /// Whether the store is there and lets this caller in: looks for the container, and makes nothing.
    ///
    /// # Errors
    /// The store refused, or is out of reach.
    async fn visit(&self, op: &Op, container: &str) -> Result<Visit>;

    /// Makes sure that the container is there.
    ///
    /// # Errors
    /// The store refused, or is out of reach.
    async fn ensure_container(&self, op: &Op, container: &str) -> Result<()>;

    /// Stores one segment: one attempt. Returns the MD5 the store has computed of what it received.
    ///
    /// # Errors
    /// It is not stored; [`crate::error::Error::is_transient`] tells whether another attempt may succeed.
    async fn put_segment(&self, op: &Op, name: &ObjectName, body: SegmentBody) -> Result<String>;

    /// Makes the segments one object with this metadata, the last step of a backup, and returns its checksum as the store has it,
    /// compared with what was sent. A lone segment may become the object itself.
    ///
    /// # Errors
    /// There is no object; the segments are still there.
    async fn put_manifest(&self, op: &Op, name: &ObjectName, segments: &[Segment], metadata: &BackupMetadata) -> Result<String>;

    /// Deletes the object, whole or not, and every segment of it. Nothing there is success.
    ///
    /// # Errors
    /// Something is still there.
    async fn delete(&self, op: &Op, name: &ObjectName) -> Result<()>;

    /// What there is of an object. Its checksum is that of its parts, all of which are there: an implementation has compared them.
    ///
    /// # Errors
    /// It is not there, or one of its segments is not, or is another.
    async fn inspect(&self, op: &Op, location: &Location) -> Result<StoredObject>;

    /// Reads a part from `offset` on: one attempt.
    ///
    /// # Errors
    /// It cannot be opened; what breaks later is the stream's error.
    async fn read(&self, op: &Op, part: &Part, offset: u64) -> Result<ByteStream>;
}
