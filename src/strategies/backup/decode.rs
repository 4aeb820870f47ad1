//! Two threads that turn what storage has back into what the tool wrote: one checks and decrypts, the other decompresses. Both look at what comes
//! instead of trusting names and options.

use std::sync::mpsc as std_mpsc;

use bytes::{Bytes, BytesMut};
use openssl::error::ErrorStack;
use secrecy::SecretString;
use tokio::sync::mpsc;

use super::cipher::{self, Derivation, HEADER, MAGIC};
use super::content::{is_gzip, recognise};
use super::digest::Checksum;
use super::inflate::Inflater;
use super::threads::spawn;
use crate::error::{Error, Result};
use crate::strategies::storage::{ByteSender, Part};

/// Buffers between the two threads.
const DECRYPTED: usize = 8;
/// Ciphertext that is looked at to find the key's derivation: whole blocks.
const SAMPLE: usize = 4 << 10;

/// What comes from storage, in order.
#[derive(Debug)]
pub(super) enum Fetched {
    Bytes(Bytes),
    /// All bytes of this part have come.
    EndOfPart(Part),
    /// All parts have come.
    End,
    Failed(Error),
}

/// Starts the threads; `output` gets the content, and at most one error as its last.
pub(super) fn start(input: mpsc::Receiver<Fetched>, key: Option<SecretString>, output: ByteSender) -> Result<()> {
    let (plain, compressed) = mpsc::channel(DECRYPTED);
    let (verdict, outcome) = std_mpsc::channel();
    let content = output.clone();
    spawn("restore-inflate", move || {
        // The other thread is always there to hear it, unless nobody wants the content any more.
        verdict.send(expand(compressed, &content)).ok();
    })?;
    let check =
        Checker { input, output, sum: Checksum::default(), unseal: Unseal::Looking(BytesMut::new(), key), plain: Some(plain), outcome };
    spawn("restore-decrypt", move || check.run())
}

/// Why a thread stopped.
#[derive(Debug)]
enum Stopped {
    /// Nobody wants the rest.
    Unwanted,
    /// The other thread has stopped.
    Other,
    Failed(Error),
}

fn damaged(reason: String) -> Stopped {
    Stopped::Failed(Error::guest(format!("the backup cannot be decompressed: {reason}")))
}

/// True for what storage itself says: there is no better explanation.
fn is_of_storage(error: &Error) -> bool {
    match error {
        Error::Guest { .. } => false,
        Error::During { source, .. } => is_of_storage(source),
        _ => true,
    }
}

/// The second thread. `None` is the end; without one, the other thread has an error to tell.
fn expand(mut input: mpsc::Receiver<Option<Bytes>>, output: &ByteSender) -> Result<(), Stopped> {
    let mut give = |bytes: Bytes| output.blocking_send(Ok(bytes)).is_ok();
    let (first, mut ended) = beginning(&mut input)?;
    let mut inflater = is_gzip(&first).then(Inflater::new);
    let mut next = first;
    loop {
        match &mut inflater {
            Some(inflater) => inflater.feed(&next, &mut give).map_err(damaged)?,
            None if next.is_empty() => {}
            None => drop(give(next)),
        }
        if output.is_closed() {
            return Err(Stopped::Unwanted);
        }
        if ended {
            return inflater.map_or(Ok(()), |inflater| inflater.finish(&mut give).map_err(damaged));
        }
        next = match input.blocking_recv() {
            Some(bytes) => {
                ended = bytes.is_none();
                bytes.unwrap_or_default()
            }
            None => return Err(Stopped::Other),
        };
    }
}

/// Enough of the content to see what it is, and whether that is all of it.
fn beginning(input: &mut mpsc::Receiver<Option<Bytes>>) -> Result<(Bytes, bool), Stopped> {
    let mut first = BytesMut::new();
    while first.len() < 4 {
        match input.blocking_recv() {
            Some(Some(bytes)) => first.extend_from_slice(&bytes),
            Some(None) => return Ok((first.freeze(), true)),
            None => return Err(Stopped::Other),
        }
    }
    Ok((first.freeze(), false))
}

/// The first thread.
struct Checker {
    input: mpsc::Receiver<Fetched>,
    output: ByteSender,
    /// Of the part that is coming.
    sum: Checksum,
    unseal: Unseal,
    plain: Option<mpsc::Sender<Option<Bytes>>>,
    outcome: std_mpsc::Receiver<Result<(), Stopped>>,
}

impl Checker {
    fn run(mut self) {
        let error = match self.check() {
            Ok(()) | Err(Stopped::Unwanted) => return,
            Err(Stopped::Failed(error)) => error,
            Err(Stopped::Other) => Error::guest("a thread that decodes the backup has died"),
        };
        self.output.blocking_send(Err(error)).ok();
    }

    fn check(&mut self) -> Result<(), Stopped> {
        match self.pass_on() {
            Ok(()) => self.verdict(),
            Err(Stopped::Other) => {
                let error = self.verdict();
                Err(self.cause(error))
            }
            Err(Stopped::Failed(error)) => Err(self.cause(Err(Stopped::Failed(error)))),
            Err(Stopped::Unwanted) => Err(Stopped::Unwanted),
        }
    }

    /// What the other thread has to say, once it has seen all it will see.
    fn verdict(&mut self) -> Result<(), Stopped> {
        self.plain = None;
        self.outcome.recv().unwrap_or(Err(Stopped::Other))
    }

