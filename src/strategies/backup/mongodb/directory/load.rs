//! [`DirectoryLoad`]: a tar of the Python agent into a server, through the driver.

use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use tokio::fs::File as OpenFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};

use super::super::archive::{ArchiveError, Event, MAX_DOCUMENT, MIN_DOCUMENT, Namespace};
use super::super::load::Loader;
use super::dump::{Dump, File, file};
use super::tar::{TarEvent, TarReader, is_tar};
use crate::error::{Result, ResultExt};
use crate::op::Op;
use crate::strategies::storage::{ByteStream, byte_stream};
use crate::system::files;
use crate::system::mongodb::Session;

/// So much shows what it is.
const HEAD: usize = 512;
/// What is said of one collection's options and indexes at most.
const MAX_METADATA: usize = 64 << 20;

/// Looks whether content is a tar; it comes back whole.
///
/// # Errors
/// [`Error::Cancelled`](crate::error::Error::Cancelled).
pub async fn look(op: &Op, mut content: ByteStream) -> Result<(bool, ByteStream)> {
    let (mut seen, mut head) = (Vec::new(), Vec::new());
    while head.len() < HEAD {
        let Some(bytes) = op.until_cancelled("read the backup", content.recv()).await? else { break };
        if let Ok(piece) = &bytes {
            head.extend_from_slice(piece);
        }
        let is_end = bytes.is_err();
        seen.push(bytes);
        if is_end {
            break;
        }
    }
    let (sender, whole) = byte_stream(1);
    tokio::spawn(async move {
        for bytes in seen {
            if sender.send(bytes).await.is_err() {
                return;
            }
        }
        while let Some(bytes) = content.recv().await {
            if sender.send(bytes).await.is_err() {
                return;
            }
        }
    });
    Ok((is_tar(&head), whole))
}

/// Loads one tar. Its files come in the order of a directory, which is none: all are unpacked first, and removed as they are loaded.
#[derive(Debug)]
pub struct DirectoryLoad<'a> {
    /// The operation.
    pub op: &'a Op,
    /// The server, which is empty and nobody else's.
    pub session: &'a Session,
    /// Where to unpack: on the volume, root's alone.
    pub room: Utf8PathBuf,
}

impl DirectoryLoad<'_> {
    /// Loads all of it, as [`Loader::load`] does an archive.
    ///
    /// # Errors
    /// The content broke off, or is damaged; there is no space; the server refused something of it.
    pub async fn load(self, content: ByteStream) -> Result<()> {
        files::ensure_directory(&self.room, 0o700, None)?;
        let (prelude, data) = self.unpack(content).await?.take_apart()?;
        let mut loader = Loader::new(self.op, self.session);
        loader.see(Event::Prelude(Arc::new(prelude))).await?;
        for (namespace, file) in data {
            let namespace = Arc::new(namespace);
            let action = format!("read {namespace} of the dump");
            let mut reader = BufReader::new(OpenFile::open(&file).await.action(action.clone())?);
            while let Some(document) = document(&mut reader, &namespace).await? {
                loader.see(Event::Document(Arc::clone(&namespace), document)).await?;
            }
            loader.see(Event::End(namespace)).await?;
            files::remove(&file)?;
        }
        loader.finish().await?;
        files::remove_tree(&self.room)
    }

    async fn unpack(&self, mut content: ByteStream) -> Result<Dump> {
        let (mut reader, mut dump) = (TarReader::default(), Dump::default());
        let (mut open, mut count) = (Unpacking::Nothing, 0_u64);
        while let Some(bytes) = self.op.until_cancelled("read the backup", content.recv()).await? {
            reader.push(&bytes?);
            while let Some(event) = reader.next_event()? {
                match event {
                    TarEvent::File(path) => {
                        count += 1;
                        open = Unpacking::begin(&path, self.room.join(format!("{count}.bson"))).await?;
                    }
                    TarEvent::Data(piece) => open.add(&piece).await?,
                    TarEvent::End => std::mem::replace(&mut open, Unpacking::Nothing).end(&mut dump).await?,
                }
            }
        }
        reader.finish()?;
        Ok(dump)
    }
}

/// A file on its way.
enum Unpacking {
    Nothing,
    Text(Namespace, Vec<u8>),
    Documents(Namespace, Utf8PathBuf, BufWriter<OpenFile>),
}

fn writing(path: &Utf8Path) -> String {
    format!("unpack the dump to {path}")
}

impl Unpacking {
    async fn begin(path: &str, to: Utf8PathBuf) -> Result<Unpacking> {
        Ok(match file(path) {
            File::Metadata(namespace) => Unpacking::Text(namespace, Vec::new()),
            File::Data(namespace) => {
                let output = OpenFile::create(&to).await.action(writing(&to))?;
                Unpacking::Documents(namespace, to, BufWriter::new(output))
            }
            File::Other => Unpacking::Nothing,
        })
    }

    async fn add(&mut self, piece: &[u8]) -> Result<()> {
        match self {
            Unpacking::Nothing => Ok(()),
            Unpacking::Text(namespace, text) if text.len() + piece.len() > MAX_METADATA => {
                Err(ArchiveError::Metadata(namespace.clone()).into())
            }
            Unpacking::Text(_, text) => {
                text.extend(piece);
                Ok(())
            }
            Unpacking::Documents(_, path, output) => output.write_all(piece).await.action(writing(path)),
        }
    }

    async fn end(self, dump: &mut Dump) -> Result<()> {
        match self {
            Unpacking::Nothing => {}
            Unpacking::Text(namespace, text) => {
                let text = String::from_utf8(text).map_err(|_| ArchiveError::Metadata(namespace.clone()))?;
                dump.add_metadata(namespace, text);
            }
            Unpacking::Documents(namespace, path, mut output) => {
                output.flush().await.action(writing(&path))?;
                dump.add_data(namespace, path);
            }
        }
        Ok(())
    }
}

/// The next document of a collection's file; `None` at its end.
async fn document(reader: &mut BufReader<OpenFile>, namespace: &Namespace) -> Result<Option<Bytes>> {
    let action = || format!("read {namespace} of the dump");
    let mut head = Vec::new();
    let got = (&mut *reader).take(4).read_to_end(&mut head).await.action(action())?;
    if got == 0 {
        return Ok(None);
    }
    let damaged = || ArchiveError::DumpedDocument(namespace.clone());
    let length = head.first_chunk::<4>().map(|length| u32::from_le_bytes(*length)).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| (MIN_DOCUMENT..=MAX_DOCUMENT).contains(length)).ok_or_else(damaged)?;
    let mut bytes = head;
    (&mut *reader).take(length as u64 - 4).read_to_end(&mut bytes).await.action(action())?;
    if bytes.len() < length || bytes.last() != Some(&0) {
        return Err(damaged().into());
    }
    Ok(Some(bytes.into()))
}
