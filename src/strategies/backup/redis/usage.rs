//! [`RedisUsage`]: whether the server has clients at work.

use async_trait::async_trait;
use tokio::time::Instant;

use crate::error::Result;
use crate::op::Op;
use crate::strategies::backup::Usage;
use crate::strategies::backup::pace::Meter;
use crate::system::redis::Client;

/// So many commands a second are more than the agent, replicas and sentinels send.
const MANY: f64 = 50.0;

/// Looks at the commands one server runs.
#[derive(Debug)]
pub struct RedisUsage {
    client: Client,
    commands: Meter,
}

impl RedisUsage {
    /// Of the server this client logs in to.
    pub fn new(client: Client) -> RedisUsage {
        RedisUsage { client, commands: Meter::default() }
    }
}

#[async_trait]
impl Usage for RedisUsage {
    async fn is_in_use(&mut self, op: &Op) -> Result<bool> {
        let facts = self.client.session(op).await?.info(op, "stats").await?;
        let number = |name: &str| facts.get(name).and_then(|value| value.parse::<u64>().ok());
        let many = self.commands.per_second(Instant::now(), number("total_commands_processed").unwrap_or_default()) > MANY;
        // The server's own average over the last second and a half: the first look has nothing else.
        Ok(many || number("instantaneous_ops_per_sec").is_some_and(|commands| commands as f64 > MANY))
    }
}
