//! [`ArchiveWriter`]: makes an archive, one collection after the other.

use super::prelude::BlockHeader;
use super::{CRC, Checksum, MAGIC, MAX_DOCUMENT, MIN_DOCUMENT, Namespace, Prelude, TERMINATOR};

/// Appends to a buffer that its owner empties as often as it likes.
#[derive(Debug, Default)]
pub struct ArchiveWriter {
    open: Option<Namespace>,
    checksum: Option<ChecksumState>,
}

/// `Digest` has no `Debug`.
struct ChecksumState(Checksum);

impl std::fmt::Debug for ChecksumState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checksum")
    }
}

impl ArchiveWriter {
    /// Begins an archive.
    pub fn begin(prelude: &Prelude, out: &mut Vec<u8>) -> ArchiveWriter {
        out.extend(MAGIC);
        out.extend(prelude.header.to_document().as_bytes());
        for collection in &prelude.collections {
            out.extend(collection.to_document().as_bytes());
        }
        out.extend(TERMINATOR);
        ArchiveWriter::default()
    }

    /// Begins a collection; the one before it must have ended.
    pub fn open(&mut self, namespace: &Namespace, out: &mut Vec<u8>) {
        debug_assert!(self.open.is_none(), "collections are written one after the other");
        out.extend(BlockHeader { namespace: namespace.clone(), end: None }.to_document().as_bytes());
        self.open = Some(namespace.clone());
        self.checksum = Some(ChecksumState(CRC.digest()));
    }

    /// Adds a document of the open collection. False, and nothing is added, when the bytes are none an archive can hold.
    #[must_use]
    pub fn document(&mut self, document: &[u8], out: &mut Vec<u8>) -> bool {
        let said = document.first_chunk::<4>().map(|length| u32::from_le_bytes(*length));
        let is_document = (MIN_DOCUMENT..=MAX_DOCUMENT).contains(&document.len())
            && said.is_some_and(|said| usize::try_from(said) == Ok(document.len()))
            && document.last() == Some(&0);
        let Some(ChecksumState(checksum)) = self.checksum.as_mut().filter(|_| is_document) else { return false };
        checksum.update(document);
        out.extend(document);
        true
    }

    /// Ends the open collection.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let (Some(namespace), Some(ChecksumState(checksum))) = (self.open.take(), self.checksum.take()) else { return };
        out.extend(TERMINATOR);
        out.extend(BlockHeader { namespace, end: Some(checksum.finalize()) }.to_document().as_bytes());
        out.extend(TERMINATOR);
    }
}
