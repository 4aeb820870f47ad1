//! [`encode`]: from what a tool writes to what storage gets.

use std::pin::Pin;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::io::AsyncRead;

use super::Progress;
use crate::error::Error;
use crate::strategies::storage::{ByteStream, byte_stream};

/// How a backup is encoded.
#[derive(Debug, Clone)]
pub struct Encoding {
    /// `gzip` it.
    pub compress: bool,
    /// Encrypt it with this password, as `openssl enc -aes-256-cbc -md sha256` does.
    pub key: Option<SecretString>,
}

impl Encoding {
    /// What the object's name ends with: `.gz`, `.enc`, both or nothing.
    pub fn suffix(&self) -> &'static str {
        match (self.compress, self.key.is_some()) {
            (true, true) => ".gz.enc",
            (true, false) => ".gz",
            (false, true) => ".enc",
            (false, false) => "",
        }
    }
}

/// Starts to compress and encrypt what `reader` yields. An error of the reader ends the stream with an error; dropping the stream ends the work.
pub fn encode(reader: Pin<Box<dyn AsyncRead + Send>>, how: Encoding, progress: Arc<Progress>) -> ByteStream {
    let (sender, stream) = byte_stream(1);
    drop((reader, how, progress));
    sender.try_send(Err(Error::guest("not yet"))).ok();
    stream
}
