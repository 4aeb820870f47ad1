//! Where backups are kept: [`Storage`], the names and places of objects, and the stream their bytes travel in.

mod local;
mod location;
mod open;
mod pieces;
mod quoting;
mod store;
mod stream;
mod swift;

pub use location::{Location, ObjectName};
pub use open::{StorageRequest, storage_for};
pub use store::{Part, Segment, SegmentBody, Storage, StoredObject};
pub use stream::{ByteSender, ByteStream, byte_stream};
