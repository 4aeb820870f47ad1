//! [`Publication`]: one log and what is stored of it.

use bytes::Bytes;
use md5::{Digest, Md5};

use super::definition::LogDefinition;
use super::lines::{LogFile, Piece};
use super::object_names::{ObjectNames, piece_name};
use super::record::{Metafile, Record, RecordFile};
use crate::config::Settings;
use crate::error::{Error, Result, ResultExt};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::backup::{Failures, Retry};
use crate::strategies::storage::{ByteStream, ObjectContent, ObjectName, ObjectStore, byte_stream};

/// A metafile is a few hundred bytes.
const LARGEST_METAFILE: usize = 1 << 16;
/// Attempts at a request, and the pauses between them, fit into the caller's patience.
const ATTEMPTS: u32 = 4;

/// A log, and its objects.
#[derive(Debug)]
pub(super) struct Publication<'a> {
    settings: &'a Settings,
    store: &'a dyn ObjectStore,
    names: ObjectNames,
    log: &'a LogDefinition,
    record: RecordFile,
}

/// How far a log is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Bytes of the log now.
    pub(super) size: u64,
    /// Bytes that are stored.
    pub(super) published: u64,
    /// What is stored is of another file than the one that is there.
    pub(super) rotated: bool,
}

impl<'a> Publication<'a> {
    pub(super) fn new(settings: &'a Settings, store: &'a dyn ObjectStore, log: &'a LogDefinition) -> Self {
        let names = ObjectNames::new(settings, log.name);
        Publication { settings, store, names, log, record: RecordFile::new(settings, log.name) }
    }

    pub(super) fn names(&self) -> &ObjectNames {
        &self.names
    }

    /// Compares the log with what is stored.
    pub(super) async fn standing(&self, op: &Op) -> Result<Standing> {
        let stored = self.stored(op).await?;
        let file = LogFile::open(&self.log.file)?;
        let rotated = is_rotated(file.as_ref(), stored.as_ref())?;
        Ok(Standing { size: file.map_or(0, |file| file.size), published: stored.map_or(0, |stored| stored.log_size), rotated })
    }

    /// Deletes what is stored. The metafile goes last: until then a repetition finds all the rest.
    pub(super) async fn discard(&self, op: &Op) -> Result<()> {
        for piece in self.store.list_objects(op, self.names.container(), &self.names.prefix()).await? {
            self.patiently(op, "delete", &piece, || self.store.delete_object(op, &piece)).await?;
        }
        let metafile = self.names.metafile();
        self.patiently(op, "delete", &metafile, || self.store.delete_object(op, &metafile)).await?;
        self.record.remove()
    }

    /// Stores what is new of the log, after discarding what is stored of one that was rotated away. Cut off anywhere and done again, every piece
    /// is there, and once: a piece counts when the metafile says so, and one that was stored without being counted is stored again under its name.
    pub(super) async fn publish(&self, op: &Op) -> Result<()> {
        let Some(file) = LogFile::open(&self.log.file)? else { return Err(self.missing()) };
        let stored = self.stored(op).await?;
        let mut published = stored.as_ref().map_or(0, |stored| stored.log_size);
        if is_rotated(Some(&file), stored.as_ref())? {
            tracing::info!(log = self.log.name, "the log was rotated: what is stored of it is discarded");
            self.discard(op).await?;
            published = 0;
        }
        self.store.make_container(op, self.names.container()).await?;
        self.put_metafile(op, &file, published).await?;
        while let Some(piece) = self.next_piece(op, &file, published).await? {
            self.put_piece(op, &file, &piece).await?;
            published = piece.end();
            self.put_metafile(op, &file, published).await?;
        }
        Ok(())
    }

    async fn next_piece(&self, op: &Op, file: &LogFile, offset: u64) -> Result<Option<Piece>> {
        let (file, limit) = (file.clone(), self.settings.guest_log.limit);
        let action = "look for lines of the log";
        let scan = crate::op::spawn_blocking(move || file.piece(offset, limit));
        op.until_cancelled(action, scan).await?.map_err(|error| Error::guest(format!("failed to {action}: {error}")))?
    }

