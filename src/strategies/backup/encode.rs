//! [`encode`]: from what a tool writes to what storage gets.
//!
//! A task reads blocks and hands them to the workers, each a thread; one more thread puts their results in order and encrypts. All threads have a
//! low priority, so that the database goes first, and all queues are short: what is in memory does not depend on the size of the backup.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};

use bytes::{Bytes, BytesMut};
use flate2::Crc;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};

use super::cipher;
use super::deflate::{BLOCK, Block, Deflated, Deflater, GZIP_HEADER, gzip_trailer};
use super::threads::spawn_low;
use crate::error::{Error, Result, ResultExt};
use crate::progress::Progress;
use crate::strategies::storage::{ByteSender, ByteStream, byte_stream};

/// More than this many are of no use: encryption and storage are slower than they.
const MOST_WORKERS: usize = 8;
/// Encoded buffers, of about a third of a block each, on their way to storage.
const ENCODED: usize = 8;

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

/// A block on its way to a worker, and where the result goes.
type Job = (Block, oneshot::Sender<Result<Deflated>>);

/// What comes next in the stream.
enum Next {
    Plain(Bytes),
    Deflated(oneshot::Receiver<Result<Deflated>>),
    /// The tool has written everything.
    End,
    Failed(Error),
}

/// Starts to compress and encrypt what `reader` yields. An error of the reader ends the stream with an error; dropping the stream ends the work and
/// drops the reader.
pub fn encode(reader: Pin<Box<dyn AsyncRead + Send>>, how: Encoding, progress: Arc<Progress>) -> ByteStream {
    let (output, stream) = byte_stream(ENCODED);
    let started = start(reader, how, progress, &output);
    if let Err(error) = started {
        // The queue is new and has room.
        output.try_send(Err(error)).ok();
    }
    stream
}

fn start(reader: Pin<Box<dyn AsyncRead + Send>>, how: Encoding, progress: Arc<Progress>, output: &ByteSender) -> Result<()> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(MOST_WORKERS);
    let jobs = how.compress.then(|| start_workers(workers)).transpose()?;
    // Besides what each worker has at hand, one block each to go on with.
    let (order, ordered) = mpsc::channel(2 * workers);
    let assembler = Assembler::new(how, output.clone())?;
    spawn_low("backup-encode", move || assembler.run(ordered))?;
    let reading = Reading { reader, jobs, order, progress };
    crate::op::spawn(reading.run(output.clone()));
    Ok(())
}

/// The task that reads.
struct Reading {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    jobs: Option<std_mpsc::Sender<Job>>,
    order: mpsc::Sender<Next>,
    progress: Arc<Progress>,
}

impl Reading {
    async fn run(mut self, output: ByteSender) {
        tokio::select! {
            // Cancel-safe: nobody reads any more, so nothing read is missed.
            () = output.closed() => {}
            () = self.read_all() => {}
        }
    }

    async fn read_all(&mut self) {
        let mut before = Bytes::new();
        loop {
            let content = match self.read_block().await {
                Ok(content) => content,
                Err(error) => {
                    self.order.send(Next::Failed(error)).await.ok();
                    return;
                }
            };
            if content.is_empty() {
                self.order.send(Next::End).await.ok();
                return;
            }
            self.progress.add_content(content.len());
            let next = match &self.jobs {
                None => Next::Plain(content),
                Some(jobs) => {
                    let (reply, result) = oneshot::channel();
                    let before = std::mem::replace(&mut before, content.clone());
                    if jobs.send((Block { content, before }, reply)).is_err() {
                        return;
                    }
                    Next::Deflated(result)
                }
            };
            if self.order.send(next).await.is_err() {
                return;
            }
        }
    }

    /// A whole block, or what is left; nothing at the end.
    async fn read_block(&mut self) -> Result<Bytes> {
        let mut block = BytesMut::with_capacity(BLOCK);
        while block.len() < BLOCK {
            if self.reader.read_buf(&mut block).await.action("read what the backup tool writes")? == 0 {
                break;
            }
        }
        Ok(block.freeze())
    }
}

