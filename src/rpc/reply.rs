//! Answers to calls, and their framing.

use serde::Serialize;
use serde_json::Value;

use super::crypto::InstanceKey;
use super::envelope::{Incoming, fresh_id, seal_text};
use super::failure;
use super::publisher::MAX_BODY;
use crate::error::{Error, Result};
use crate::journal::Letter;

/// Where, and how, one call is answered.
#[derive(Debug, Clone)]
pub(super) struct ReplyTo {
    queue: String,
    msg_id: String,
    /// Clients before oslo.messaging 6.3 lose a result that arrives in one message (wire reference, section 3.3).
    two_parts: bool,
    /// The key the request came with: its caller knows no other, whatever the guest's is by the time of the answer.
    key: Option<InstanceKey>,
}

/// One message of an answer.
#[derive(Serialize)]
struct Part<'a> {
    result: &'a Value,
    failure: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<bool>,
    #[serde(rename = "_msg_id")]
    msg_id: &'a str,
    #[serde(rename = "_unique_id")]
    unique_id: String,
}

impl ReplyTo {
    /// `None` for a cast. `key` is the one the request came with.
    pub(super) fn of(incoming: &Incoming, key: Option<InstanceKey>) -> Option<Self> {
        let msg_id = incoming.msg_id.clone()?;
        // Senders older than 1.8 name no queue: the id is the queue.
        let queue = incoming.reply_queue.clone().unwrap_or_else(|| msg_id.clone());
        Some(ReplyTo { queue, msg_id, two_parts: !incoming.knows_call_monitor, key })
    }

    fn part(&self, result: &Value, failure: Option<&str>, ending: Option<bool>) -> Letter {
        let part = Part { result, failure, ending, msg_id: &self.msg_id, unique_id: fresh_id() };
        // Over the default exchange: reaches every client from Kilo to now (an exchange named like the queue does not).
        Letter { exchange: String::new(), key: self.queue.clone(), mandatory: true, body: seal_text(&part) }
    }

    /// "Still at it", for a client with a call monitor.
    pub(super) fn keep_alive(&self) -> Letter {
        self.part(&Value::Null, None, Some(false))
    }

    /// The messages that answer the call, in order. What cannot be sent becomes a failure that says so.
    pub(super) fn letters(&self, outcome: &Result<Value>) -> Vec<Letter> {
        let letters = match (outcome, &self.key) {
            (Ok(value), None) => self.framed(value, None),
            (Ok(value), Some(key)) => match key.encrypt(value) {
                Ok(sealed) => self.framed(&Value::String(sealed), None),
                Err(error) => self.failed(&error),
            },
            (Err(error), _) => self.failed(error),
        };
        if letters.iter().all(|letter| letter.body.len() <= MAX_BODY) {
            return letters;
        }
        let error = Error::guest(format!("the result is larger than the {MAX_BODY} bytes a broker takes; ask for a part of it (limit)"));
        tracing::error!(%error, "an answer is not sent");
        self.failed(&error)
    }

    /// A failure is never encrypted.
    fn failed(&self, error: &Error) -> Vec<Letter> {
        self.framed(&Value::Null, Some(&failure::serialize(error)))
    }

    /// The messages of one answer, in order.
    fn framed(&self, result: &Value, failure: Option<&str>) -> Vec<Letter> {
        if self.two_parts {
            vec![self.part(result, failure, None), self.part(&Value::Null, None, Some(true))]
        } else {
            vec![self.part(result, failure, Some(true))]
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn incoming(knows_call_monitor: bool) -> Incoming {
        Incoming { msg_id: Some("m".into()), reply_queue: Some("q".into()), knows_call_monitor, ..Default::default() }
    }

    fn opened(parts: &[Letter]) -> Vec<Map<String, Value>> {
        parts
            .iter()
            .map(|part| {
                let outer: Value = serde_json::from_str(&part.body).unwrap();
                serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap()
            })
            .collect()
    }

    #[test]
    fn one_message_for_clients_that_know_the_call_monitor() {
        let parts = opened(&ReplyTo::of(&incoming(true), None).unwrap().framed(&json!(true), None));
        assert_eq!(parts.len(), 1);
        assert_eq!((&parts[0]["result"], &parts[0]["failure"], &parts[0]["ending"]), (&json!(true), &Value::Null, &json!(true)));
    }

    #[test]
    fn two_messages_for_older_ones_with_ids_of_their_own() {
        let parts = opened(&ReplyTo::of(&incoming(false), None).unwrap().framed(&json!(true), None));
        assert_eq!(parts.len(), 2);
        assert!(!parts[0].contains_key("ending"));
        assert_eq!((&parts[1]["result"], &parts[1]["ending"]), (&Value::Null, &json!(true)));
        assert_ne!(parts[0]["_unique_id"], parts[1]["_unique_id"]);
    }

    #[test]
    fn a_result_no_broker_takes_is_a_failure() {
        let parts = ReplyTo::of(&incoming(true), None).unwrap().letters(&Ok(json!("x".repeat(MAX_BODY))));
        assert!(opened(&parts)[0]["failure"].as_str().unwrap().contains("GuestError"));
    }

    #[test]
    fn a_cast_is_not_answered_and_an_old_call_without_queue_is() {
        assert!(ReplyTo::of(&Incoming::default(), None).is_none());
        let old = Incoming { msg_id: Some("m".into()), ..Default::default() };
        assert_eq!(ReplyTo::of(&old, None).unwrap().queue, "m");
    }
}
