//! The agent's backup stream on its own, for `benches/backup/run`: `store` takes a dump on standard input, `paced` as well, but no faster than RATE
//! bytes a second while its server has clients at work, `swift` stores it in a real Swift, `synthetic` makes one of any size, `restore` reads a file. What the others store goes nowhere; what is restored goes to standard output. The last line on standard error is a JSON object.
//! The password is in `BACKUP_KEY`: this is no secret.

use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use camino::Utf8PathBuf;
use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;
use trove_guestagent::config::Settings;
use trove_guestagent::error::{Error, Result, ResultExt};
use trove_guestagent::model::{BackupMetadata, RequestContext};
use trove_guestagent::op::Op;
use trove_guestagent::progress::Progress;
use trove_guestagent::strategies::backup::mysql::MySqlUsage;
use trove_guestagent::strategies::backup::{Decoding, Encoding, Limits, Pace, RateLimits, Retry, Uploaded, download, encode, upload};
use trove_guestagent::strategies::storage::{
    ByteStream, Location, ObjectName, Part, Segment, SegmentBody, Storage, StorageRequest, StoredObject, Visit, byte_stream, storage_for,
};
use trove_guestagent::system::mysql::Client;

/// Hashes what it gets, as Swift would on another machine, and reads from a file.
#[derive(Debug)]
struct Nowhere {
    file: Option<Arc<std::fs::File>>,
}

fn hexadecimal(sum: Md5) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[async_trait]
impl Storage for Nowhere {
    fn location(&self, name: &ObjectName) -> String {
        format!("nowhere://store/{name}")
    }

    async fn visit(&self, _op: &Op, container: &str) -> Result<Visit> {
        Ok(Visit { found: container.to_owned(), time: None })
    }

    async fn ensure_container(&self, _: &Op, _: &str) -> Result<()> {
        Ok(())
    }

    async fn put_segment(&self, _: &Op, _: &ObjectName, mut body: SegmentBody) -> Result<String> {
        let mut sum = Md5::new();
        while let Some(bytes) = body.bytes.recv().await {
            sum.update(bytes?);
        }
        Ok(hexadecimal(sum))
    }

    async fn put_manifest(&self, _: &Op, _: &ObjectName, _: &[Segment], _: &BackupMetadata) -> Result<String> {
        Err(Error::guest("nothing is kept"))
    }

    async fn delete(&self, _: &Op, _: &ObjectName) -> Result<()> {
        Ok(())
    }

    async fn inspect(&self, _: &Op, _: &Location) -> Result<StoredObject> {
        Err(Error::guest("nothing is kept"))
    }

    async fn read(&self, _: &Op, part: &Part, offset: u64) -> Result<ByteStream> {
        let (sender, stream) = byte_stream(4);
        let file = self.file.clone().ok_or_else(|| Error::guest("there is no file"))?;
        let size = part.size;
        tokio::task::spawn_blocking(move || {
            let mut offset = offset;
            while offset < size {
                let mut piece = vec![0; usize::try_from((size - offset).min(64 << 10)).unwrap_or_default()];
                let read = file.read_exact_at(&mut piece, offset).action("read the backup");
                offset += piece.len() as u64;
                if sender.blocking_send(read.map(|()| Bytes::from(piece))).is_err() {
                    return;
                }
            }
        });
        Ok(stream)
    }
}

/// The same megabytes over and over, each time with another number in front: further apart than gzip looks back.
struct Synthetic {
    text: Vec<u8>,
    at: usize,
    left: u64,
}

impl Synthetic {
    fn new(size: u64) -> Self {
        let mut text = Vec::new();
        let mut state = 1_u64;
        while text.len() < 4 << 20 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let words = ["order", "shipped", "returned", "customer", "pending", "invoice"];
            let word = words[usize::try_from(state >> 60).unwrap_or_default() % words.len()];
            text.extend_from_slice(format!("({},'{word}','{:08x}'),", state >> 40, state >> 32 & 0xffff_ffff).as_bytes());
        }
        Synthetic { text, at: 0, left: size }
    }
}

impl AsyncRead for Synthetic {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let rest = &self.text[self.at..];
        let length = rest.len().min(buffer.remaining()).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buffer.put_slice(&rest[..length]);
        self.at = (self.at + length) % self.text.len();
        self.left -= length as u64;
        Poll::Ready(Ok(()))
    }
}

