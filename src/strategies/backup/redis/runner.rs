//! [`RedisBackup`]: the data as the server's replicas get them.

use async_trait::async_trait;

use crate::error::{Error, Result, ResultExt};
use crate::model::BackupMetadata;
use crate::op::Op;
use crate::strategies::backup::{BackupJob, BackupRunner, BackupStream};
use crate::system::redis::{Client, snapshot};

/// Class name of the Python runner (trove/guestagent/strategies/backup/experimental/redis_impl.py).
pub const KIND: &str = "RedisBackup";

/// Full backups of one server, made while it serves.
#[derive(Debug)]
pub struct RedisBackup {
    /// The way to the server.
    pub client: Client,
}

#[async_trait]
impl BackupRunner for RedisBackup {
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
        // The password that is right now.
        let session = self.client.session(op).await?;
        let taken = snapshot(op, session.socket(), session.password()).await.action("ask the server for its data")?;
        let finish = async move {
            let done = taken.finish.await.map_err(|error| Error::guest(format!("reading the server's data broke off: {error}")))?;
            let size = done?;
            // An RDB file is as big on the disk of who restores it.
            Ok(BackupMetadata::from([("content_size".to_owned(), size.to_string())]))
        };
        Ok(BackupStream { reader: Box::pin(taken.reader), finish: Box::pin(finish) })
    }
}
