//! [`download`]: from a stored object back to what the tool wrote.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::mpsc;

use super::Retry;
use super::decode::{self, Fetched};
use super::retry::{Failures, moving};
use crate::error::{Error, Result};
use crate::op::Op;
use crate::progress::Progress;
use crate::strategies::storage::{ByteStream, Part, Storage, StoredObject, byte_stream};

/// Buffers of storage that wait to be decoded.
const FETCHED: usize = 16;
/// Pieces of content that wait for the tool.
const CONTENT: usize = 8;

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
    inspect(&object, how.checksum.as_deref())?;
    let (content, stream) = byte_stream(CONTENT);
    let (to, fetched) = mpsc::channel(FETCHED);
    let wanted = content.clone();
    decode::start(fetched, how.key, content)?;
    let mut fetch = Fetch { op: op.clone(), storage, retry: how.retry, to, progress };
    crate::op::spawn(async move {
        tokio::select! {
            // Cancel-safe: nobody wants the content any more.
            () = wanted.closed() => {}
            () = fetch.run(object.parts) => {}
        }
    });
    Ok(stream)
}

/// What can be known before a byte is read. Storage has compared the object's checksum with its parts.
fn inspect(object: &StoredObject, expected: Option<&str>) -> Result<()> {
    let refuse = |reason: String| Err(Error::Storage { action: "restore the backup".to_owned(), reason, transient: false });
    if let Some(expected) = expected
        && expected != object.checksum
    {
        return refuse(format!("the object has checksum {}, but the backup had {expected}: it is not the same any more", object.checksum));
    }
    let size: u64 = object.parts.iter().map(|part| part.size).sum();
    if size != object.size {
        return refuse(format!("its {} segments have {size} bytes of {}: one is missing or cut off", object.parts.len(), object.size));
    }
    Ok(())
}

/// The task that reads.
struct Fetch {
    op: Op,
    storage: Arc<dyn Storage>,
    retry: Retry,
    to: mpsc::Sender<Fetched>,
    progress: Arc<Progress>,
}

impl Fetch {
    async fn run(&mut self, parts: Vec<Part>) {
        for part in parts {
            let last = match self.part(&part).await {
                Ok(()) => Fetched::EndOfPart(part),
                Err(error) => Fetched::Failed(error),
            };
            let failed = matches!(last, Fetched::Failed(_));
            if self.to.send(last).await.is_err() || failed {
                return;
            }
            self.progress.add_segment();
        }
        self.to.send(Fetched::End).await.ok();
    }

    /// Reads a part to its end; what breaks is taken up where it broke.
    async fn part(&self, part: &Part) -> Result<()> {
        let action = format!("read {}", part.name);
        let mut failures = Failures::new(self.retry);
        let mut offset = 0;
        while offset < part.size {
            let before = offset;
            let Err(error) = self.attempt(part, &mut offset, &action).await else { continue };
            if offset > before {
                failures.forget();
            }
            self.progress.add_retry();
            failures.pause(&self.op, &action, error).await?;
        }
        Ok(())
    }

    async fn attempt(&self, part: &Part, offset: &mut u64, action: &str) -> Result<()> {
        let open = moving(self.retry.stall, action, self.storage.read(&self.op, part, *offset));
        let mut stream = self.op.until_cancelled(action, open).await???;
        loop {
            let next = moving(self.retry.stall, action, stream.recv());
            let Some(bytes) = self.op.until_cancelled(action, next).await?? else { break };
            let bytes = bytes?;
            *offset += bytes.len() as u64;
            if *offset > part.size {
                let reason = format!("there is more of it than the {} bytes that were stored", part.size);
                return Err(Error::Storage { action: action.to_owned(), reason, transient: false });
            }
            self.progress.add_stored(bytes.len());
            let decoder = self.op.until_cancelled(action, self.to.send(Fetched::Bytes(bytes))).await?;
            decoder.map_err(|_| Error::Cancelled { action: action.to_owned() })?;
        }
        if *offset < part.size {
            let reason = format!("it broke off after {offset} of {} bytes", part.size);
            return Err(Error::Storage { action: action.to_owned(), reason, transient: true });
        }
        Ok(())
    }
}
