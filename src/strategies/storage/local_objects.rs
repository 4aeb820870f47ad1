//! The [`ObjectStore`] of a folder: a file an object, without its metadata and never deleted by itself.

use std::time::Duration;

use async_trait::async_trait;

use super::local::LocalStorage;
use super::quoting::unquote;
use super::{ObjectContent, ObjectName, ObjectStore, SegmentBody, Storage};
use crate::error::{Error, Result, ResultExt};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::system::files;

#[async_trait]
impl ObjectStore for LocalStorage {
    async fn make_container(&self, op: &Op, container: &str) -> Result<()> {
        Storage::ensure_container(self, op, container).await
    }

    async fn put_object(
        &self,
        op: &Op,
        name: &ObjectName,
        content: ObjectContent,
        _metadata: &BackupMetadata,
        _expiry: Option<Duration>,
    ) -> Result<()> {
        let body = SegmentBody { bytes: content.bytes, size: Some(content.size) };
        let stored = Storage::put_segment(self, op, name, body).await?;
        if stored == content.md5 {
            return Ok(());
        }
        files::remove(&self.path(name)?)?;
        Err(Error::Storage { action: format!("store {name}"), reason: "the content changed on its way".to_owned(), transient: true })
    }

    async fn get_object(&self, _op: &Op, name: &ObjectName, at_most: usize) -> Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        match std::fs::read(&path) {
            Ok(bytes) if bytes.len() <= at_most => Ok(Some(bytes)),
            Ok(_) => Err(Error::guest(format!("{path} is longer than {at_most} bytes"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).action(format!("read {path}")),
        }
    }

    async fn list_objects(&self, _op: &Op, container: &str, prefix: &str) -> Result<Vec<ObjectName>> {
        let folder = self.container(container)?;
        let entries = match folder.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).action(format!("list {folder}")),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = unquote(entry.action(format!("list {folder}"))?.file_name().as_bytes());
            if name.starts_with(prefix) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names.into_iter().map(|name| ObjectName::new(container, name)).collect())
    }

    async fn delete_object(&self, _op: &Op, name: &ObjectName) -> Result<()> {
        files::remove(&self.path(name)?)
    }
}
