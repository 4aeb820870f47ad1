//! [`Loader`]: an archive into a server, through the driver. The server must be empty, and nobody else's: what is in it meanwhile is of no single moment.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mongodb::bson::raw::{RawArrayBuf, cstr};
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};

use super::archive::{ArchiveReader, CollectionKind, CollectionMetadata, Event, Metadata, Namespace, Prelude};
use super::indexes::{Indexes, is_of_id};
use super::replay::Replay;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::strategies::storage::ByteStream;
use crate::system::mongodb::Session;

/// Documents in one command: so many (manual, "MongoDB Limits": `maxWriteBatchSize` is 100000), or so many bytes (a message has 48 MB).
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 8 << 20;
/// All documents of a collection are read for its indexes.
const INDEX_DEADLINE: Duration = Duration::from_secs(12 * 3600);
/// A document that is there already (src/mongo/base/error_codes.yml: `DuplicateKey`).
const DUPLICATE_KEY: i32 = 11000;
/// The schema of accounts since SCRAM (manual, "authSchemaUpgrade").
const ACCOUNT_SCHEMA: i64 = 5;

/// Documents on their way to one collection.
#[derive(Debug, Default)]
struct Batch {
    namespace: Option<Arc<Namespace>>,
    documents: Vec<Bytes>,
    bytes: usize,
}

/// What an archive's documents are taken for.
enum Content {
    Data,
    Oplog,
    Accounts,
    /// The version of the accounts' schema.
    Version,
    /// Of the old server, or of its cluster.
    LeftOut,
}

impl Content {
    fn of(namespace: &Namespace) -> Content {
        match (namespace.database.as_str(), namespace.collection.as_str()) {
            _ if namespace.is_oplog() => Content::Oplog,
            ("admin", "system.users" | "system.roles") => Content::Accounts,
            ("admin", "system.version") => Content::Version,
            ("admin", collection) if collection.starts_with("system.") => Content::LeftOut,
            ("config" | "local" | "", _) => Content::LeftOut,
            _ => Content::Data,
        }
    }
}

/// Loads one archive.
#[derive(Debug)]
pub struct Loader<'a> {
    op: &'a Op,
    session: &'a Session,
    batch: Batch,
    indexes: Indexes,
    replay: Replay,
    /// Collections of data that have not ended yet.
    open: usize,
    has_oplog: bool,
    loaded: u64,
}

