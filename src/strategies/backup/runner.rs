//! [`BackupRunner`] and [`RestoreRunner`]: what a strategy is to the flow of a backup (`managers::backup`).

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use tokio::io::AsyncRead;

use crate::error::Result;
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::storage::ByteStream;

/// The backup an incremental one builds on.
#[derive(Debug, Clone)]
pub struct Parent {
    /// Where it is.
    pub location: String,
    /// Its checksum.
    pub checksum: String,
    /// What was kept with it, such as `lsn`.
    pub metadata: BackupMetadata,
}

/// The backup to make.
#[derive(Debug, Clone)]
pub struct BackupJob {
    /// Its id.
    pub id: String,
    /// What it builds on, when it is an incremental one.
    pub parent: Option<Parent>,
    /// Extra options of the tool (`backup_runner_options`).
    pub extra_options: Vec<String>,
}

impl BackupJob {
    /// Variable in the environment of the tool, with the job's id: what a killed agent has left of it is found by that.
    pub const MARK: &str = "TROVE_GUESTAGENT_BACKUP";
}

/// A tool at work. Dropping it ends the tool.
pub struct BackupStream {
    /// What the tool writes.
    pub reader: Pin<Box<dyn AsyncRead + Send>>,
    /// To be awaited after the reader's end: the tool's exit status and its log decide whether those bytes are a backup. What it returns is
    /// kept with the backup (`lsn`, `parent_location`, ...).
    pub finish: Pin<Box<dyn Future<Output = Result<BackupMetadata>> + Send>>,
}

impl fmt::Debug for BackupStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupStream")
    }
}

/// Makes backups in one way.
#[async_trait]
pub trait BackupRunner: Send + Sync + fmt::Debug {
    /// Class name of the Python runner that makes the same (`InnoBackupEx`): the type Kilo and Train keep.
    fn name(&self) -> &'static str;

    /// What follows the id in the object's name, before `.gz` and `.enc`: `.xbstream` or nothing.
    fn extension(&self) -> &'static str;

    /// Starts the tool. What can be found out before (no such tool, no LSN in the parent) is an error here.
    ///
    /// # Errors
    /// The tool cannot be started.
    async fn start(&self, op: &Op, job: &BackupJob) -> Result<BackupStream>;

    /// The backup is stored whole, and its `metadata` with it: what was kept in case that it fails may go.
    ///
    /// # Errors
    /// Something still stays; the backup is one all the same.
    async fn stored(&self, _op: &Op, _metadata: &BackupMetadata) -> Result<()> {
        Ok(())
    }
}

/// One backup of a chain, being restored.
#[derive(Debug)]
pub struct RestoreStep {
    /// Its place in the chain: 0 is the full backup.
    pub index: usize,
    /// True for the last one, the one that was asked for.
    pub last: bool,
    /// Its checksum, which also names it among the chain.
    pub checksum: String,
    /// What was kept with it.
    pub metadata: BackupMetadata,
    /// What the tool had written: decrypted, decompressed, and checked while it flows.
    pub content: ByteStream,
}

/// Takes backups back in one way, for one target: [`begin`](Self::begin), each step of the chain in order, [`finish`](Self::finish).
#[async_trait]
pub trait RestoreRunner: Send + Sync + fmt::Debug {
    /// Makes the target empty and ready.
    ///
    /// # Errors
    /// It could not be made so.
    async fn begin(&mut self, op: &Op) -> Result<()>;

    /// Restores one backup of the chain. The tool's exit status and its log decide.
    ///
    /// # Errors
    /// The tool failed, or the content broke off: its own error then, not the tool's complaint about it.
    async fn apply(&mut self, op: &Op, step: RestoreStep) -> Result<()>;

    /// Makes the target a database again that the server can be started on.
    ///
    /// # Errors
    /// It is none.
    async fn finish(&mut self, op: &Op) -> Result<()>;
}
