//! A storage in memory that fails on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use trove_guestagent::error::{Error, Result};
use trove_guestagent::model::BackupMetadata;
use trove_guestagent::op::Op;
use trove_guestagent::strategies::storage::{
    ByteStream, Location, ObjectName, Part, Segment, SegmentBody, Storage, StoredObject, Visit, byte_stream,
};

use super::support::md5;

/// What goes wrong with the next transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Refused before a byte is taken.
    Refused { transient: bool },
    /// The connection breaks after so many bytes.
    Breaks(usize),
    /// Something else is stored than was sent.
    Alters,
    /// Takes nothing and says nothing.
    Hangs,
    /// The body ends after so many bytes, as if that were all.
    EndsEarly(usize),
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, (Vec<Segment>, BackupMetadata)>,
    puts: VecDeque<Option<Fault>>,
    reads: VecDeque<Option<Fault>>,
    offsets: Vec<u64>,
}

/// The storage.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<State>);

fn broken(action: &str, transient: bool) -> Error {
    Error::Storage { action: action.to_owned(), reason: "planted fault".to_owned(), transient }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The faults of the next uploads, in order; `None` is a good one.
    pub(crate) fn fail_puts(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.state().puts.extend(faults);
    }

    /// The faults of the next reads.
    pub(crate) fn fail_reads(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.state().reads.extend(faults);
    }

    /// Names of all objects.
    pub(crate) fn names(&self) -> Vec<String> {
        let state = self.state();
        state.objects.keys().chain(state.manifests.keys()).cloned().collect()
    }

    /// Offsets reads began at.
    pub(crate) fn offsets(&self) -> Vec<u64> {
        self.state().offsets.clone()
    }

    /// Changes a stored object behind everyone's back.
    pub(crate) fn alter(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.state().objects.get_mut(&name.to_string()).unwrap());
    }

    /// The content of these segments.
    pub(crate) fn content(&self, segments: &[Segment]) -> Vec<u8> {
        let state = self.state();
        segments.iter().flat_map(|segment| state.objects[&segment.name.to_string()].clone()).collect()
    }
}

#[async_trait]
impl Storage for Memory {
    fn location(&self, name: &ObjectName) -> String {
        format!("memory://store/{name}")
    }

    async fn visit(&self, _op: &Op, container: &str) -> Result<Visit> {
        Ok(Visit { found: container.to_owned(), time: None })
    }

    async fn ensure_container(&self, _: &Op, _: &str) -> Result<()> {
        Ok(())
    }

    async fn put_segment(&self, _: &Op, name: &ObjectName, mut body: SegmentBody) -> Result<String> {
        let fault = self.state().puts.pop_front().flatten();
        if let Some(Fault::Refused { transient }) = fault {
            return Err(broken("put", transient));
        }
        if let Some(Fault::Hangs) = fault {
            std::future::pending::<()>().await;
        }
        let mut content = Vec::new();
        while let Some(bytes) = body.bytes.recv().await {
            content.extend_from_slice(&bytes?);
            if matches!(fault, Some(Fault::Breaks(after)) if content.len() > after) {
                return Err(broken("put", true));
            }
        }
        assert!(body.size.is_none_or(|size| size == content.len() as u64), "a promised size is kept");
        if let Some(Fault::Alters) = fault {
            content.push(0);
        }
        let sum = md5(&content);
        self.state().objects.insert(name.to_string(), content);
        Ok(sum)
    }

    async fn put_manifest(&self, _: &Op, name: &ObjectName, segments: &[Segment], metadata: &BackupMetadata) -> Result<String> {
        self.state().manifests.insert(name.to_string(), (segments.to_vec(), metadata.clone()));
        Ok(md5(segments.iter().map(|segment| segment.md5.as_str()).collect::<String>().as_bytes()))
    }

    async fn delete(&self, op: &Op, name: &ObjectName) -> Result<()> {
        assert!(!op.cancel.is_cancelled(), "a cancelled operation would not reach a real store");
        let mut state = self.state();
        let prefix = format!("{}/{}", name.container, name.segment_prefix());
        state.objects.retain(|object, _| !object.starts_with(&prefix));
        state.manifests.remove(&name.to_string());
        Ok(())
    }

    async fn inspect(&self, _: &Op, location: &Location) -> Result<StoredObject> {
        let state = self.state();
        let (segments, metadata) = state.manifests.get(&location.name().to_string()).ok_or_else(|| broken("inspect", false))?;
        let checksum = md5(segments.iter().map(|segment| segment.md5.as_str()).collect::<String>().as_bytes());
        let size = segments.iter().map(|segment| segment.size).sum();
        Ok(StoredObject { checksum, size, metadata: metadata.clone(), parts: segments.clone() })
    }

    async fn read(&self, _: &Op, part: &Part, offset: u64) -> Result<ByteStream> {
        let (fault, content) = {
            let mut state = self.state();
            state.offsets.push(offset);
            (state.reads.pop_front().flatten(), state.objects.get(&part.name.to_string()).cloned())
        };
        let content = content.ok_or_else(|| broken("find the segment", false))?;
        if let Some(Fault::Refused { transient }) = fault {
            return Err(broken("read", transient));
        }
        let (sender, stream) = byte_stream(1);
        tokio::spawn(async move {
            let rest = Bytes::from(content).split_off(usize::try_from(offset).unwrap());
            let end = match fault {
                Some(Fault::Breaks(after) | Fault::EndsEarly(after)) => after.min(rest.len()),
                Some(Fault::Hangs) => std::future::pending().await,
                _ => rest.len(),
            };
            for piece in rest[..end].chunks(5000) {
                if sender.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                    return;
                }
            }
            if let Some(Fault::Breaks(_)) = fault {
                sender.send(Err(broken("read", true))).await.ok();
            }
        });
        Ok(stream)
    }
}
