//! [`PostgreSqlUsage`]: whether the server has clients at work.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::error::Result;
use crate::op::Op;
use crate::strategies::backup::Usage;
use crate::strategies::backup::pace::Meter;
use crate::system::postgresql::{Client, SqlText};

/// Sessions of others that run a statement or ended one within the last second. The agent's own role is the tools', too.
const AT_WORK: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename <> 'os_admin' \
    AND (state IN ('active', 'fastpath function call') OR state_change > now() - interval '1 second')";
/// Transactions there ever were: some sessions are too short to be seen at work.
const TRANSACTIONS: &str = "SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database";
/// So many transactions a second are more than the agent, its tools and the server itself have.
const MANY: f64 = 20.0;

/// Looks at the sessions of one server.
#[derive(Debug)]
pub struct PostgreSqlUsage {
    client: Arc<Client>,
    transactions: Meter,
}

impl PostgreSqlUsage {
    /// Of the server this client logs in to.
    pub fn new(client: Arc<Client>) -> PostgreSqlUsage {
        PostgreSqlUsage { client, transactions: Meter::default() }
    }
}

#[async_trait]
impl Usage for PostgreSqlUsage {
    async fn is_in_use(&mut self, op: &Op) -> Result<bool> {
        let session = self.client.session(op).await?;
        let at_work = session.texts(op, "look for sessions at work", &SqlText::new(AT_WORK)).await?;
        let transactions = session.texts(op, "count the server's transactions", &SqlText::new(TRANSACTIONS)).await?;
        let count = transactions.first().and_then(|count| count.parse().ok()).unwrap_or_default();
        let many = self.transactions.per_second(Instant::now(), count) > MANY;
        Ok(many || at_work.first().is_some_and(|count| count != "0"))
    }
}