    async fn put_piece(&self, op: &Op, file: &LogFile, piece: &Piece) -> Result<()> {
        let begun = self.record.read()?.filter(|record| record.offset == piece.offset);
        let record = begun.unwrap_or_else(|| Record { piece: piece_name(), offset: piece.offset });
        self.record.write(&record)?;
        let name = self.names.piece(&record.piece);
        let metadata = BackupMetadata::from([("lines".to_owned(), piece.lines.to_string())]);
        let content = || ObjectContent { bytes: file.stream(piece), size: piece.size, md5: piece.md5.clone() };
        self.put(op, &name, content, &metadata).await
    }

    async fn put_metafile(&self, op: &Op, file: &LogFile, published: u64) -> Result<()> {
        let metafile = Metafile {
            log_name: self.log.name.to_owned(),
            log_type: self.log.kind.word().to_owned(),
            log_file: self.log.file.to_string(),
            log_size: published,
            log_header_digest: file.header_digest()?,
            log_tail_digest: if published > 0 { Some(file.digest_before(published)?) } else { None },
        };
        let text = serde_json::to_vec(&metafile).map_err(|error| Error::guest(format!("cannot write a metafile: {error}")))?;
        let text = Bytes::from(text);
        let (size, md5) = (u64::try_from(text.len()).unwrap_or(u64::MAX), format!("{:x}", Md5::digest(&text)));
        let content = || ObjectContent { bytes: whole(text.clone()), size, md5: md5.clone() };
        self.put(op, &self.names.metafile(), content, &BackupMetadata::new()).await
    }

    async fn put(&self, op: &Op, name: &ObjectName, content: impl Fn() -> ObjectContent, metadata: &BackupMetadata) -> Result<()> {
        let expiry = Some(self.settings.guest_log.expiry);
        self.patiently(op, "store", name, || self.store.put_object(op, name, content(), metadata, expiry)).await
    }

    async fn patiently<F: Future<Output = Result<()>>>(
        &self,
        op: &Op,
        verb: &str,
        name: &ObjectName,
        attempt: impl Fn() -> F,
    ) -> Result<()> {
        let mut failures = Failures::new(Retry { attempts: ATTEMPTS, ..Retry::default() });
        while let Err(error) = attempt().await {
            failures.pause(op, &format!("{verb} {name}"), error).await?;
        }
        Ok(())
    }

    async fn stored(&self, op: &Op) -> Result<Option<Metafile>> {
        let name = self.names.metafile();
        let Some(text) = self.store.get_object(op, &name, LARGEST_METAFILE).await? else { return Ok(None) };
        let damaged = |error| Error::guest(format!("the object {name} is not a metafile ({error}): discard the log, and publish it again"));
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }

    fn missing(&self) -> Error {
        let mut message = format!("Cannot publish log file '{}' as it does not exist.", self.log.file);
        if self.log.name == super::flow::OWN_LOG && self.settings.log.file.is_none() {
            message.push_str(" The agent writes to its standard error: set log_dir.");
        }
        Error::guest(message)
    }
}

/// Whether what is stored is of a file that is gone. Trove's agents see a smaller file and another first line; the end of what is stored tells more,
/// since every log of a server begins with the same lines.
fn is_rotated(file: Option<&LogFile>, stored: Option<&Metafile>) -> Result<bool> {
    let Some(stored) = stored.filter(|stored| stored.log_size > 0) else { return Ok(false) };
    let Some(file) = file.filter(|file| file.size >= stored.log_size) else { return Ok(true) };
    match &stored.log_tail_digest {
        Some(digest) => file.digest_before(stored.log_size).map(|found| found != *digest),
        None => file.header_digest().map(|found| found != stored.log_header_digest),
    }
    .action("compare the log with what is stored")
}

fn whole(text: Bytes) -> ByteStream {
    let (sender, stream) = byte_stream(1);
    // There is room for one.
    sender.try_send(Ok(text)).ok();
    stream
}
