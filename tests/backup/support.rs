//! What the tests of the stream share.

use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use trove_guestagent::error::Result;
use trove_guestagent::model::BackupMetadata;
use trove_guestagent::op::Op;
use trove_guestagent::progress::Progress;
use trove_guestagent::strategies::backup::{Decoding, Encoding, Limits, Retry, Uploaded, download, encode, upload};
use trove_guestagent::strategies::storage::{ByteStream, Location, ObjectName, Storage, StoredObject, byte_stream};

use super::memory::Memory;

/// MD5 of `content`.
pub(crate) fn md5(content: &[u8]) -> String {
    Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An operation nobody cancels.
pub(crate) fn op() -> Op {
    Op::internal(CancellationToken::new())
}

/// The object of every test.
pub(crate) fn name() -> ObjectName {
    ObjectName::new("database_backups", "b1.xbstream.gz.enc")
}

/// Pauses that do not hold up a test.
pub(crate) fn retry() -> Retry {
    let millisecond = Duration::from_millis(1);
    Retry { attempts: 3, first_pause: millisecond, longest_pause: millisecond, stall: Duration::from_secs(60) }
}

/// Segments of this size, in memory.
pub(crate) fn limits(segment_max_size: u64) -> Limits {
    Limits { segment_max_size, spool_dir: None, retry: retry() }
}

/// A tool that writes `content`.
pub(crate) fn tool(content: Vec<u8>) -> std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>> {
    Box::pin(std::io::Cursor::new(content))
}

/// These pieces as a stream.
pub(crate) fn stream(pieces: Vec<Vec<u8>>) -> ByteStream {
    let (sender, stream) = byte_stream(1);
    tokio::spawn(async move {
        for piece in pieces {
            if sender.send(Ok(piece.into())).await.is_err() {
                return;
            }
        }
    });
    stream
}

/// All of a stream.
pub(crate) async fn collect(mut stream: ByteStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.recv().await {
        all.extend_from_slice(&bytes?);
    }
    Ok(all)
}

/// `content`, encoded.
pub(crate) async fn encoded(content: Vec<u8>, compress: bool, key: Option<SecretString>) -> Vec<u8> {
    collect(encode(tool(content), Encoding { compress, key }, Progress::new("test"))).await.unwrap()
}

/// Stores `content` as a backup made of segments.
pub(crate) async fn backup(storage: &Memory, content: Vec<u8>, key: Option<SecretString>, limits: &Limits) -> Result<Uploaded> {
    let progress = Progress::new("backup");
    let encoding = encode(tool(content), Encoding { compress: true, key }, Arc::clone(&progress));
    upload(&op(), storage, &name(), encoding, limits, &progress).await
}

/// Stores bytes as they are, in segments, with a manifest.
pub(crate) async fn store(storage: &Memory, content: &[u8], segment: u64) -> Uploaded {
    let pieces = content.chunks(10_000).map(<[u8]>::to_vec).collect();
    let uploaded = upload(&op(), storage, &name(), stream(pieces), &limits(segment), &Progress::new("backup")).await.unwrap();
    storage.put_manifest(&op(), &name(), &uploaded.segments, &BackupMetadata::new()).await.unwrap();
    uploaded
}

/// What storage knows of the backup.
pub(crate) async fn inspect(storage: &Memory) -> StoredObject {
    storage.inspect(&op(), &Location::parse(&storage.location(&name())).unwrap()).await.unwrap()
}

/// Restores what was stored.
pub(crate) async fn restored(storage: &Arc<Memory>, key: Option<SecretString>) -> Result<Vec<u8>> {
    let object = inspect(storage).await;
    let how = Decoding { checksum: Some(object.checksum.clone()), key, retry: retry() };
    let storage: Arc<dyn Storage> = storage.clone();
    collect(download(&op(), storage, object, how, Progress::new("restore")).await?).await
}
