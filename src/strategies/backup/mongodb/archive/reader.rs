//! [`ArchiveReader`]: takes an archive apart while it arrives.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mongodb::bson::RawDocument;

use super::prelude::BlockHeader;
use super::{
    ArchiveError, CRC, Checksum, CollectionMetadata, FORMAT_VERSION, Header, MAGIC, MAX_DOCUMENT, MIN_DOCUMENT, Namespace, Prelude,
    TERMINATOR,
};

/// The prelude of a server with a hundred thousand collections is a tenth of this.
const MAX_PRELUDE: usize = 512 << 20;

/// What comes out of an archive, in this order: the prelude, then documents and ends of collections.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Which collections there are.
    Prelude(Arc<Prelude>),
    /// A document. Its length and its end are right; whether its inside is, the checksum tells at the end of its collection.
    Document(Arc<Namespace>, Bytes),
    /// All documents of a collection have come, and their checksum is right.
    End(Arc<Namespace>),
}

/// Where in the archive.
#[derive(Debug)]
enum Place {
    Magic,
    Header,
    Collections {
        header: Header,
        found: Vec<CollectionMetadata>,
        bytes: usize,
    },
    BetweenBlocks,
    Block(Arc<Namespace>),
    /// After the header of a collection's last block, which has no documents.
    LastBlock,
}

/// Progress of one collection.
enum Collection {
    Announced,
    Open(Arc<Namespace>, Checksum),
    Ended,
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Collection::Announced => "announced",
            Collection::Open(..) => "open",
            Collection::Ended => "ended",
        })
    }
}

/// A document, or the end of a block.
enum Item {
    Document(Bytes),
    Terminator,
}

/// [`Self::push`] bytes as they come, and take [`Self::next_event`] until there is none; [`Self::finish`] after the last ones.
#[derive(Debug)]
pub struct ArchiveReader {
    buffer: BytesMut,
    place: Place,
    /// Bytes taken from the buffer so far.
    at: u64,
    collections: HashMap<Namespace, Collection>,
}

impl Default for ArchiveReader {
    fn default() -> ArchiveReader {
        ArchiveReader { buffer: BytesMut::new(), place: Place::Magic, at: 0, collections: HashMap::new() }
    }
}

impl ArchiveReader {
    /// The next bytes of the archive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What the bytes so far tell; `None` when more are needed.
    ///
    /// # Errors
    /// They are no archive, or a damaged one. Nothing sensible follows.
    pub fn next_event(&mut self) -> Result<Option<Event>, ArchiveError> {
        loop {
            if let Place::Magic = self.place {
                let Some(magic) = self.buffer.first_chunk::<4>() else {
                    return if MAGIC.starts_with(&self.buffer) { Ok(None) } else { Err(ArchiveError::NoArchive) };
                };
                if *magic != MAGIC {
                    return Err(ArchiveError::NoArchive);
                }
                self.take(MAGIC.len());
                self.place = Place::Header;
            }
            let at = self.at;
            let Some(item) = self.item()? else { return Ok(None) };
            if let Some(event) = self.see(item, at)? {
                return Ok(Some(event));
            }
        }
    }

    /// There are no more bytes: was it all?
    ///
    /// # Errors
    /// It was not.
    pub fn finish(&self) -> Result<(), ArchiveError> {
        match self.place {
            Place::BetweenBlocks if self.buffer.is_empty() => {}
            _ => return Err(ArchiveError::Truncated(self.at + self.buffer.len() as u64)),
        }
        let unfinished = self.collections.iter().filter(|(_, state)| !matches!(state, Collection::Ended)).map(|(name, _)| name).min();
        unfinished.map_or(Ok(()), |name| Err(ArchiveError::Unfinished(name.clone())))
    }

    fn take(&mut self, count: usize) -> Bytes {
        self.at += count as u64;
        self.buffer.split_to(count).freeze()
    }

    fn item(&mut self) -> Result<Option<Item>, ArchiveError> {
        let Some(first) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        if *first == TERMINATOR {
            self.buffer.advance(TERMINATOR.len());
            self.at += TERMINATOR.len() as u64;
            return Ok(Some(Item::Terminator));
        }
        let said = u32::from_le_bytes(*first);
        let length = usize::try_from(said).unwrap_or(usize::MAX);
        if !(MIN_DOCUMENT..=MAX_DOCUMENT).contains(&length) {
            return Err(ArchiveError::Length { length: said, at: self.at });
        }
        if self.buffer.len() < length {
            self.buffer.reserve(length - self.buffer.len());
            return Ok(None);
        }
        Ok(Some(Item::Document(self.take(length))))
    }

