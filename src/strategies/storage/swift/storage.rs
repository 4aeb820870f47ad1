//! [`SwiftStorage`]: the [`Storage`] of an account.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};

use super::client::Client;
use super::{body, headers, refusal};
use crate::config::ManifestKind;
use crate::error::Result;
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::storage::{ByteStream, Location, ObjectName, Part, Segment, SegmentBody, Storage, StoredObject, Visit, byte_stream};

/// An account of Swift, as one request may use it.
#[derive(Debug)]
pub(in super::super) struct SwiftStorage {
    pub(super) client: Arc<Client>,
    pub(super) kind: ManifestKind,
}

#[async_trait]
impl Storage for SwiftStorage {
    fn location(&self, name: &ObjectName) -> String {
        format!("{}/{name}", self.client.url)
    }

    async fn visit(&self, op: &Op, container: &str) -> Result<Visit> {
        let (url, action) = (&self.client.url, format!("look for the container {container}"));
        // Not the account itself: who may write to one container need not see that.
        let found = self.client.find(op, &self.client.container(&action, Method::HEAD, container)).await?;
        Ok(match found {
            None => Visit { found: format!("{url} lets this guest in; the first backup makes the container {container}"), time: None },
            Some(response) => {
                let number = |name: &str| headers::text(response.headers(), name).unwrap_or_else(|| "?".to_owned());
                let found = format!("{url} lets this guest in; {container} has {} objects", number("x-container-object-count"));
                Visit { found, time: headers::date(response.headers()) }
            }
        })
    }

    async fn ensure_container(&self, op: &Op, container: &str) -> Result<()> {
        self.client.ensure_container(op, container).await
    }

    async fn put_segment(&self, op: &Op, name: &ObjectName, body: SegmentBody) -> Result<String> {
        let action = format!("upload the segment {name}");
        let response = self.client.upload(op, &action, name, body, HeaderMap::new()).await?;
        headers::etag(response.headers()).ok_or_else(|| refusal::failed(&action, "the answer has no checksum", true))
    }

    async fn put_manifest(&self, op: &Op, name: &ObjectName, segments: &[Segment], metadata: &BackupMetadata) -> Result<String> {
        self.client.put_manifest(op, self.kind, name, segments, metadata).await
    }

    async fn delete(&self, op: &Op, name: &ObjectName) -> Result<()> {
        self.client.delete(op, name).await
    }

    async fn inspect(&self, op: &Op, location: &Location) -> Result<StoredObject> {
        self.client.inspect(op, location.name()).await
    }

    async fn read(&self, op: &Op, part: &Part, offset: u64) -> Result<ByteStream> {
        if offset >= part.size {
            // Swift has no range without bytes.
            return Ok(byte_stream(1).1);
        }
        let action = format!("read {} from byte {offset}", part.name);
        let mut call = self.client.object(&action, Method::GET, &part.name);
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-")).map_err(|_| refusal::failed(&action, "no such range", false))?;
            call = call.headers(HeaderMap::from_iter([(RANGE, range)]));
        }
        let response = self.client.send(op, &call).await?;
        if offset > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(refusal::failed(&action, "Swift answers with another range", false));
        }
        let tag = headers::etag(response.headers()).unwrap_or_default();
        if tag != part.md5 {
            return Err(refusal::failed(&action, format!("its checksum is {tag}, and not {} as it was", part.md5), false));
        }
        Ok(body::download(op, action, response, part.size - offset, self.client.idle))
    }
}