/// Workers end when the sender is dropped.
fn start_workers(count: usize) -> Result<std_mpsc::Sender<Job>> {
    let (jobs, queue) = std_mpsc::channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..count {
        let queue = Arc::clone(&queue);
        spawn_low("backup-gzip", move || {
            let mut deflater = Deflater::new();
            while let Some((block, reply)) = next_job(&queue) {
                let result = deflater.compress(&block).map_err(|error| Error::guest(format!("failed to compress the backup: {error}")));
                // Nobody waits for it when the backup has failed.
                reply.send(result).ok();
            }
        })?;
    }
    Ok(jobs)
}

fn next_job(queue: &Mutex<std_mpsc::Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// The thread that puts the blocks in order.
struct Assembler {
    output: ByteSender,
    cipher: Option<cipher::Stream>,
    header: Vec<u8>,
    compress: bool,
    crc: Crc,
    size: u64,
}

/// Why the assembler stopped before the end.
enum Stopped {
    /// Nobody wants the rest.
    Unwanted,
    Failed(Error),
}

fn crypto(error: openssl::error::ErrorStack) -> Stopped {
    Stopped::Failed(Error::guest(format!("failed to encrypt the backup: {error}")))
}

impl Assembler {
    fn new(how: Encoding, output: ByteSender) -> Result<Self> {
        let cipher = how.key.as_ref().map(cipher::Stream::encrypt).transpose();
        let cipher = cipher.map_err(|error| Error::guest(format!("failed to make the key of the backup: {error}")))?;
        let (cipher, header) = cipher.unzip();
        Ok(Assembler { output, cipher, header: header.unwrap_or_default(), compress: how.compress, crc: Crc::new(), size: 0 })
    }

    fn run(mut self, ordered: mpsc::Receiver<Next>) {
        if let Err(Stopped::Failed(error)) = self.assemble(ordered) {
            self.output.blocking_send(Err(error)).ok();
        }
    }

    fn assemble(&mut self, mut ordered: mpsc::Receiver<Next>) -> Result<(), Stopped> {
        let header = std::mem::take(&mut self.header);
        self.emit(header.into())?;
        if self.compress {
            self.write(Bytes::from_static(&GZIP_HEADER))?;
        }
        loop {
            match ordered.blocking_recv() {
                Some(Next::Plain(content)) => self.write(content)?,
                Some(Next::Deflated(result)) => {
                    let lost = |_| Stopped::Failed(Error::guest("a thread that compresses the backup has died"));
                    let block = result.blocking_recv().map_err(lost)?.map_err(Stopped::Failed)?;
                    self.crc.combine(&block.crc);
                    self.size += u64::from(block.crc.amount());
                    self.write(block.bytes)?;
                }
                Some(Next::End) => return self.end(),
                Some(Next::Failed(error)) => return Err(Stopped::Failed(error)),
                None => return Err(Stopped::Failed(Error::guest("reading from the backup tool ended before its output did"))),
            }
        }
    }

    fn end(&mut self) -> Result<(), Stopped> {
        if self.compress {
            self.write(gzip_trailer(&self.crc, self.size).into())?;
        }
        match self.cipher.take() {
            Some(cipher) => self.emit(cipher.finish().map_err(crypto)?.into()),
            None => Ok(()),
        }
    }

    fn write(&mut self, bytes: Bytes) -> Result<(), Stopped> {
        let bytes = match &mut self.cipher {
            Some(cipher) => cipher.update(&bytes).map_err(crypto)?.into(),
            None => bytes,
        };
        self.emit(bytes)
    }

    fn emit(&self, bytes: Bytes) -> Result<(), Stopped> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.output.blocking_send(Ok(bytes)).map_err(|_| Stopped::Unwanted)
    }
}