    fn see(&mut self, item: Item, at: u64) -> Result<Option<Event>, ArchiveError> {
        match (std::mem::replace(&mut self.place, Place::BetweenBlocks), item) {
            (Place::Magic | Place::Header, Item::Document(document)) => {
                let header = read_header(&document, at)?;
                self.place = Place::Collections { header, found: Vec::new(), bytes: document.len() };
                Ok(None)
            }
            (Place::Collections { header, mut found, bytes }, Item::Document(document)) => {
                let bytes = bytes + document.len();
                if bytes > MAX_PRELUDE {
                    return Err(ArchiveError::Prelude(MAX_PRELUDE));
                }
                let announced = raw(&document).and_then(CollectionMetadata::from_document);
                found.push(announced.ok_or(ArchiveError::Header { what: "announcement of a collection", at })?);
                self.place = Place::Collections { header, found, bytes };
                Ok(None)
            }
            (Place::Collections { header, found, .. }, Item::Terminator) => {
                self.collections = found.iter().map(|collection| (collection.data_namespace(), Collection::Announced)).collect();
                Ok(Some(Event::Prelude(Arc::new(Prelude { header, collections: found }))))
            }
            (Place::BetweenBlocks, Item::Document(document)) => {
                let header = raw(&document).and_then(BlockHeader::from_document);
                self.begin_block(header.ok_or(ArchiveError::Header { what: "header of a collection's documents", at })?)
            }
            (Place::Block(namespace), Item::Document(document)) => {
                if document.last() != Some(&0) {
                    return Err(ArchiveError::Document { namespace: (*namespace).clone(), at });
                }
                if let Some(Collection::Open(_, checksum)) = self.collections.get_mut(&*namespace) {
                    checksum.update(&document);
                }
                self.place = Place::Block(Arc::clone(&namespace));
                Ok(Some(Event::Document(namespace, document)))
            }
            (Place::Block(_) | Place::LastBlock, Item::Terminator) => Ok(None),
            (Place::LastBlock, Item::Document(_)) => Err(ArchiveError::Header { what: "end of a collection", at }),
            (Place::Magic | Place::Header | Place::BetweenBlocks, Item::Terminator) => {
                Err(ArchiveError::Header { what: "header of a block", at })
            }
        }
    }

    fn begin_block(&mut self, header: BlockHeader) -> Result<Option<Event>, ArchiveError> {
        let Some(state) = self.collections.get_mut(&header.namespace) else { return Err(ArchiveError::Unexpected(header.namespace)) };
        let name = match state {
            Collection::Ended => return Err(ArchiveError::Unexpected(header.namespace)),
            Collection::Open(name, _) => Arc::clone(name),
            Collection::Announced => {
                let name = Arc::new(header.namespace.clone());
                *state = Collection::Open(Arc::clone(&name), CRC.digest());
                name
            }
        };
        let Some(expected) = header.end else {
            self.place = Place::Block(name);
            return Ok(None);
        };
        let checksum = match std::mem::replace(state, Collection::Ended) {
            Collection::Open(_, checksum) => checksum.finalize(),
            Collection::Announced | Collection::Ended => return Err(ArchiveError::Unexpected(header.namespace)),
        };
        if checksum != expected {
            return Err(ArchiveError::Checksum(header.namespace));
        }
        self.place = Place::LastBlock;
        Ok(Some(Event::End(name)))
    }
}

fn raw(document: &Bytes) -> Option<&RawDocument> {
    RawDocument::from_bytes(document).ok()
}

fn read_header(document: &Bytes, at: u64) -> Result<Header, ArchiveError> {
    let unreadable = || ArchiveError::Header { what: "header of the archive", at };
    let raw = raw(document).ok_or_else(unreadable)?;
    let text = |key: &str| raw.get_str(key).map(str::to_owned).map_err(|_| unreadable());
    let version = text("version")?;
    if version != FORMAT_VERSION {
        return Err(ArchiveError::Version(version.chars().take(20).collect()));
    }
    Ok(Header {
        concurrent_collections: raw.get_i32("concurrent_collections").map_err(|_| unreadable())?,
        server_version: text("server_version")?,
        tool_version: text("tool_version")?,
    })
}
