//! [`DriverDump`]: the agent reads the data itself, for guests without `mongodump`.

use async_trait::async_trait;
use mongodb::bson::{Document, RawDocumentBuf, Timestamp};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::task::AbortOnDropHandle;

use super::archive::{ArchiveWriter, CollectionKind, CollectionMetadata, Header, Namespace, Prelude};
use super::catalog::catalog;
use super::names::KIND;
use super::oplog::{self, OplogSpan};
use crate::error::{Error, Result, ResultExt};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::backup::{BackupJob, BackupRunner, BackupStream};
use crate::system::mongodb::{Client, Session};

/// Between the reader of the data and the stream that stores them.
const PIPE: usize = 256 << 10;
/// Bytes that are handed on at once.
const PIECE: usize = 64 << 10;
/// A collection was dropped, or its cursor with it, while it was read (src/mongo/base/error_codes.yml: `NamespaceNotFound`, `QueryPlanKilled`).
const GONE: [u16; 2] = [26, 175];

/// Archives as `mongodump --archive --oplog` makes them, read through the driver.
#[derive(Debug)]
pub struct DriverDump {
    /// The way to the server.
    pub client: Client,
}

#[async_trait]
impl BackupRunner for DriverDump {
    fn name(&self) -> &'static str {
        KIND
    }

    fn extension(&self) -> &'static str {
        ""
    }

    async fn start(&self, op: &Op, job: &BackupJob) -> Result<BackupStream> {
        if job.parent.is_some() {
            return Err(Error::bad_request("there are no incremental backups of this datastore: ask for a full one"));
        }
        let session = self.client.session(op).await?;
        // The log first: whatever changes from now on is in it.
        let span = OplogSpan::begin(op, &session).await?;
        if span.is_none() {
            tracing::info!("this server is no member of a replica set: each collection of the backup is as it was when it was read");
        }
        let prelude = prelude(op, &session, span.is_some()).await.action("look at what there is to dump")?;
        let (reader, pipe) = tokio::io::duplex(PIPE);
        let dump = Dump { op: op.clone(), session, pipe, buffer: Vec::with_capacity(2 * PIECE) };
        let dumping = AbortOnDropHandle::new(tokio::spawn(dump.run(prelude, span)));
        let finish = async move { dumping.await.map_err(|error| Error::guest(format!("reading the data broke off: {error}")))? };
        Ok(BackupStream { reader: Box::pin(reader), finish: Box::pin(finish) })
    }
}

async fn prelude(op: &Op, session: &Session, has_oplog: bool) -> Result<Prelude> {
    let (major, minor, patch) = session.flavor(op).await?.version;
    let mut collections = catalog(op, session).await?;
    if has_oplog {
        collections.push(CollectionMetadata { namespace: Namespace::oplog(), metadata: String::new(), kind: CollectionKind::Collection });
    }
    let header = Header {
        concurrent_collections: 1,
        server_version: format!("{major}.{minor}.{patch}"),
        tool_version: format!("trove-guestagent {}", env!("CARGO_PKG_VERSION")),
    };
    Ok(Prelude { header, collections })
}

struct Dump {
    op: Op,
    session: Session,
    pipe: DuplexStream,
    buffer: Vec<u8>,
}

impl Dump {
    async fn run(mut self, prelude: Prelude, span: Option<OplogSpan>) -> Result<BackupMetadata> {
        let mut writer = ArchiveWriter::begin(&prelude, &mut self.buffer);
        for collection in prelude.collections.iter().filter(|collection| !collection.namespace.is_oplog()) {
            let name = collection.data_namespace();
            writer.open(&name, &mut self.buffer);
            if collection.kind != CollectionKind::View {
                self.collection(&mut writer, &name, span.is_some()).await.action(format!("read {name}"))?;
            }
            writer.close(&mut self.buffer);
        }
        let mut metadata = BackupMetadata::new();
        if let Some(span) = span {
            let end = span.end(&self.op, &self.session).await?;
            writer.open(&Namespace::oplog(), &mut self.buffer);
            self.oplog(&mut writer, span, end).await.action("read the oplog")?;
            writer.close(&mut self.buffer);
            // It must not have lost its begin before it was read.
            span.check(&self.op, &self.session).await?;
            metadata = oplog::metadata(end);
        }
        self.hand_on(1).await?;
        self.pipe.shutdown().await.action("hand the dump on")?;
        Ok(metadata)
    }

    async fn collection(&mut self, writer: &mut ArchiveWriter, name: &Namespace, has_oplog: bool) -> Result<()> {
        match self.documents(writer, (&name.database, &name.collection), Document::new(), |_| Ok(())).await {
            // What the oplog says of it is replayed over what was read of it.
            Err(error) if has_oplog && error.database_code().is_some_and(|code| GONE.contains(&code)) => {
                tracing::info!(collection = %name, "dropped while it was read");
                Ok(())
            }
            other => other,
        }
    }

    async fn oplog(&mut self, writer: &mut ArchiveWriter, span: OplogSpan, end: Timestamp) -> Result<()> {
        let filter = oplog::between(span.start, end);
        self.documents(writer, (oplog::DATABASE, oplog::COLLECTION), filter, oplog::check_entry).await
    }

    async fn documents(
        &mut self,
        writer: &mut ArchiveWriter,
        (database, collection): (&str, &str),
        filter: Document,
        check: impl Fn(&mongodb::bson::RawDocument) -> Result<()> + Send,
    ) -> Result<()> {
        let action = "read documents";
        let documents = self.session.driver().database(database).collection::<RawDocumentBuf>(collection);
        // A slow store may keep a cursor waiting for long.
        let finding = documents.find(filter).no_cursor_timeout(true);
        let mut cursor =
            self.op.until_cancelled(action, finding.into_future()).await?.map_err(|error| self.session.refusal(&error, action))?;
        while self.op.until_cancelled(action, cursor.advance()).await?.map_err(|error| self.session.refusal(&error, action))? {
            let document = cursor.current();
            check(document)?;
            if !writer.document(document.as_bytes(), &mut self.buffer) {
                return Err(Error::guest("the server returned a document that is longer than documents may be"));
            }
            self.hand_on(PIECE).await?;
        }
        Ok(())
    }

    /// Hands on what there is, if it is so many bytes.
    async fn hand_on(&mut self, at_least: usize) -> Result<()> {
        if self.buffer.len() < at_least {
            return Ok(());
        }
        self.op.until_cancelled("hand the dump on", self.pipe.write_all(&self.buffer)).await?.action("hand the dump on")?;
        self.buffer.clear();
        Ok(())
    }
}
