//! What there is of a backup, and whether all of it is there.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::client::{Client, PATIENCE};
use super::container::Listed;
use super::large::{self, Kind};
use super::{headers, refusal};
use crate::error::Result;
use crate::op::Op;
use crate::strategies::storage::{ObjectName, Part, Segment, StoredObject, pieces};

impl Client {
    /// Size, checksum, metadata and parts; every part has been seen.
    pub(super) async fn inspect(&self, op: &Op, name: &ObjectName) -> Result<StoredObject> {
        let action = format!("look at the backup {name}");
        let head = self.find(op, &self.object(&action, Method::HEAD, name).patience(PATIENCE)).await?;
        let Some(head) = head else { return Err(refusal::failed(&action, "it is not there", false)) };
        let headers = head.headers();
        let tag = headers::etag(headers).unwrap_or_default();
        let (checksum, parts) = match large::kind(headers) {
            Kind::Single => {
                let part = Part { name: name.clone(), size: content_length(headers), md5: tag.clone() };
                (tag.clone(), vec![part])
            }
            Kind::Static => {
                let manifest = self.manifest(op, name).await?;
                self.see_all(op, &action, &manifest.segments).await?;
                (manifest.checksum, manifest.segments)
            }
            Kind::Dynamic { container, prefix } => {
                let parts = self.dynamic_parts(op, &action, name, &container, &prefix).await?;
                (pieces::checksum(parts.iter().map(|part| part.md5.as_str())), parts)
            }
        };
        let unknown = matches!(large::kind(headers), Kind::Dynamic { .. }) && large::is_unknown(&tag, parts.len());
        if checksum != tag && !unknown {
            return Err(refusal::failed(&action, format!("its checksum is {tag}, and that of its segments {checksum}"), false));
        }
        let size = parts.iter().map(|part| part.size).sum();
        Ok(StoredObject { checksum, size, metadata: headers::to_metadata(headers), parts })
    }

    /// Every object of the prefix. A gap in the numbers of our own segments is one that is missing.
    async fn dynamic_parts(&self, op: &Op, action: &str, name: &ObjectName, container: &str, prefix: &str) -> Result<Vec<Part>> {
        let listed = self.list(op, container, prefix).await?;
        let parts: Vec<Part> = listed.into_iter().map(|listed| part(container, listed)).collect();
        if container == name.container && prefix == name.segment_prefix() {
            let there: BTreeSet<&str> = parts.iter().map(|part| part.name.object.as_str()).collect();
            if let Some(missing) =
                (0..parts.len().max(1)).map(|index| name.segment(index)).find(|segment| !there.contains(segment.object.as_str()))
            {
                return Err(refusal::failed(action, format!("the segment {missing} is missing"), false));
            }
        }
        Ok(parts)
    }

    /// Compares what a manifest says with what is there: by listings, and one by one for what is not listed (yet).
    async fn see_all(&self, op: &Op, action: &str, segments: &[Segment]) -> Result<()> {
        let containers: BTreeSet<&str> = segments.iter().map(|segment| segment.name.container.as_str()).collect();
        for container in containers {
            let wanted: Vec<&Segment> = segments.iter().filter(|segment| segment.name.container == container).collect();
            let prefix = common_prefix(wanted.iter().map(|segment| segment.name.object.as_str()));
            let listed: BTreeMap<String, Listed> =
                self.list(op, container, &prefix).await?.into_iter().map(|listed| (listed.name.clone(), listed)).collect();
            for segment in wanted {
                let seen = listed.get(&segment.name.object).map(|listed| (listed.bytes, listed.hash.clone()));
                let same = |seen: &Option<(u64, String)>| matches!(seen, Some((size, md5)) if *size == segment.size && *md5 == segment.md5);
                if same(&seen) {
                    continue;
                }
                match self.see(op, action, &segment.name).await? {
                    None => return Err(refusal::failed(action, format!("the segment {} is missing", segment.name), false)),
                    seen if same(&seen) => {}
                    Some(_) => {
                        return Err(refusal::failed(action, format!("the segment {} is not the one that was stored", segment.name), false));
                    }
                }
            }
        }
        Ok(())
    }

    async fn see(&self, op: &Op, action: &str, name: &ObjectName) -> Result<Option<(u64, String)>> {
        let head = self.find(op, &self.object(action, Method::HEAD, name)).await?;
        Ok(head.map(|head| (content_length(head.headers()), headers::etag(head.headers()).unwrap_or_default())))
    }
}

fn part(container: &str, listed: Listed) -> Part {
    Part { name: ObjectName::new(container, listed.name), size: listed.bytes, md5: listed.hash }
}

fn content_length(headers: &HeaderMap) -> u64 {
    headers::text(headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn common_prefix<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let common = |left: &'a str, right: &'a str| {
        let end = left.char_indices().zip(right.chars()).find(|((_, one), other)| one != other).map(|((index, _), _)| index);
        left.get(..end.unwrap_or(left.len().min(right.len()))).unwrap_or_default()
    };
    names.reduce(common).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        assert_eq!(common_prefix(["b1_00000000", "b1_00000012", "b1_00000001"].into_iter()), "b1_000000");
        assert_eq!(common_prefix(["one"].into_iter()), "one");
        assert_eq!(common_prefix(["übel", "über", "üb"].into_iter()), "üb");
        assert_eq!(common_prefix(["a", "b"].into_iter()), "");
    }
}
