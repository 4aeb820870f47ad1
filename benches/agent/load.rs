//! A lean caller: keeps a number of calls under way and times each, so that the agent and not the client is what saturates.
//!
//! It makes nothing itself: `TEMPLATE` is a file with the inner message of oslo.messaging (encrypted or not) in which the words
//! `@MSG_ID`, `@REPLY_Q` and `@UNIQUE_ID` stand for what differs from call to call. Every answer must be a result. Prints one JSON
//! object: calls, seconds, p50 and p99 (seconds). `benches/agent/run` starts it.
//!
//! Usage: `load AMQP_URI QUEUE TEMPLATE CONCURRENCY SECONDS`

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use uuid::Uuid;

/// Calls before the clock starts.
const WARM_UP: usize = 200;
/// The longest an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What differs between runs.
struct Load {
    channel: Channel,
    queue: String,
    reply_queue: String,
    template: String,
    under_way: HashMap<String, Instant>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, queue, template, concurrency, seconds] = arguments.as_slice() else {
        return Err("usage: load AMQP_URI QUEUE TEMPLATE CONCURRENCY SECONDS".into());
    };
    let (concurrency, duration): (usize, _) = (concurrency.parse()?, Duration::from_secs_f64(seconds.parse()?));
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let reply_queue = format!("reply_{}", Uuid::new_v4().simple());
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    channel.queue_declare(reply_queue.as_str().into(), options, FieldTable::default()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut replies = channel.basic_consume(reply_queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
    let template = std::fs::read_to_string(template)?;
    let mut load = Load { channel, queue: queue.clone(), reply_queue, template, under_way: HashMap::new() };
    for _ in 0..concurrency {
        load.call().await?;
    }
    let mut latencies = Vec::new();
    let mut answered = 0;
    let mut began_at = None::<Instant>;
    while began_at.is_none_or(|began_at| began_at.elapsed() < duration) {
        let reply = tokio::time::timeout(PATIENCE, replies.next()).await?.ok_or("the broker ended the consumer")??;
        let Some(latency) = load.answered(&reply.data)? else { continue };
        answered += 1;
        if began_at.is_some() {
            latencies.push(latency);
        } else if answered >= WARM_UP {
            began_at = Some(Instant::now());
        }
        load.call().await?;
    }
    let seconds = began_at.map_or(0.0, |began_at| began_at.elapsed().as_secs_f64());
    latencies.sort_unstable();
    let quantile = |share: usize| latencies.get(latencies.len() * share / 100).map_or(0.0, Duration::as_secs_f64);
    let figures = json!({"calls": latencies.len(), "seconds": seconds, "p50": quantile(50), "p99": quantile(99)});
    std::io::Write::write_all(&mut std::io::stdout(), format!("{figures}\n").as_bytes())?;
    Ok(())
}

impl Load {
    async fn call(&mut self) -> Result<(), Box<dyn Error>> {
        let msg_id = Uuid::new_v4().simple().to_string();
        let inner = self
            .template
            .replace("@MSG_ID", &msg_id)
            .replace("@REPLY_Q", &self.reply_queue)
            .replace("@UNIQUE_ID", &Uuid::new_v4().simple().to_string());
        let body = json!({"oslo.version": "2.0", "oslo.message": inner}).to_string();
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_headers(FieldTable::default());
        self.under_way.insert(msg_id, Instant::now());
        let options = BasicPublishOptions::default();
        self.channel.basic_publish("trove".into(), self.queue.as_str().into(), options, body.as_bytes(), properties).await?;
        Ok(())
    }

    /// The time a call took, when this is its last answer. One that is a failure ends the run.
    fn answered(&mut self, body: &[u8]) -> Result<Option<Duration>, Box<dyn Error>> {
        let envelope: Value = serde_json::from_slice(body)?;
        let reply: Value = serde_json::from_str(envelope["oslo.message"].as_str().ok_or("a reply without an envelope")?)?;
        if !reply["failure"].is_null() {
            return Err(format!("a call failed: {}", reply["failure"]).into());
        }
        if reply["ending"] != json!(true) {
            return Ok(None);
        }
        let began_at = self.under_way.remove(reply["_msg_id"].as_str().unwrap_or_default());
        Ok(Some(began_at.ok_or("an answer to a call that is not under way")?.elapsed()))
    }
}
