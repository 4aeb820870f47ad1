//! [`MySqlUsage`]: whether the server has clients at work.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::error::Result;
use crate::op::Op;
use crate::strategies::backup::Usage;
use crate::strategies::backup::pace::Meter;
use crate::system::mysql::{Client, SqlText};

/// Sessions of others that run a statement or ended one within the last second. The agent's own account is the tools', too. Replication and
/// the server's own threads are nobody's clients.
const AT_WORK: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER NOT IN \
    (SUBSTRING_INDEX(USER(), '@', 1), 'system user', 'event_scheduler', 'unauthenticated user') \
    AND COMMAND NOT IN ('Binlog Dump', 'Binlog Dump GTID', 'Connect', 'Daemon') AND (COMMAND <> 'Sleep' OR TIME <= 1)";
/// Sessions there ever were: some are too short to be seen at work.
const SESSIONS: &str = "SHOW GLOBAL STATUS LIKE 'Connections'";
/// So many new sessions a second are more than the agent and its tools have.
const MANY: f64 = 10.0;

/// Looks at the sessions of one server.
#[derive(Debug)]
pub struct MySqlUsage {
    client: Arc<Client>,
    sessions: Meter,
}

impl MySqlUsage {
    /// Of the server this client logs in to.
    pub fn new(client: Arc<Client>) -> MySqlUsage {
        MySqlUsage { client, sessions: Meter::default() }
    }
}

#[async_trait]
impl Usage for MySqlUsage {
    async fn is_in_use(&mut self, op: &Op) -> Result<bool> {
        let client = Arc::clone(&self.client);
        let mut session = client.session(op).await?;
        let at_work: Vec<i64> = session.rows(op, "look for sessions at work", &SqlText::new(AT_WORK)).await?;
        let sessions: Vec<(String, String)> = session.rows(op, "count the server's sessions", &SqlText::new(SESSIONS)).await?;
        session.close().await;
        let count = sessions.first().and_then(|(_, count)| count.parse().ok()).unwrap_or_default();
        let many = self.sessions.per_second(Instant::now(), count) > MANY;
        Ok(many || at_work.first().is_some_and(|count| *count > 0))
    }
}
