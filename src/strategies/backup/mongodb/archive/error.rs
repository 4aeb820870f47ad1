//! [`ArchiveError`]: why bytes are no archive.

use super::{MAX_DOCUMENT, Namespace};
use crate::error::Error;

/// What is wrong with an archive. No text holds any of its data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It begins with something else.
    #[error("it is not an archive of mongodump: is it a backup of another datastore?")]
    NoArchive,
    /// A version nobody has seen yet.
    #[error("it has version {0} of mongodump's archive format, and only 0.1 is known: restore it with a newer agent")]
    Version(String),
    /// It ends in the middle.
    #[error("it ends in the middle, after {0} bytes")]
    Truncated(u64),
    /// Where a document or the end of a block must be, there is neither.
    #[error("{length} is no length of a document (at most {MAX_DOCUMENT}), at byte {at}: it is damaged")]
    Length {
        /// What was read for one.
        length: u32,
        /// Where.
        at: u64,
    },
    /// The document of a header cannot be read.
    #[error("the {what} at byte {at} cannot be read: it is damaged")]
    Header {
        /// Which.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// A document that does not end as documents do.
    #[error("a document of {namespace} at byte {at} is damaged")]
    Document {
        /// Whose.
        namespace: Namespace,
        /// Where.
        at: u64,
    },
    /// Likewise, in a collection's file of a dump.
    #[error("a document of {0} in the dump is damaged, or ends in the middle")]
    DumpedDocument(Namespace),
    /// The prelude does not name a collection that has documents, or it has ended before.
    #[error("there are documents of {0}, which the archive does not announce or has ended already: it is damaged")]
    Unexpected(Namespace),
    /// The documents are not those that were written.
    #[error("the checksum of {0} is not that of its documents: it is damaged")]
    Checksum(Namespace),
    /// Collections that never ended.
    #[error("it ends before the end of {0}: it is not whole")]
    Unfinished(Namespace),
    /// More names than any server has.
    #[error("its prelude is larger than {0} bytes: it is damaged")]
    Prelude(usize),
    /// The text about a collection's options and indexes cannot be read.
    #[error("what it says of options and indexes of {0} cannot be read: it is damaged")]
    Metadata(Namespace),
}

impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Error {
        Error::Storage { action: "read the archive".into(), reason: error.to_string(), transient: false }
    }
}
