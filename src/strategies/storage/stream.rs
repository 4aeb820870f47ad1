//! [`ByteStream`]: bytes on their way between two stages, bounded.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::Result;

/// Buffers of a backup or an object in order; ends with `None`. An error ends it, too: what came before it is not whole.
pub type ByteStream = mpsc::Receiver<Result<Bytes>>;
/// The other end.
pub type ByteSender = mpsc::Sender<Result<Bytes>>;

/// A stream that holds at most `capacity` buffers: a fast writer waits for a slow reader.
pub fn byte_stream(capacity: usize) -> (ByteSender, ByteStream) {
    mpsc::channel(capacity)
}
