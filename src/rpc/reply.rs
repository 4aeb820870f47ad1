//! Answers to calls: framing, keep-alives, and reply queues that are gone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::crypto::InstanceKey;
use super::envelope::{Incoming, fresh_id, seal};
use super::failure;
use super::publisher::{Publisher, Routing};
use crate::error::{Error, Result};

/// Between attempts to reach a reply queue that is not there (oslo_messaging/_drivers/amqpdriver.py).
const MISSING_QUEUE_RETRY: Duration = Duration::from_millis(250);
/// How long a queue that stayed away is not tried again, and how many such queues are remembered.
const DEAD_QUEUE_MEMORY: Duration = Duration::from_secs(60);
const DEAD_QUEUES: usize = 200;

/// Sends replies.
#[derive(Debug, Clone)]
pub(super) struct Replies {
    publisher: Publisher,
    key: Option<InstanceKey>,
    /// `kombu_missing_consumer_retry_timeout`.
    patience: Duration,
    dead: Arc<Mutex<VecDeque<(String, Instant)>>>,
}

/// Where, and how, one call is answered.
#[derive(Debug, Clone)]
pub(super) struct ReplyTo {
    queue: String,
    msg_id: String,
    /// Clients before oslo.messaging 6.3 lose a result that arrives in one message (wire reference, section 3.3).
    two_parts: bool,
}

impl ReplyTo {
    /// `None` for a cast.
    pub(super) fn of(incoming: &Incoming) -> Option<Self> {
        let msg_id = incoming.msg_id.clone()?;
        // Senders older than 1.8 name no queue: the id is the queue.
        let queue = incoming.reply_queue.clone().unwrap_or_else(|| msg_id.clone());
        Some(ReplyTo { queue, msg_id, two_parts: !incoming.knows_call_monitor })
    }

    fn part(&self, result: Value, failure: Option<String>, ending: Option<bool>) -> Vec<u8> {
        let mut part = Map::new();
        part.insert("result".into(), result);
        part.insert("failure".into(), failure.map_or(Value::Null, Value::String));
        if let Some(ending) = ending {
            part.insert("ending".into(), json!(ending));
        }
        part.insert("_msg_id".into(), json!(self.msg_id));
        part.insert("_unique_id".into(), json!(fresh_id()));
        seal(&part)
    }

    /// The messages of one answer, in order.
    fn framed(&self, result: Value, failure: Option<String>) -> Vec<Vec<u8>> {
        if self.two_parts {
            vec![self.part(result, failure, None), self.part(Value::Null, None, Some(true))]
        } else {
            vec![self.part(result, failure, Some(true))]
        }
    }
}

impl Replies {
    pub(super) fn new(publisher: Publisher, key: Option<InstanceKey>, patience: Duration) -> Self {
        Replies { publisher, key, patience, dead: Arc::default() }
    }

    /// Answers a call. Errors on the way are logged, as oslo does: there is nobody else to tell.
    pub(super) async fn answer(&self, to: &ReplyTo, outcome: &Result<Value>) {
        let (result, failure) = match outcome.as_ref().map(|value| self.encrypted(value)) {
            Ok(Ok(value)) => (value, None),
            Ok(Err(error)) => (Value::Null, Some(failure::serialize(&error))),
            Err(error) => (Value::Null, Some(failure::serialize(error))),
        };
        for part in to.framed(result, failure) {
            if let Err(error) = self.deliver(to, &part).await {
                tracing::warn!(%error, queue = to.queue, "failed to deliver a reply");
                return;
            }
        }
    }

    /// "Still at it", for a client with a call monitor.
    pub(super) async fn keep_alive(&self, to: &ReplyTo) -> Result<()> {
        let routed = self.publisher.publish(&to.routing(), &to.part(Value::Null, None, Some(false))).await?;
        if routed { Ok(()) } else { Err(gone(&to.queue)) }
    }

    fn encrypted(&self, value: &Value) -> Result<Value> {
        match &self.key {
            Some(key) => key.encrypt(value).map(Value::String),
            None => Ok(value.clone()),
        }
    }

    async fn deliver(&self, to: &ReplyTo, body: &[u8]) -> Result<()> {
        if self.is_dead(&to.queue) {
            return Err(gone(&to.queue));
        }
        let deadline = tokio::time::Instant::now() + self.patience;
        while !self.publisher.publish(&to.routing(), body).await? {
            if tokio::time::Instant::now() >= deadline {
                self.bury(&to.queue);
                return Err(gone(&to.queue));
            }
            tokio::time::sleep(MISSING_QUEUE_RETRY).await;
        }
        Ok(())
    }

    fn is_dead(&self, queue: &str) -> bool {
        let mut dead = self.dead.lock().expect("never poisoned: no panics while held");
        dead.retain(|(_, since)| since.elapsed() < DEAD_QUEUE_MEMORY);
        dead.iter().any(|(name, _)| name == queue)
    }

    fn bury(&self, queue: &str) {
        let mut dead = self.dead.lock().expect("never poisoned: no panics while held");
        if dead.len() == DEAD_QUEUES {
            dead.pop_front();
        }
        dead.push_back((queue.to_owned(), Instant::now()));
    }
}

impl ReplyTo {
    /// Over the default exchange: reaches every client from Kilo to now (an exchange named like the queue does not).
    fn routing(&self) -> Routing {
        Routing { exchange: String::new(), key: self.queue.clone(), mandatory: true }
    }
}

fn gone(queue: &str) -> Error {
    Error::guest(format!("the reply queue {queue} is gone: the caller has given up or ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(knows_call_monitor: bool) -> Incoming {
        Incoming { msg_id: Some("m".into()), reply_queue: Some("q".into()), knows_call_monitor, ..Default::default() }
    }

    fn opened(parts: &[Vec<u8>]) -> Vec<Map<String, Value>> {
        parts
            .iter()
            .map(|part| {
                let outer: Value = serde_json::from_slice(part).unwrap();
                serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap()
            })
            .collect()
    }

    #[test]
    fn one_message_for_clients_that_know_the_call_monitor() {
        let parts = opened(&ReplyTo::of(&incoming(true)).unwrap().framed(json!(true), None));
        assert_eq!(parts.len(), 1);
        assert_eq!((&parts[0]["result"], &parts[0]["failure"], &parts[0]["ending"]), (&json!(true), &Value::Null, &json!(true)));
    }

    #[test]
    fn two_messages_for_older_ones_with_ids_of_their_own() {
        let parts = opened(&ReplyTo::of(&incoming(false)).unwrap().framed(json!(true), None));
        assert_eq!(parts.len(), 2);
        assert!(!parts[0].contains_key("ending"));
        assert_eq!((&parts[1]["result"], &parts[1]["ending"]), (&Value::Null, &json!(true)));
        assert_ne!(parts[0]["_unique_id"], parts[1]["_unique_id"]);
    }

    #[test]
    fn a_cast_is_not_answered_and_an_old_call_without_queue_is() {
        assert!(ReplyTo::of(&Incoming::default()).is_none());
        let old = Incoming { msg_id: Some("m".into()), ..Default::default() };
        assert_eq!(ReplyTo::of(&old).unwrap().queue, "m");
    }
}