    fn pass_on(&mut self) -> Result<(), Stopped> {
        loop {
            match self.input.blocking_recv() {
                Some(Fetched::Bytes(bytes)) => {
                    self.sum.update(&bytes);
                    let plain = self.unseal.feed(bytes).map_err(Stopped::Failed)?;
                    self.give(plain.filter(|bytes| !bytes.is_empty()).map(Some))?;
                }
                Some(Fetched::EndOfPart(part)) => self.compare(&part)?,
                Some(Fetched::End) => {
                    let last = self.unseal.finish().map_err(Stopped::Failed)?;
                    self.give(last.filter(|bytes| !bytes.is_empty()).map(Some))?;
                    return self.give(Some(None));
                }
                Some(Fetched::Failed(error)) => return Err(Stopped::Failed(error)),
                None => return Err(Stopped::Unwanted),
            }
        }
    }

    fn give(&self, message: Option<Option<Bytes>>) -> Result<(), Stopped> {
        match (message, &self.plain) {
            (Some(message), Some(plain)) => plain.blocking_send(message).map_err(|_| Stopped::Other),
            _ => Ok(()),
        }
    }

    fn compare(&mut self, part: &Part) -> Result<(), Stopped> {
        let found = std::mem::take(&mut self.sum).finish();
        if found == part.md5 {
            return Ok(());
        }
        let reason = format!("its content has MD5 {found}, but {} was stored: the store has altered it", part.md5);
        Err(Stopped::Failed(Error::Storage { action: format!("read {}", part.name), reason, transient: false }))
    }

    /// What cannot be decoded may have been altered in the store. That is known when the rest of its part has come, and says more.
    fn cause(&mut self, error: Result<(), Stopped>) -> Stopped {
        let Err(Stopped::Failed(error)) = error else {
            return error.err().unwrap_or(Stopped::Other);
        };
        if is_of_storage(&error) {
            return Stopped::Failed(error);
        }
        loop {
            match self.input.blocking_recv() {
                Some(Fetched::Bytes(bytes)) if !self.output.is_closed() => self.sum.update(&bytes),
                Some(Fetched::EndOfPart(part)) => return self.compare(&part).err().unwrap_or(Stopped::Failed(error)),
                Some(Fetched::Failed(error)) => return Stopped::Failed(error),
                _ => return Stopped::Failed(error),
            }
        }
    }
}

/// Decryption, for content that turns out to be encrypted.
enum Unseal {
    /// Too little has come to tell.
    Looking(BytesMut, Option<SecretString>),
    /// It is not encrypted.
    Open,
    Sealed(Box<cipher::Stream>),
    Ended,
}

impl Unseal {
    fn feed(&mut self, bytes: Bytes) -> Result<Option<Bytes>> {
        match self {
            Unseal::Open => Ok(Some(bytes)),
            Unseal::Sealed(stream) => Ok(Some(stream.update(&bytes).map_err(padding)?.into())),
            Unseal::Ended => Ok(None),
            Unseal::Looking(first, _) => {
                first.extend_from_slice(&bytes);
                let sealed = first.iter().zip(MAGIC).all(|(a, b)| a == b);
                if sealed && first.len() < HEADER + SAMPLE { Ok(None) } else { self.decide(false).map(Some) }
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Bytes>> {
        let mut last = None;
        if matches!(self, Unseal::Looking(..)) {
            last = Some(self.decide(true)?);
        }
        match std::mem::replace(self, Unseal::Ended) {
            Unseal::Sealed(stream) => {
                let mut rest = BytesMut::from(last.unwrap_or_default());
                rest.extend_from_slice(&stream.finish().map_err(padding)?);
                Ok(Some(rest.freeze()))
            }
            _ => Ok(last),
        }
    }

    /// Takes what has come, all of it if `whole`, for what it looks like.
    fn decide(&mut self, whole: bool) -> Result<Bytes> {
        let Unseal::Looking(first, key) = std::mem::replace(self, Unseal::Open) else {
            return Ok(Bytes::new());
        };
        if !first.starts_with(MAGIC) {
            return Ok(first.freeze());
        }
        let key =
            key.ok_or_else(|| Error::guest("the backup is encrypted, and no backup_aes_cbc_key is set: set the one it was made with"))?;
        let (header, sealed) = first.split_at_checked(HEADER).ok_or_else(|| broken("it breaks off within the header of the encryption"))?;
        if whole && (sealed.is_empty() || sealed.len() % cipher::BLOCK != 0) {
            return Err(broken("it breaks off within a block of the encryption"));
        }
        let sample = if whole { sealed } else { &sealed[..SAMPLE] };
        let fits = |way: &Derivation| cipher::peek(*way, &key, header, sample, whole).is_some_and(|plain| recognise(&plain).is_some());
        let way = Derivation::ALL.into_iter().find(fits).ok_or_else(wrong_key)?;
        tracing::debug!(derivation = ?way, "the backup is encrypted");
        let mut stream = cipher::Stream::decrypt(way, &key, header).map_err(padding)?;
        let plain = stream.update(sealed).map_err(padding)?;
        *self = Unseal::Sealed(Box::new(stream));
        Ok(plain.into())
    }
}

fn broken(reason: &str) -> Error {
    Error::guest(format!("the backup cannot be decrypted: {reason}"))
}

fn wrong_key() -> Error {
    Error::guest("the backup cannot be decrypted with backup_aes_cbc_key: it was made with another one, or is not what this agent knows")
}

fn padding(_: ErrorStack) -> Error {
    broken("its end is missing or altered (wrong padding)")
}
