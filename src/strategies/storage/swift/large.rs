//! Large objects: what a manifest refers to, and the names of the pieces.

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::client::Client;
use super::container::split_path;
use super::{headers, refusal};
use crate::error::Result;
use crate::op::Op;
use crate::strategies::storage::pieces::checksum;
use crate::strategies::storage::{ObjectName, Segment};

/// Manifests in manifests in manifests: Swift follows ten.
const DEEPEST: usize = 10;
/// What kind of object answers to a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A list of segments.
    Static,
    /// Every object of `container` whose name begins with `prefix`.
    Dynamic { container: String, prefix: String },
    /// Bytes.
    Single,
}

/// Reads it off the headers of a HEAD.
pub(super) fn kind(headers: &HeaderMap) -> Kind {
    if headers::text(headers, "x-static-large-object").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Kind::Static;
    }
    match headers.get("x-object-manifest").and_then(|value| split_path(&String::from_utf8_lossy(value.as_bytes()), true)) {
        Some((container, prefix)) => Kind::Dynamic { container, prefix },
        None => Kind::Single,
    }
}

/// Whether Swift has no entity tag for a dynamic manifest: it computes none of more segments than a listing has (10000, or fewer), and the answer
/// then has that of the empty object a manifest is.
pub(super) fn is_unknown(tag: &str, segments: usize) -> bool {
    const EMPTY: &str = "d41d8cd98f00b204e9800998ecf8427e";
    const SMALLEST_LISTING: usize = 1000;
    segments > SMALLEST_LISTING && (tag.is_empty() || tag == EMPTY)
}

/// A manifest as Swift gives it.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Entity tag of the whole.
    pub(super) checksum: String,
    /// Segments, those of nested manifests in their places.
    pub(super) segments: Vec<Segment>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: Option<String>,
    hash: Option<String>,
    bytes: Option<u64>,
    range: Option<String>,
    #[serde(default)]
    sub_slo: bool,
}

impl Client {
    /// Reads the manifest of a static large object, and those it refers to.
    pub(super) async fn manifest(&self, op: &Op, name: &ObjectName) -> Result<Manifest> {
        self.manifest_at(op, name, DEEPEST).await
    }

    async fn manifest_at(&self, op: &Op, name: &ObjectName, depth: usize) -> Result<Manifest> {
        let action = format!("read the manifest {name}");
        let wrong = |reason: String| refusal::failed(&action, reason, false);
        if depth == 0 {
            return Err(wrong("manifests refer to each other too deeply".to_owned()));
        }
        let call = self.object(&action, Method::GET, name).query(&[("multipart-manifest", "get"), ("format", "json")]);
        let response = self.find(op, &call).await?.ok_or_else(|| wrong("it is not there".to_owned()))?;
        let entries: Vec<Entry> = self.json(op, &action, response).await?;
        let mut tags = Vec::with_capacity(entries.len());
        let mut segments = Vec::with_capacity(entries.len());
        for entry in entries {
            let Entry { name: Some(path), hash: Some(md5), bytes: Some(size), range: None, sub_slo } = entry else {
                return Err(wrong("it has pieces of objects, or data of its own, which is no form of a backup".to_owned()));
            };
            let (container, object) = split_path(&path, false).ok_or_else(|| wrong(format!("it refers to '{path}'")))?;
            let name = ObjectName::new(container, object);
            if sub_slo {
                let nested = Box::pin(self.manifest_at(op, &name, depth - 1)).await?;
                if nested.checksum != md5 {
                    return Err(wrong(format!("{name} is not the manifest it was (checksum {}, and not {md5})", nested.checksum)));
                }
                segments.extend(nested.segments);
            } else {
                segments.push(Segment { name, size, md5: md5.clone() });
            }
            tags.push(md5);
        }
        Ok(Manifest { checksum: checksum(tags.iter().map(String::as_str)), segments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(reqwest::header::HeaderName::from_static(name), value.parse().unwrap())])
        };
        assert_eq!(kind(&headers("x-static-large-object", "True")), Kind::Static);
        let dynamic = Kind::Dynamic { container: "c".into(), prefix: "b 1_".into() };
        assert_eq!(kind(&headers("x-object-manifest", "c/b%201_")), dynamic);
        assert_eq!(kind(&HeaderMap::new()), Kind::Single);
    }
}
