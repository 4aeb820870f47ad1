//! What a [`Session`] does with many documents, or for long.

use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf};
use mongodb::error::Error as DriverError;

use super::client::{Session, convert};
use crate::error::{Error, Result};
use crate::op::Op;

/// A command that loads documents: it waits for the disk at most.
const LOAD_DEADLINE: Duration = Duration::from_secs(600);

impl Session {
    /// Runs a command that answers with a cursor, and reads that to its end: for lists that are short.
    ///
    /// # Errors
    /// [`Error::Database`] with the server's words.
    pub async fn documents(&self, op: &Op, action: &str, database: &str, command: Document) -> Result<Vec<Document>> {
        let reading = async {
            let mut cursor = self.driver().database(database).run_cursor_command(command).await?;
            let mut documents = Vec::new();
            while cursor.advance().await? {
                documents.push(cursor.deserialize_current()?);
            }
            Ok::<_, DriverError>(documents)
        };
        op.until_cancelled(action, reading).await?.map_err(|error| self.refusal(&error, action))
    }

    /// Runs a command that was made of bytes.
    ///
    /// # Errors
    /// [`Error::Database`] with the server's words, [`Error::Timeout`].
    pub async fn run_raw(&self, op: &Op, action: &str, database: &str, command: RawDocumentBuf) -> Result<Document> {
        let database = self.driver().database(database);
        self.wait_for(op, action, LOAD_DEADLINE, database.run_raw_command(command).into_future()).await
    }

    /// Runs a command that reads or writes all of a collection.
    ///
    /// # Errors
    /// [`Error::Database`] with the server's words, [`Error::Timeout`].
    pub async fn run_for(&self, op: &Op, action: &str, database: &str, command: Document, limit: Duration) -> Result<Document> {
        let database = self.driver().database(database);
        self.wait_for(op, action, limit, database.run_command(command).into_future()).await
    }

    async fn wait_for(
        &self,
        op: &Op,
        action: &str,
        limit: Duration,
        running: impl Future<Output = mongodb::error::Result<Document>>,
    ) -> Result<Document> {
        let answer = op.until_cancelled(action, tokio::time::timeout(limit, running)).await?;
        let late = |_| Error::Timeout { action: action.to_owned(), after: limit, detail: String::new() };
        answer.map_err(late)?.map_err(|error| self.refusal(&error, action))
    }

    /// An error of the driver as one of the agent's.
    pub fn refusal(&self, error: &DriverError, action: &str) -> Error {
        convert(error, action, &[])
    }
}
