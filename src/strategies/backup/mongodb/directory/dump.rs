//! [`Dump`]: what the files of `mongodump --out` are (mongo-tools, `mongorestore/filepath.go`).

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use super::super::archive::{CollectionKind, CollectionMetadata, Header, Metadata, Namespace, Prelude};
use crate::error::Result;
use crate::strategies::storage::unquote;

/// Name of the directory that the Python agent had made (mongo_impl.py: `MONGO_DUMP_DIR`).
const ROOT: &str = "dump";

/// What one file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum File {
    /// The documents of a collection.
    Data(Namespace),
    /// Its options and indexes.
    Metadata(Namespace),
    /// Of no use.
    Other,
}

/// A file by its path: `<root>/<database>/<collection>.bson` or `.metadata.json`.
pub(super) fn file(path: &str) -> File {
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    let (Some(name), Some(database), above) = (parts.next(), parts.next(), parts.next()) else { return File::Other };
    if database == ROOT && above != Some(ROOT) {
        return File::Other;
    }
    let namespace = |escaped: &str| Namespace::new(database, unescaped(escaped));
    match (name.strip_suffix(".metadata.json"), name.strip_suffix(".bson")) {
        (Some(escaped), _) => File::Metadata(namespace(escaped)),
        (None, Some(escaped)) => File::Data(namespace(escaped)),
        (None, None) => File::Other,
    }
}

/// Names are escaped as in the query of a URL.
fn unescaped(name: &str) -> String {
    unquote(name.replace('+', " ").as_bytes())
}

/// What the server keeps for itself, and makes by itself.
fn is_left_out(namespace: &Namespace) -> bool {
    let Some(own) = namespace.collection.strip_prefix("system.") else { return false };
    namespace.database != "admin" && own != "js" && !own.starts_with("buckets.")
}

/// Collections with the text about them, and where their documents are.
#[derive(Debug, Default)]
pub(super) struct Dump {
    collections: BTreeMap<Namespace, (Option<String>, Option<Utf8PathBuf>)>,
}

impl Dump {
    pub(super) fn add_metadata(&mut self, namespace: Namespace, text: String) {
        self.collections.entry(namespace).or_default().0 = Some(text);
    }

    pub(super) fn add_data(&mut self, namespace: Namespace, file: Utf8PathBuf) {
        self.collections.entry(namespace).or_default().1 = Some(file);
    }

    /// Announces it all as an archive does, and tells where the documents of each collection are.
    ///
    /// # Errors
    /// The text about a collection cannot be read.
    pub(super) fn take_apart(self) -> Result<(Prelude, Vec<(Namespace, Utf8PathBuf)>)> {
        let (mut collections, mut data) = (Vec::new(), Vec::new());
        for (found, (metadata, file)) in self.collections.into_iter().filter(|(namespace, _)| !is_left_out(namespace)) {
            let metadata = metadata.unwrap_or_default();
            // Long names are cut in names of files.
            let told = serde_json::from_str::<serde_json::Value>(&metadata).ok();
            let own = told.as_ref().and_then(|told| told["collectionName"].as_str()).map(str::to_owned);
            let namespace = Namespace::new(found.database, own.unwrap_or(found.collection));
            if let Some(file) = file {
                data.push((namespace.clone(), file));
            }
            if namespace.collection.starts_with("system.buckets.") {
                // They come with their time series.
                continue;
            }
            let mut collection = CollectionMetadata { namespace, metadata, kind: CollectionKind::Collection };
            let options = Metadata::of(&collection)?.options;
            if options.contains_key("viewOn") {
                collection.kind = CollectionKind::View;
            } else if options.contains_key("timeseries") {
                collection.kind = CollectionKind::TimeSeries;
            }
            collections.push(collection);
        }
        let header = Header { concurrent_collections: 1, server_version: String::new(), tool_version: String::new() };
        Ok((Prelude { header, collections }, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_paths() {
        let namespace = |database: &str, collection: &str| Namespace::new(database, collection);
        assert_eq!(file("/var/lib/mongodb/dump/shop/it%27s+a%2Fname.bson"), File::Data(namespace("shop", "it's a/name")));
        assert_eq!(file("var/lib/mongodb/dump/admin/system.users.metadata.json"), File::Metadata(namespace("admin", "system.users")));
        assert_eq!(file("/d/dump/dump/c.bson"), File::Data(namespace("dump", "c")));
        for other in ["/d/dump/oplog.bson", "/d/dump/shop/prelude.json", "x", ""] {
            assert_eq!(file(other), File::Other, "{other}");
        }
    }

    #[test]
    fn a_dump_is_announced_as_an_archive_is() {
        let mut dump = Dump::default();
        let name = |collection: &str| Namespace::new("shop", collection);
        dump.add_metadata(name("view"), r#"{"options":{"viewOn":"c"},"indexes":[]}"#.into());
        dump.add_metadata(name("cut%24x"), r#"{"collectionName":"whole"}"#.into());
        for data in ["cut%24x", "system.buckets.weather", "system.profile"] {
            dump.add_data(name(data), data.into());
        }
        dump.add_metadata(name("weather"), r#"{"options":{"timeseries":{"timeField":"at"}}}"#.into());
        let (prelude, data) = dump.take_apart().unwrap();
        let kinds: Vec<_> = prelude.collections.iter().map(|found| (found.namespace.collection.as_str(), found.kind)).collect();
        assert_eq!(kinds, [("whole", CollectionKind::Collection), ("view", CollectionKind::View), ("weather", CollectionKind::TimeSeries)]);
        assert_eq!(data, [(name("whole"), "cut%24x".into()), (name("system.buckets.weather"), "system.buckets.weather".into())]);
    }
}
