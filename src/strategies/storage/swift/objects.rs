//! The [`ObjectStore`] of an account.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::{ETAG, HeaderName, HeaderValue};

use super::storage::SwiftStorage;
use super::{headers, refusal};
use crate::error::Result;
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::storage::{ObjectContent, ObjectName, ObjectStore, SegmentBody};

const DELETE_AFTER: HeaderName = HeaderName::from_static("x-delete-after");

#[async_trait]
impl ObjectStore for SwiftStorage {
    async fn make_container(&self, op: &Op, container: &str) -> Result<()> {
        self.client.ensure_container(op, container).await
    }

    async fn put_object(
        &self,
        op: &Op,
        name: &ObjectName,
        content: ObjectContent,
        metadata: &BackupMetadata,
        expiry: Option<Duration>,
    ) -> Result<()> {
        let action = format!("upload {name}");
        let mut headers = headers::from_metadata(metadata)?;
        // Swift compares, and keeps nothing that is another.
        let tag = HeaderValue::from_str(&content.md5).map_err(|_| refusal::failed(&action, "its checksum is none", false))?;
        headers.insert(ETAG, tag);
        if let Some(seconds) = expiry.map(|expiry| expiry.as_secs()).filter(|seconds| *seconds > 0) {
            headers.insert(DELETE_AFTER, seconds.into());
        }
        let body = SegmentBody { bytes: content.bytes, size: Some(content.size) };
        self.client.upload(op, &action, name, body, headers).await.map(drop)
    }

    async fn get_object(&self, op: &Op, name: &ObjectName, at_most: usize) -> Result<Option<Vec<u8>>> {
        let action = format!("read {name}");
        match self.client.find(op, &self.client.object(&action, Method::GET, name)).await? {
            Some(response) => self.client.whole(op, &action, response, at_most).await.map(Some),
            None => Ok(None),
        }
    }

    async fn list_objects(&self, op: &Op, container: &str, prefix: &str) -> Result<Vec<ObjectName>> {
        let listed = self.client.list(op, container, prefix).await?;
        Ok(listed.into_iter().map(|listed| ObjectName::new(container, listed.name)).collect())
    }

    async fn delete_object(&self, op: &Op, name: &ObjectName) -> Result<()> {
        self.client.remove(op, name).await.map(drop)
    }
}
