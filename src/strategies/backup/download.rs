//! [`download`]: from a stored object back to what the tool wrote.

use std::sync::Arc;

use secrecy::SecretString;

use super::{Progress, Retry};
use crate::error::{Error, Result};
use crate::op::Op;
use crate::strategies::storage::{ByteStream, Storage, StoredObject};

/// What a backup is read back with.
#[derive(Debug, Clone, Default)]
pub struct Decoding {
    /// The checksum it must have, as the controller or the child's metadata says. `None` compares nothing (`verify_swift_checksum_on_restore`).
    pub checksum: Option<String>,
    /// `backup_aes_cbc_key`, used if the content turns out to be encrypted.
    pub key: Option<SecretString>,
    /// Retries of each part.
    pub retry: Retry,
}

/// Starts to read `object`. The stream yields what the tool had written; it ends with an error, never silently, when anything of it is missing or
/// altered.
///
/// # Errors
/// The object is not the expected one, or not whole; later ones are the stream's.
pub async fn download(
    op: &Op,
    storage: Arc<dyn Storage>,
    object: StoredObject,
    how: Decoding,
    progress: Arc<Progress>,
) -> Result<ByteStream> {
    drop((op, storage, object, how, progress));
    Err(Error::guest("not yet"))
}
