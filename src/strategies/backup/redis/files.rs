//! [`RdbFile`]: a stored backup as a file in a data directory.

use camino::{Utf8Path, Utf8PathBuf};
use tokio::io::AsyncWriteExt;

use super::RdbHeader;
use super::checksum::Checksum;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::strategies::backup::RestoreStep;
use crate::system::files;

/// While it is not whole.
const PARTIAL: &str = ".trove-restore.rdb";

/// The file of a data directory.
#[derive(Debug, Clone)]
pub struct RdbFile {
    /// Its path.
    pub path: Utf8PathBuf,
}

impl RdbFile {
    fn partial(&self) -> Utf8PathBuf {
        self.path.parent().unwrap_or(Utf8Path::new("/")).join(PARTIAL)
    }

    /// Writes all of a backup; the file is there when it is whole, and not before. Returns what it says of itself.
    ///
    /// # Errors
    /// The backup is part of a chain, or no RDB file, or damaged, or broke off.
    pub async fn write(&self, op: &Op, mut step: RestoreStep) -> Result<RdbHeader> {
        if step.index > 0 || !step.last {
            return Err(Error::guest("a backup of this datastore is never part of a chain: the metadata of this one name a parent"));
        }
        let partial = self.partial();
        let mut file = tokio::fs::File::create(&partial).await.action(format!("create {partial}"))?;
        let mut head = Vec::new();
        let mut checksum = Checksum::new();
        while let Some(bytes) = op.until_cancelled("read the backup", step.content.recv()).await? {
            let bytes = bytes?;
            head.extend_from_slice(&bytes[..RdbHeader::LENGTH.saturating_sub(head.len()).min(bytes.len())]);
            checksum.update(&bytes);
            file.write_all(&bytes).await.action(format!("write {partial}"))?;
        }
        file.sync_all().await.action(format!("write {partial}"))?;
        let refused = |reason: &str| Error::Storage { action: "take the backup back".into(), reason: reason.into(), transient: false };
        let header = RdbHeader::parse(&head).ok_or_else(|| refused("it is not an RDB file: is it a backup of another datastore?"))?;
        if !checksum.confirms(header.version) {
            return Err(refused("the checksum in the RDB file is not that of its data: it is damaged"));
        }
        tokio::fs::rename(&partial, &self.path).await.action(format!("rename {partial}"))?;
        Ok(header)
    }

    /// Leaves nothing of it.
    ///
    /// # Errors
    /// The file system refused.
    pub fn remove(&self) -> Result<()> {
        files::remove(&self.partial())?;
        files::remove(&self.path)
    }
}
