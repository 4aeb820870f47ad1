//! [`Keeper`]: hashes a segment and keeps a copy of it until it is stored, on disk or in memory.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use camino::Utf8Path;
use nix::sys::statvfs::statvfs;
use tokio::sync::{mpsc, oneshot};

use super::digest::Checksum;
use super::threads::spawn_low;
use crate::error::{Error, Result, ResultExt};
use crate::strategies::storage::{ByteStream, byte_stream};

/// What a segment in memory may have: it counts towards the 64 MB the agent stays under.
pub(super) const IN_MEMORY: u64 = 16 << 20;
/// Segments smaller than this are not worth a file.
const SMALLEST_SPOOL: u64 = 64 << 20;
/// What is left free besides, in bytes and as a share of the file system: others write there, too.
const SPARE: (u64, u64) = (256 << 20, 20);
/// So many segments may be smaller than configured, for want of space: Swift takes a thousand in one object.
const SMALL_SEGMENTS: usize = 500;
/// Buffers between the upload and the thread.
const QUEUE: usize = 4;
/// Bytes read at once when a segment is sent again.
const PIECE: usize = 128 << 10;

/// Where the copy of a segment is.
#[derive(Debug, Clone)]
pub(super) enum Store {
    /// A file without a name: it goes with the process, however that ends.
    Spool(Arc<File>),
    Memory(Vec<Bytes>),
    /// It outgrew its place.
    Lost,
}

/// Size of the next segment, and where its copy goes.
pub(super) fn plan(index: usize, segment_max_size: u64, spool: Option<&Utf8Path>) -> (u64, Store) {
    if segment_max_size > IN_MEMORY
        && let Some(directory) = spool
    {
        let file = room(directory).and_then(|room| {
            let size = segment_max_size.min(room);
            let enough = size >= SMALLEST_SPOOL.min(segment_max_size) && (size == segment_max_size || index < SMALL_SEGMENTS);
            let file = enough.then(|| tempfile::tempfile_in(directory)).transpose().action(format!("create a file in {directory}"));
            file.map(|file| file.map(|file| (size, Store::Spool(Arc::new(file)))))
        });
        match file {
            Ok(Some(found)) => return found,
            Ok(None) => {
                tracing::warn!(%directory, "too little space to keep segments of the backup in: they are kept in memory, and are small")
            }
            Err(error) => tracing::warn!("segments of the backup are kept in memory, and are small: {error}"),
        }
    }
    let size = if index < SMALL_SEGMENTS { segment_max_size.min(IN_MEMORY) } else { segment_max_size };
    (size, Store::Memory(Vec::new()))
}

/// Bytes that may be used on the file system of `directory`.
fn room(directory: &Utf8Path) -> Result<u64> {
    let stats = statvfs(directory.as_std_path()).action(format!("see how much space {directory} has"))?;
    let fragment = stats.fragment_size();
    let spare = SPARE.0.max(stats.blocks() * fragment / SPARE.1);
    Ok((stats.blocks_available() * fragment).saturating_sub(spare))
}

/// A segment that has been seen to its end.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) md5: String,
    pub(super) size: u64,
    store: Store,
}

