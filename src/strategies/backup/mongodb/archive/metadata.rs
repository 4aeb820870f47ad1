//! [`Metadata`]: options and indexes of a collection, as text in an archive (mongo-tools, `mongodump/metadata_dump.go`).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mongodb::bson::{Binary, Bson, Document, doc};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use super::{ArchiveError, CollectionKind, CollectionMetadata, Namespace};

/// What is needed to make a collection again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// Options of `create`.
    pub options: Document,
    /// Specifications of its indexes, as `listIndexes` gives them.
    pub indexes: Vec<Document>,
    /// Its UUID in hexadecimal digits, if the server has them.
    pub uuid: Option<String>,
}

impl Metadata {
    /// As an archive announces it: canonical extended JSON, which keeps every type and every order.
    pub fn announce(&self, namespace: Namespace, kind: CollectionKind) -> CollectionMetadata {
        let mut text = Document::new();
        if !self.options.is_empty() {
            text.insert("options", self.options.clone());
        }
        text.extend(doc! { "indexes": self.indexes.clone(), "uuid": self.uuid.clone().unwrap_or_default() });
        text.extend(doc! { "collectionName": &namespace.collection, "type": kind.word() });
        let metadata = serde_json::to_string(&Canonical(&Bson::Document(text))).expect("every value of BSON has a form in extended JSON");
        CollectionMetadata { namespace, metadata, kind }
    }

    /// What an archive announces. Nothing for a collection without any.
    ///
    /// # Errors
    /// The text is not what tools write.
    pub fn of(collection: &CollectionMetadata) -> Result<Metadata, ArchiveError> {
        if collection.metadata.is_empty() {
            return Ok(Metadata::default());
        }
        let unreadable = || ArchiveError::Metadata(collection.namespace.clone());
        // In the order of the text, and with extended JSON made into what it stands for.
        let Ok(Bson::Document(mut text)) = serde_json::from_str(&collection.metadata) else { return Err(unreadable()) };
        let options = match text.remove("options") {
            Some(Bson::Document(options)) => options,
            None | Some(Bson::Null) => Document::new(),
            Some(_) => return Err(unreadable()),
        };
        let indexes = match text.remove("indexes") {
            Some(Bson::Array(indexes)) => indexes
                .into_iter()
                .map(|index| if let Bson::Document(index) = index { Ok(index) } else { Err(unreadable()) })
                .collect::<Result<_, _>>()?,
            None | Some(Bson::Null) => Vec::new(),
            Some(_) => return Err(unreadable()),
        };
        let uuid = text.get_str("uuid").ok().filter(|uuid| !uuid.is_empty()).map(str::to_owned);
        Ok(Metadata { options, indexes, uuid })
    }
}

/// Writes numbers with their types, and bytes; everything else has one form in extended JSON.
struct Canonical<'a>(&'a Bson);

impl Serialize for Canonical<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = |serializer: S, key: &str, text: String| {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(key, &text)?;
            map.end()
        };
        match self.0 {
            Bson::Int32(value) => number(serializer, "$numberInt", value.to_string()),
            Bson::Int64(value) => number(serializer, "$numberLong", value.to_string()),
            Bson::Double(value) => number(serializer, "$numberDouble", double(*value)),
            Bson::Document(document) => {
                let mut map = serializer.serialize_map(Some(document.len()))?;
                for (key, value) in document {
                    map.serialize_entry(key, &Canonical(value))?;
                }
                map.end()
            }
            Bson::Array(values) => {
                let mut sequence = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    sequence.serialize_element(&Canonical(value))?;
                }
                sequence.end()
            }
            // Its own form is that of JSON: a list of numbers.
            Bson::Binary(Binary { subtype, bytes }) => {
                let (base64, subtype) = (STANDARD.encode(bytes), format!("{:02x}", u8::from(*subtype)));
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("$binary", &BTreeMap::from([("base64", base64), ("subType", subtype)]))?;
                map.end()
            }
            other => other.serialize(serializer),
        }
    }
}

/// As the specification of extended JSON spells them: a whole number has its `.0`.
fn double(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => format!("{value:?}"),
    }
}
