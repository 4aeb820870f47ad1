//! [`MongoDbUsage`]: whether the server has clients at work.

use async_trait::async_trait;
use mongodb::bson::doc;
use tokio::time::Instant;

use crate::error::Result;
use crate::op::Op;
use crate::strategies::backup::Usage;
use crate::strategies::backup::pace::Meter;
use crate::system::mongodb::Client;

/// So many operations a second are more than a server and its agent have of themselves.
const MANY: f64 = 20.0;
/// What clients do to data. A dump itself reads in other ways (`getmore`), and replica sets talk in commands.
const OPERATIONS: [&str; 4] = ["insert", "query", "update", "delete"];

/// Looks at the operations one server carries out.
#[derive(Debug)]
pub struct MongoDbUsage {
    client: Client,
    operations: Meter,
}

impl MongoDbUsage {
    /// Of the server this client logs in to.
    pub fn new(client: Client) -> MongoDbUsage {
        MongoDbUsage { client, operations: Meter::default() }
    }
}

#[async_trait]
impl Usage for MongoDbUsage {
    async fn is_in_use(&mut self, op: &Op) -> Result<bool> {
        let session = self.client.session(op).await?;
        let status = session
            .run(op, "count the server's operations", "admin", doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "locks": 0 })
            .await?;
        let counted = status.get_document("opcounters").ok();
        let number = |name: &&str| {
            let value = counted?.get(name)?;
            value.as_i64().or(value.as_i32().map(i64::from)).and_then(|count| u64::try_from(count).ok())
        };
        let all: u64 = OPERATIONS.iter().filter_map(number).sum();
        Ok(self.operations.per_second(Instant::now(), all) > MANY)
    }
}