impl Kept {
    /// The segment once more; `None` when there is no copy.
    pub(super) fn replay(&self) -> Result<Option<ByteStream>> {
        let (sender, stream) = byte_stream(QUEUE);
        match &self.store {
            Store::Lost => return Ok(None),
            Store::Memory(pieces) => {
                let pieces = pieces.clone();
                crate::op::spawn(async move {
                    for piece in pieces {
                        if sender.send(Ok(piece)).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Store::Spool(file) => {
                let (file, size) = (Arc::clone(file), self.size);
                spawn_low("backup-replay", move || {
                    let mut offset = 0;
                    while offset < size {
                        let piece = read(&file, offset, size);
                        let failed = piece.is_err();
                        offset += piece.as_ref().map_or(0, Bytes::len) as u64;
                        if sender.blocking_send(piece).is_err() || failed {
                            return;
                        }
                    }
                })?;
            }
        }
        Ok(Some(stream))
    }
}

fn read(file: &File, offset: u64, size: u64) -> Result<Bytes> {
    let length = usize::try_from(size - offset).unwrap_or(PIECE).min(PIECE);
    let mut piece = BytesMut::zeroed(length);
    file.read_exact_at(&mut piece, offset).action("read a segment of the backup back from the spool")?;
    Ok(piece.freeze())
}

/// A thread that sees every byte of one segment.
#[derive(Debug)]
pub(super) struct Keeper {
    to: mpsc::Sender<Bytes>,
    kept: oneshot::Receiver<Kept>,
}

impl Keeper {
    pub(super) fn start(mut store: Store) -> Result<Self> {
        let (to, mut pieces) = mpsc::channel::<Bytes>(QUEUE);
        let (tell, kept) = oneshot::channel();
        spawn_low("backup-keep", move || {
            let mut sum = Checksum::default();
            let mut size = 0;
            while let Some(piece) = pieces.blocking_recv() {
                sum.update(&piece);
                size += piece.len() as u64;
                store.add(piece, size);
            }
            // Nobody listens when the upload is given up.
            tell.send(Kept { md5: sum.finish(), size, store }).ok();
        })?;
        Ok(Keeper { to, kept })
    }

    pub(super) async fn keep(&self, piece: Bytes) -> Result<()> {
        self.to.send(piece).await.map_err(|_| died())
    }

    pub(super) async fn finish(self) -> Result<Kept> {
        drop(self.to);
        self.kept.await.map_err(|_| died())
    }
}

fn died() -> Error {
    Error::guest("the thread that keeps segments of the backup has died")
}

impl Store {
    fn add(&mut self, piece: Bytes, size: u64) {
        match self {
            Store::Spool(file) => {
                let mut file: &File = file;
                if let Err(error) = file.write_all(&piece) {
                    tracing::warn!("a segment of the backup cannot be kept, so it will be sent only once: {error}");
                    *self = Store::Lost;
                }
            }
            Store::Memory(_) if size > IN_MEMORY => *self = Store::Lost,
            Store::Memory(pieces) => pieces.push(piece),
            Store::Lost => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn replayed(kept: &Kept) -> Vec<u8> {
        let mut stream = kept.replay().unwrap().unwrap();
        let mut all = Vec::new();
        while let Some(piece) = stream.recv().await {
            all.extend_from_slice(&piece.unwrap());
        }
        all
    }

    #[tokio::test]
    async fn a_segment_comes_back_from_disk_and_from_memory() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for store in [Store::Memory(Vec::new()), Store::Spool(Arc::new(tempfile::tempfile().unwrap()))] {
            let keeper = Keeper::start(store).unwrap();
            for piece in content.chunks(77_777) {
                keeper.keep(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            let kept = keeper.finish().await.unwrap();
            assert_eq!(replayed(&kept).await, content);
            assert_eq!(replayed(&kept).await, content, "as often as needed");
            assert_eq!(kept.size, content.len() as u64);
        }
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let keeper = Keeper::start(Store::Memory(Vec::new())).unwrap();
        let piece = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..17 {
            keeper.keep(piece.clone()).await.unwrap();
        }
        assert!(keeper.finish().await.unwrap().replay().unwrap().is_none());
    }

    #[test]
    fn the_plan_follows_the_space() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let (size, store) = plan(0, 32 << 20, Some(directory));
        assert!(size == 32 << 20 && matches!(store, Store::Spool(_)), "{size} {store:?}");
        let missing = directory.join("missing");
        for spool in [None, Some(missing.as_path())] {
            let (size, store) = plan(0, 2 << 30, spool);
            assert!(size == IN_MEMORY && matches!(store, Store::Memory(_)), "{size} {store:?}");
        }
        assert_eq!(plan(SMALL_SEGMENTS, 2 << 30, None).0, 2 << 30, "an object has at most a thousand segments");
        assert_eq!(plan(0, 1 << 20, Some(directory)).0, 1 << 20);
        assert!(matches!(plan(0, u64::MAX, Some(directory)), (size, Store::Spool(_)) if size < u64::MAX));
    }
}
