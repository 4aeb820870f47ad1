//! [`Prelude`]: which collections an archive has.

use std::fmt;

use mongodb::bson::{RawDocument, RawDocumentBuf, rawdoc};

/// A database's collection. The oplog of an archive has no database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace {
    /// The database.
    pub database: String,
    /// The collection.
    pub collection: String,
}

impl Namespace {
    /// Of these names.
    pub fn new(database: impl Into<String>, collection: impl Into<String>) -> Namespace {
        Namespace { database: database.into(), collection: collection.into() }
    }

    /// Where an archive has the oplog.
    pub fn oplog() -> Namespace {
        Namespace::new("", "oplog")
    }

    /// True for the archive's oplog.
    pub fn is_oplog(&self) -> bool {
        self.database.is_empty() && self.collection == "oplog"
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.collection)
    }
}

/// What a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CollectionKind {
    /// It has documents.
    #[default]
    Collection,
    /// It shows those of others.
    View,
    /// Its documents are in the buckets of `system.buckets.<name>`.
    TimeSeries,
}

impl CollectionKind {
    /// In the words of `listCollections`; archives leave the first one empty, or not.
    pub fn parse(word: &str) -> Option<CollectionKind> {
        match word {
            "" | "collection" => Some(CollectionKind::Collection),
            "view" => Some(CollectionKind::View),
            "timeseries" => Some(CollectionKind::TimeSeries),
            _ => None,
        }
    }

    /// In the words of `listCollections`.
    pub fn word(self) -> &'static str {
        match self {
            CollectionKind::Collection => "collection",
            CollectionKind::View => "view",
            CollectionKind::TimeSeries => "timeseries",
        }
    }
}

/// A collection as the prelude announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionMetadata {
    /// Its name.
    pub namespace: Namespace,
    /// Options and indexes, as [`super::Metadata`] writes them; empty for what has none, as the oplog.
    pub metadata: String,
    /// What it is.
    pub kind: CollectionKind,
}

impl CollectionMetadata {
    /// Under which name its documents are in the archive.
    pub fn data_namespace(&self) -> Namespace {
        match self.kind {
            CollectionKind::TimeSeries => {
                Namespace::new(self.namespace.database.clone(), format!("system.buckets.{}", self.namespace.collection))
            }
            CollectionKind::Collection | CollectionKind::View => self.namespace.clone(),
        }
    }

    pub(super) fn to_document(&self) -> RawDocumentBuf {
        rawdoc! {
            "db": self.namespace.database.as_str(),
            "collection": self.namespace.collection.as_str(),
            "metadata": self.metadata.as_str(),
            "size": 0_i32,
            "type": self.kind.word(),
        }
    }

    pub(super) fn from_document(document: &RawDocument) -> Option<CollectionMetadata> {
        let text = |key: &str| document.get_str(key).ok().map(str::to_owned);
        Some(CollectionMetadata {
            namespace: Namespace { database: text("db")?, collection: text("collection")? },
            metadata: text("metadata")?,
            kind: CollectionKind::parse(&text("type").unwrap_or_default())?,
        })
    }
}

/// Who made an archive, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// How many collections take turns at most.
    pub concurrent_collections: i32,
    /// Version of the server.
    pub server_version: String,
    /// Version of the tool.
    pub tool_version: String,
}

impl Header {
    pub(super) fn to_document(&self) -> RawDocumentBuf {
        rawdoc! {
            "concurrent_collections": self.concurrent_collections,
            "version": super::FORMAT_VERSION,
            "server_version": self.server_version.as_str(),
            "tool_version": self.tool_version.as_str(),
        }
    }
}

/// The beginning of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prelude {
    /// Who made it.
    pub header: Header,
    /// What it has, in this order.
    pub collections: Vec<CollectionMetadata>,
}

/// The first document of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) namespace: Namespace,
    /// There is no more, and this is the checksum of what there was.
    pub(super) end: Option<u64>,
}

impl BlockHeader {
    pub(super) fn to_document(&self) -> RawDocumentBuf {
        rawdoc! {
            "db": self.namespace.database.as_str(),
            "collection": self.namespace.collection.as_str(),
            "EOF": self.end.is_some(),
            "CRC": i64::from_le_bytes(self.end.unwrap_or_default().to_le_bytes()),
        }
    }

    pub(super) fn from_document(document: &RawDocument) -> Option<BlockHeader> {
        let text = |key: &str| document.get_str(key).ok().map(str::to_owned);
        let namespace = Namespace { database: text("db")?, collection: text("collection")? };
        let checksum = u64::from_le_bytes(document.get_i64("CRC").ok()?.to_le_bytes());
        let end = document.get_bool("EOF").ok()?.then_some(checksum);
        (!namespace.collection.is_empty()).then_some(BlockHeader { namespace, end })
    }
}
