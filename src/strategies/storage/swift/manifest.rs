//! The last step of a backup: its segments become one object.

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Serialize;

use super::auth::Refused;
use super::client::{Client, PATIENCE};
use super::{headers, large, refusal};
use crate::config::ManifestKind;
use crate::error::{Error, Result};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::storage::quoting::quote;
use crate::strategies::storage::{ObjectName, Segment, pieces};

#[derive(Serialize)]
struct Entry {
    path: String,
    etag: String,
    size_bytes: u64,
}

impl Entry {
    fn of(segment: &Segment) -> Self {
        Entry { path: segment.name.to_string(), etag: segment.md5.clone(), size_bytes: segment.size }
    }
}

impl Client {
    /// Makes the segments the object `name`, looks at it, and returns its checksum. May be repeated.
    pub(super) async fn put_manifest(
        &self,
        op: &Op,
        kind: ManifestKind,
        name: &ObjectName,
        segments: &[Segment],
        metadata: &BackupMetadata,
    ) -> Result<String> {
        let meta = headers::from_metadata(metadata)?;
        // A static manifest refuses empty segments, and they add nothing.
        let mut used: Vec<&Segment> = segments.iter().filter(|segment| segment.size > 0).collect();
        used.extend(segments.first().filter(|_| used.is_empty()));
        let checksum = match (kind, used.as_slice()) {
            (_, []) => return Err(refusal::failed(&format!("store the manifest {name}"), "there are no segments", false)),
            (ManifestKind::Dlo, _) => {
                self.put_dynamic(op, name, meta).await?;
                pieces::checksum(segments.iter().map(|segment| segment.md5.as_str()))
            }
            (ManifestKind::Slo, [lone]) => {
                self.copy_lone(op, name, lone, meta).await?;
                lone.md5.clone()
            }
            (ManifestKind::Slo, _) => self.put_static(op, name, used.into_iter().map(Entry::of).collect(), meta).await?,
        };
        self.check(op, name, &checksum, segments.len(), metadata).await?;
        self.drop_needless(op, kind, name, segments).await;
        Ok(checksum)
    }

    /// An object without bytes that stands for all objects of the prefix.
    async fn put_dynamic(&self, op: &Op, name: &ObjectName, mut meta: HeaderMap) -> Result<()> {
        let action = format!("store the manifest {name}");
        let prefix = format!("{}/{}", quote(&name.container), quote(&name.segment_prefix()));
        let prefix = HeaderValue::from_str(&prefix).map_err(|_| refusal::failed(&action, "its name cannot be a header", false))?;
        meta.insert("x-object-manifest", prefix);
        self.send(op, &self.object(&action, Method::PUT, name).headers(meta)).await.map(drop)
    }

    /// Swift copies the segment to the object. The segment is there until the copy has been looked at.
    async fn copy_lone(&self, op: &Op, name: &ObjectName, segment: &Segment, mut meta: HeaderMap) -> Result<()> {
        let action = format!("make the segment {} the object {name}", segment.name);
        let from = format!("{}/{}", quote(&segment.name.container), quote(&segment.name.object));
        let from = HeaderValue::from_str(&from).map_err(|_| refusal::failed(&action, "its name cannot be a header", false))?;
        meta.insert("x-copy-from", from);
        let call = self.object(&action, Method::PUT, name).headers(meta).patience(PATIENCE);
        match self.find(op, &call).await? {
            Some(_) => Ok(()),
            // An earlier attempt whose answer was lost may have got as far as removing the segment: the object tells.
            None if self.find(op, &self.object(&action, Method::HEAD, name)).await?.is_some() => Ok(()),
            None => Err(refusal::failed(&action, "the segment is not there", false)),
        }
    }

