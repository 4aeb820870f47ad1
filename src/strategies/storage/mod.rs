//! Where backups are kept: [`Storage`], the names and places of objects, and the stream their bytes travel in.

mod location;
mod store;
mod stream;

pub use location::{Location, ObjectName};
pub use store::{Part, Segment, SegmentBody, Storage, StoredObject};
pub use stream::{ByteSender, ByteStream, byte_stream};