/// `Pss` of this process, in bytes.
fn pss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Looks at the memory until the process ends.
fn watch_memory() -> Arc<AtomicU64> {
    let most = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&most);
    tokio::spawn(async move {
        loop {
            shared.fetch_max(pss(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    most
}

fn key() -> Result<secrecy::SecretString> {
    std::env::var("BACKUP_KEY").map(Into::into).map_err(|_| Error::guest("BACKUP_KEY is not set"))
}

/// Standard input, a pipe like the one between the agent and a tool.
fn input() -> Result<Pin<Box<dyn AsyncRead + Send>>> {
    let descriptor = std::io::stdin().as_fd().try_clone_to_owned().action("open standard input")?;
    Ok(Box::pin(pipe::Receiver::from_owned_fd(descriptor).action("read standard input, a pipe")?))
}

/// The server a dump comes from: its socket, and the option file of the account that dumps.
type Server<'a> = [&'a str; 2];

/// Standard input at the agent's pace.
async fn store_paced(rate: u64, [socket, credentials]: Server<'_>, spool: Option<Utf8PathBuf>, progress: &Arc<Progress>) -> Result<()> {
    let client = Arc::new(Client::new(socket.into(), credentials.into()));
    let limits = RateLimits { always: None, in_use: NonZeroU64::new(rate) };
    let (pace, _following) = Pace::following(&internal(), limits, Box::new(MySqlUsage::new(client))).await;
    store(pace.slow(input()?), spool, progress).await
}

fn internal() -> Op {
    Op::internal(CancellationToken::new())
}

async fn store(reader: Pin<Box<dyn AsyncRead + Send>>, spool: Option<Utf8PathBuf>, progress: &Arc<Progress>) -> Result<()> {
    let name = ObjectName::new("database_backups", "bench.gz.enc");
    store_in(&internal(), &Nowhere { file: None }, &name, reader, spool, progress).await.map(drop)
}

async fn store_in(
    op: &Op,
    storage: &dyn Storage,
    name: &ObjectName,
    reader: Pin<Box<dyn AsyncRead + Send>>,
    spool: Option<Utf8PathBuf>,
    progress: &Arc<Progress>,
) -> Result<Uploaded> {
    let encoded = encode(reader, Encoding { compress: true, key: Some(key()?) }, Arc::clone(progress));
    let limits = Limits { segment_max_size: 2 << 30, spool_dir: spool, retry: Retry::default() };
    upload(op, storage, name, encoded, &limits, progress).await
}

/// Standard input into a real Swift, with the token of `SWIFT_TOKEN`, manifest and all.
async fn store_in_swift(url: &str, object: &str, spool: Utf8PathBuf, progress: &Arc<Progress>) -> Result<()> {
    let token = std::env::var("SWIFT_TOKEN").map_err(|_| Error::guest("SWIFT_TOKEN is not set"))?;
    let context = RequestContext::from_wire(serde_json::Map::from_iter([("auth_token".to_owned(), token.into())]));
    let op = Op::new(CancellationToken::new(), context);
    let settings = Settings::from_text("bench.conf", "[DEFAULT]\nguest_id = bench\ndatastore_manager = mysql\n");
    let settings = settings.map_err(|error| Error::guest(error.to_string()))?;
    let request = StorageRequest { swift_url: Some(url.to_owned()), ..StorageRequest::default() };
    let storage = storage_for(&op, &settings, &request).await?;
    let name = ObjectName::new("database_backups", object);
    storage.ensure_container(&op, &name.container).await?;
    let uploaded = store_in(&op, &*storage, &name, input()?, Some(spool), progress).await?;
    storage.put_manifest(&op, &name, &uploaded.segments, &BackupMetadata::new()).await.map(drop)
}

/// The MD5 is what Swift would have told in advance.
async fn restore(path: &str, md5: &str, progress: &Arc<Progress>) -> Result<()> {
    let file = std::fs::File::open(path).action(format!("open {path}"))?;
    let size = file.metadata().action(format!("see how long {path} is"))?.len();
    let part = Part { name: ObjectName::new("database_backups", "bench_00000000"), size, md5: md5.to_owned() };
    let object = StoredObject { checksum: part.md5.clone(), size, metadata: BackupMetadata::new(), parts: vec![part] };
    let how = Decoding { checksum: None, key: Some(key()?), retry: Retry::default() };
    let op = Op::internal(CancellationToken::new());
    let mut stream = download(&op, Arc::new(Nowhere { file: Some(Arc::new(file)) }), object, how, Arc::clone(progress)).await?;
    let descriptor = std::io::stdout().as_fd().try_clone_to_owned().action("open standard output")?;
    let mut output = pipe::Sender::from_owned_fd(descriptor).action("write to standard output, a pipe")?;
    while let Some(bytes) = stream.recv().await {
        output.write_all(&bytes?).await.action("write the content")?;
    }
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let most = watch_memory();
    let progress = Progress::new("bench");
    let started = Instant::now();
    match words[..] {
        ["store"] => store(input()?, None, &progress).await?,
        ["store", spool] => store(input()?, Some(spool.into()), &progress).await?,
        ["paced", rate, socket, credentials] => store_paced(bytes(rate)?, [socket, credentials], None, &progress).await?,
        ["paced", rate, socket, credentials, spool] => {
            store_paced(bytes(rate)?, [socket, credentials], Some(spool.into()), &progress).await?
        }
        ["swift", url, object, spool] => store_in_swift(url, object, spool.into(), &progress).await?,
        ["synthetic", size] => store(Box::pin(Synthetic::new(bytes(size)?)), None, &progress).await?,
        ["synthetic", size, spool] => store(Box::pin(Synthetic::new(bytes(size)?)), Some(spool.into()), &progress).await?,
        ["restore", path, md5] => restore(path, md5, &progress).await?,
        _ => {
            return Err(Error::guest(
                "usage: store [SPOOL] | paced RATE SOCKET CREDENTIALS [SPOOL] | swift URL OBJECT SPOOL | synthetic BYTES [SPOOL] | restore FILE MD5",
            ));
        }
    }
    most.fetch_max(pss(), Ordering::Relaxed);
    let (now, seconds, most) = (progress.snapshot(), started.elapsed().as_secs_f64(), most.load(Ordering::Relaxed));
    eprintln!("{{\"content\": {}, \"stored\": {}, \"seconds\": {seconds}, \"pss\": {most}}}", now.content, now.stored);
    Ok(())
}

fn bytes(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::guest(format!("'{text}' is no number of bytes")))
}