    /// One list of segments, or lists of lists where Swift takes no list that long.
    async fn put_static(&self, op: &Op, name: &ObjectName, mut entries: Vec<Entry>, meta: HeaderMap) -> Result<String> {
        let limit = self.manifest_limit(op).await?;
        let mut index = 0;
        while entries.len() > limit {
            let mut lists = Vec::new();
            for part in entries.chunks(limit) {
                let manifest = pieces::part_manifest(name, index);
                index += 1;
                let etag = self.put_list(op, &manifest, part, HeaderMap::new()).await?;
                lists.push(Entry { path: manifest.to_string(), etag, size_bytes: part.iter().map(|entry| entry.size_bytes).sum() });
            }
            entries = lists;
        }
        self.put_list(op, name, &entries, meta).await
    }

    /// Stores a list and returns the entity tag it must have. Swift looks at every segment before it takes the list.
    async fn put_list(&self, op: &Op, name: &ObjectName, entries: &[Entry], meta: HeaderMap) -> Result<String> {
        let action = format!("store the manifest {name}");
        let body = serde_json::to_vec(entries).map_err(|error| refusal::failed(&action, error.to_string(), false))?;
        let call = self.object(&action, Method::PUT, name).headers(meta).body(body).patience(PATIENCE);
        let call = call.query(&[("multipart-manifest", "put")]);
        match self.send(op, &call).await {
            // Swift looks at the segments before it looks at the token of the request itself.
            Err(error) if is_unauthorized(&error) && self.auth.refused(&self.auth.token(op).await?).await != Refused::Ended => {
                self.send(op, &call).await?
            }
            other => other?,
        };
        Ok(pieces::checksum(entries.iter().map(|entry| entry.etag.as_str())))
    }

    /// What is stored must be what was meant; else it is removed again, and the segments stay.
    async fn check(&self, op: &Op, name: &ObjectName, checksum: &str, segments: usize, metadata: &BackupMetadata) -> Result<()> {
        let action = format!("check the object {name}");
        let response = self.find(op, &self.object(&action, Method::HEAD, name).patience(PATIENCE)).await?;
        let Some(response) = response else { return Err(refusal::failed(&action, "it is not there, though Swift has accepted it", true)) };
        let tag = headers::etag(response.headers()).unwrap_or_default();
        let stored = headers::to_metadata(response.headers());
        let dynamic = matches!(large::kind(response.headers()), large::Kind::Dynamic { .. });
        let reason = if tag != checksum && !(dynamic && large::is_unknown(&tag, segments)) {
            format!("its checksum is {tag}, and not {checksum}")
        } else if let Some((key, _)) =
            metadata.iter().find(|(key, value)| stored.get(&key.to_lowercase()).unwrap_or(&String::new()) != *value)
        {
            format!("its metadata '{key}' is not what was sent")
        } else {
            return Ok(());
        };
        let removal = format!("remove the manifest {name}");
        self.find(op, &self.object(&removal, Method::DELETE, name)).await?;
        // A listing, of which a dynamic manifest lives, may be late.
        Err(refusal::failed(&action, reason, dynamic))
    }

    /// Segments the object does without. The backup is whole already: what cannot be removed is only waste, and `delete` finds it.
    async fn drop_needless(&self, op: &Op, kind: ManifestKind, name: &ObjectName, segments: &[Segment]) {
        if kind == ManifestKind::Dlo {
            return;
        }
        let copied = segments.iter().filter(|segment| segment.size > 0).count() <= 1;
        for segment in segments.iter().filter(|segment| copied || segment.size == 0) {
            let action = format!("remove the segment {}, which {name} does not need any more", segment.name);
            if let Err(error) = self.find(op, &self.object(&action, Method::DELETE, &segment.name)).await {
                tracing::warn!(%error, "a segment is left over");
            }
        }
    }
}

/// Whether Swift was not let in to the segments of a list.
fn is_unauthorized(error: &Error) -> bool {
    matches!(error, Error::Storage { reason, .. } if reason.contains("400 Bad Request") && reason.contains("401 Unauthorized"))
}
