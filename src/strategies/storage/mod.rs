//! Where backups ([`Storage`]) and published logs ([`ObjectStore`]) are kept: the names and places of objects, and the stream their bytes travel in.

mod local;
mod local_objects;
mod location;
mod objects;
mod open;
mod pieces;
mod quoting;
mod store;
mod stream;
mod swift;

pub use location::{Location, ObjectName};
pub use objects::{ObjectContent, ObjectStore};
pub use open::{StorageRequest, is_local, object_store_for, storage_for};
pub(crate) use quoting::unquote;
pub use store::{Part, Segment, SegmentBody, Storage, StoredObject, Visit};
pub use stream::{ByteSender, ByteStream, byte_stream};
