//! `trove-guestctl watch`: stands in for the conductor.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use lapin::ExchangeKind;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use serde_json::{Map, Value};

use super::output;
use super::remote::{Remote, broker_error};
use crate::error::Result;
use crate::rpc::{Incoming, InstanceKey, open};

/// Consumes `queue` and prints a line a message, until `count` or `limit`.
pub(super) async fn run(remote: &Remote, queue: &str, count: Option<usize>, limit: Duration) -> Result<ExitCode> {
    let channel = match declare(remote, queue).await {
        Ok(channel) => channel,
        // A conductor declared them otherwise: theirs will do.
        Err(_) => remote.channel().await?,
    };
    let consumer = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    let mut messages = consumer.await.map_err(broker_error)?;
    let deadline = tokio::time::Instant::now().checked_add(limit);
    let mut seen = 0;
    while count.is_none_or(|count| seen < count) {
        let next = match deadline {
            Some(deadline) => match tokio::time::timeout_at(deadline, messages.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
            None => messages.next().await,
        };
        let Some(delivery) = next else { break };
        let delivery = delivery.map_err(broker_error)?;
        delivery.ack(BasicAckOptions::default()).await.map_err(broker_error)?;
        let line = open(&delivery.data).map_or_else(|error| format!("? {error}"), |cast| describe(cast, remote.key.as_ref()));
        output::print(&format!("{} {line}", clock()))?;
        seen += 1;
    }
    Ok(ExitCode::SUCCESS)
}

async fn declare(remote: &Remote, queue: &str) -> Result<lapin::Channel> {
    let channel = remote.channel().await?;
    let durable = remote.settings.broker.durable.unwrap_or(false);
    let exchange: ShortString = remote.settings.control_exchange.as_str().into();
    let options = ExchangeDeclareOptions { durable, ..Default::default() };
    channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, options, FieldTable::default()).await.map_err(broker_error)?;
    let options = QueueDeclareOptions { durable, ..Default::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.map_err(broker_error)?;
    channel
        .queue_bind(queue.into(), exchange, queue.into(), QueueBindOptions::default(), FieldTable::default())
        .await
        .map_err(broker_error)?;
    Ok(channel)
}

/// `heartbeat instance_id=… payload={…}`; what cannot be decrypted says so.
fn describe(cast: Incoming, key: Option<&InstanceKey>) -> String {
    let mut line = cast.method;
    for (name, value) in &clear(cast.args, key) {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        line.push_str(&format!(" {name}={text}"));
    }
    line
}

/// Each argument of an encrypted cast is a JSON string with the entity and the instance it belongs to.
fn clear(args: Map<String, Value>, key: Option<&InstanceKey>) -> Map<String, Value> {
    args.into_iter()
        .map(|(name, value)| {
            let wrapped: Option<Value> = value.as_str().and_then(|text| serde_json::from_str(text).ok());
            let Some(entity) = wrapped.as_ref().and_then(|wrapped| wrapped.get("entity")) else { return (name, value) };
            let shown = match key {
                Some(key) => key.decrypt("it", entity).unwrap_or_else(|_| Value::String("<encrypted with another key>".into())),
                None => Value::String("<encrypted>".into()),
            };
            (name, shown)
        })
        .collect()
}

/// UTC time of day.
fn clock() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()) % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_encrypted_cast_is_shown_in_the_clear_with_the_key() {
        let key = InstanceKey::derive(&"k".into()).unwrap();
        let entity = json!({"entity": key.encrypt(&json!("healthy")).unwrap(), "csz-instance-id": "i"}).to_string();
        let args = json!({"status": entity, "plain": 1});
        let shown = clear(args.as_object().unwrap().clone(), Some(&key));
        assert_eq!(Value::Object(shown), json!({"status": "healthy", "plain": 1}));
    }
}