impl<'a> Loader<'a> {
    /// Into this server.
    pub fn new(op: &'a Op, session: &'a Session) -> Loader<'a> {
        let (batch, indexes, replay) = (Batch::default(), Indexes::default(), Replay::default());
        Loader { op, session, batch, indexes, replay, open: 0, has_oplog: false, loaded: 0 }
    }

    /// Loads all of it: collections, documents, accounts, what the oplog says; then makes the indexes.
    ///
    /// # Errors
    /// The content broke off, or is no archive, or is damaged; the server refused something of it.
    pub async fn load(mut self, mut content: ByteStream) -> Result<()> {
        let mut reader = ArchiveReader::default();
        while let Some(bytes) = self.op.until_cancelled("read the backup", content.recv()).await? {
            reader.push(&bytes?);
            while let Some(event) = reader.next_event()? {
                self.see(event).await?;
            }
        }
        reader.finish()?;
        self.finish().await
    }

    /// After the last event: makes the indexes.
    ///
    /// # Errors
    /// The server refused one, or documents.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.flush().await?;
        for (namespace, command) in mem::take(&mut self.indexes).commands() {
            let making = self.session.run_for(self.op, "make the indexes", &namespace.database, command, INDEX_DEADLINE).await;
            making.action(format!("restore {namespace}"))?;
        }
        tracing::info!(documents = self.loaded, oplog_entries = self.replay.applied, "the archive was loaded");
        Ok(())
    }

    /// Takes what an archive tells next.
    ///
    /// # Errors
    /// It is damaged; the server refused something of it.
    pub(super) async fn see(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Prelude(prelude) => self.prepare(&prelude).await,
            Event::Document(namespace, document) => match Content::of(&namespace) {
                Content::Data => self.add(namespace, document).await,
                Content::Oplog => self.replay(&document).await,
                Content::Accounts => self.account(&namespace, &document).await,
                Content::Version => check_schema(&document),
                Content::LeftOut => Ok(()),
            },
            Event::End(namespace) => {
                if matches!(Content::of(&namespace), Content::Data) {
                    self.open = self.open.saturating_sub(1);
                }
                self.flush().await
            }
        }
    }

    /// Makes the collections; views last, since they show what must be there.
    async fn prepare(&mut self, prelude: &Prelude) -> Result<()> {
        self.has_oplog = prelude.collections.iter().any(|collection| collection.namespace.is_oplog());
        let is_view = |collection: &&CollectionMetadata| collection.kind == CollectionKind::View;
        let data = prelude.collections.iter().filter(|collection| matches!(Content::of(&collection.namespace), Content::Data));
        let (views, collections): (Vec<_>, Vec<_>) = data.partition(is_view);
        self.open = views.len() + collections.len();
        for collection in collections.into_iter().chain(views) {
            let metadata = Metadata::of(collection)?;
            self.indexes.made(collection.namespace.clone(), &metadata.options);
            let mut command = doc! { "create": &collection.namespace.collection };
            // Of no use since 3.4 or 4.0 (manual, "create"), and refused by later servers.
            let options = metadata.options.into_iter().filter(|(key, _)| key != "autoIndexId" && key != "flags");
            command.extend(options);
            if collection.kind == CollectionKind::Collection
                && !command.contains_key("clusteredIndex")
                && let Some(index) = metadata.indexes.iter().find(|index| is_of_id(index))
            {
                let mut index = index.clone();
                index.remove("ns");
                command.insert("idIndex", index);
            }
            self.run(&collection.namespace, "make a collection", command).await?;
            self.indexes.add(collection.namespace.clone(), metadata.indexes);
        }
        Ok(())
    }

    async fn add(&mut self, namespace: Arc<Namespace>, document: Bytes) -> Result<()> {
        let is_other = self.batch.namespace.as_ref().is_some_and(|other| *other != namespace);
        if is_other || self.batch.documents.len() >= BATCH || self.batch.bytes + document.len() > BATCH_BYTES {
            self.flush().await?;
        }
        self.batch.namespace = Some(namespace);
        self.batch.bytes += document.len();
        self.batch.documents.push(document);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let Batch { namespace: Some(namespace), documents, .. } = mem::take(&mut self.batch) else { return Ok(()) };
        let mut array = RawArrayBuf::new();
        for document in &documents {
            array.push(raw(document, &namespace)?);
        }
        let mut command = RawDocumentBuf::new();
        command.append(cstr!("insert"), namespace.collection.as_str());
        command.append(cstr!("documents"), array);
        command.append(cstr!("ordered"), false);
        // They were in a collection with these rules already.
        command.append(cstr!("bypassDocumentValidation"), true);
        let action = format!("load documents of {namespace}");
        let answer = self.session.run_raw(self.op, &action, &namespace.database, command).await?;
        self.loaded += documents.len() as u64;
        for error in answer.get_array("writeErrors").into_iter().flatten().filter_map(Bson::as_document) {
            let code = error.get_i32("code").unwrap_or_default();
            // One that was removed and added again while it was read is there twice; the oplog says which is right.
            if code != DUPLICATE_KEY || !self.has_oplog {
                let message = error.get_str("errmsg").unwrap_or_default().to_owned();
                return Err(Error::Database { action, code: u16::try_from(code).ok(), message });
            }
        }
        Ok(())
    }

    async fn replay(&mut self, entry: &Bytes) -> Result<()> {
        if self.open > 0 {
            let reason = "the oplog comes before the end of the data: mongodump does not write such archives".to_owned();
            return Err(Error::Storage { action: "replay the oplog".into(), reason, transient: false });
        }
        let entry = parse(entry, &Namespace::oplog())?;
        self.replay.entry(self.op, self.session, &mut self.indexes, entry).await
    }

    async fn account(&mut self, namespace: &Namespace, document: &Bytes) -> Result<()> {
        let account = parse(document, namespace)?;
        let id = account.get("_id").cloned().unwrap_or_default();
        let update = doc! { "q": { "_id": id }, "u": account, "upsert": true };
        self.run(namespace, "load accounts", doc! { "update": &namespace.collection, "updates": [update] }).await
    }

    async fn run(&self, namespace: &Namespace, action: &str, command: Document) -> Result<()> {
        let answer = self.session.run(self.op, action, &namespace.database, command).await.action(format!("restore {namespace}"))?;
        match answer.get_array("writeErrors").into_iter().flatten().find_map(Bson::as_document) {
            None => Ok(()),
            Some(error) => {
                let message = error.get_str("errmsg").unwrap_or_default().to_owned();
                Err(Error::Database { action: action.to_owned(), code: None, message }).action(format!("restore {namespace}"))
            }
        }
    }
}

fn damaged(namespace: &Namespace) -> Error {
    let reason = format!("a document of {namespace} cannot be read: it is damaged");
    Error::Storage { action: "read the archive".into(), reason, transient: false }
}

fn raw<'a>(document: &'a Bytes, namespace: &Namespace) -> Result<&'a RawDocument> {
    RawDocument::from_bytes(document).map_err(|_| damaged(namespace))
}

fn parse(document: &Bytes, namespace: &Namespace) -> Result<Document> {
    Document::try_from(raw(document, namespace)?).map_err(|_| damaged(namespace))
}

/// Accounts of servers before SCRAM are of another form.
fn check_schema(document: &Bytes) -> Result<()> {
    let version = parse(document, &Namespace::new("admin", "system.version"))?;
    if !version.get_str("_id").is_ok_and(|id| id == "authSchema") {
        return Ok(());
    }
    let found = version
        .get("currentVersion")
        .and_then(|value| value.as_i64().or(value.as_i32().map(i64::from)).or(value.as_f64().map(|value| value as i64)));
    if found == Some(ACCOUNT_SCHEMA) {
        return Ok(());
    }
    Err(Error::bad_request(format!(
        "the accounts in the backup have schema {}, and servers since 3.0 have {ACCOUNT_SCHEMA}: restore it to a server of its own version, and upgrade that",
        found.map_or_else(|| "none".to_owned(), |version| version.to_string())
    )))
}
