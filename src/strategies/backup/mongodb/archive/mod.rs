//! The format of `mongodump --archive` (mongo-tools, `common/archive/spec.md`): a prelude that names every collection, then blocks of documents.
//!
//! A block is a BSON header, BSON documents, and the terminator. The first block is the prelude; each other one belongs to one collection, and the
//! last one of a collection says that it is the last, with the checksum of all its documents. Blocks of several collections may take turns.
//!
//! Reader and writer are pure: bytes in, bytes out. Neither holds more than the prelude and one document.

mod error;
mod metadata;
mod prelude;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use error::ArchiveError;
pub use metadata::Metadata;
pub use prelude::{CollectionKind, CollectionMetadata, Header, Namespace, Prelude};
pub use reader::{ArchiveReader, Event};
pub use writer::ArchiveWriter;

use crc::{CRC_64_XZ, Crc, Digest, Table};

/// The first bytes of every archive.
pub const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
/// The one version of the format there is.
const FORMAT_VERSION: &str = "0.1";
/// The end of a block: no document has this length.
const TERMINATOR: [u8; 4] = [0xff; 4];
/// The longest document a server keeps, and what its oplog adds to one (src/mongo/bson/util/builder.h: `BSONObjMaxInternalSize`).
pub const MAX_DOCUMENT: usize = (16 << 20) + (16 << 10);
/// The shortest one: its length and its end.
pub const MIN_DOCUMENT: usize = 5;

/// What Go calls CRC-64-ECMA is reflected and inverted, and so the one of xz.
static CRC: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_XZ);

/// Checksum of a collection's documents.
type Checksum = Digest<'static, u64, Table<16>>;
