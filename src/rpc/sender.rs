//! One channel's messages on their way to the broker, and what becomes of each.
//!
//! The broker gives a message that no queue wants back before it confirms it, and lapin hands what came back to whichever confirmation comes
//! next: its own or another's. With several answers under way, one to a caller that has ended would count as delivered and a good one
//! as lost. So one task sees all confirmations of a channel in their order, and finds by its content which message came back.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};

use crate::journal::Letter;

/// What became of one message.
#[derive(Debug)]
pub(super) enum Fate {
    /// The broker has it.
    Taken,
    /// It was mandatory, and there is no such queue.
    GivenBack,
    /// The broker could not take it now.
    Refused,
    /// The channel ended first.
    Unknown(String),
}

/// What came back: routing key and body, which has a unique id in it.
type Returned = (String, Vec<u8>);

struct Post {
    letter: Arc<Letter>,
    tell: oneshot::Sender<Fate>,
}

/// A channel to send through; cheap to clone. Its task ends when the last clone is gone and every message's fate is known.
#[derive(Debug, Clone)]
pub(super) struct Sender(mpsc::UnboundedSender<Post>);

impl Sender {
    /// `channel` must have confirms switched on, and be used by nobody else.
    pub(super) fn start(channel: Channel) -> Self {
        let (sender, posts) = mpsc::unbounded_channel();
        tokio::spawn(run(channel, posts));
        Sender(sender)
    }

    /// Sends, and waits until the broker says what became of it.
    pub(super) async fn send(&self, letter: Arc<Letter>) -> Fate {
        let (tell, told) = oneshot::channel();
        let post = Post { letter, tell };
        let ended = || Fate::Unknown("the channel has ended".to_owned());
        if self.0.send(post).is_err() {
            return ended();
        }
        told.await.unwrap_or_else(|_| ended())
    }
}

async fn run(channel: Channel, mut posts: mpsc::UnboundedReceiver<Post>) {
    // Yields what is confirmed in the order of the confirmations: whoever got another's message comes before that other.
    let mut under_way = FuturesUnordered::new();
    let mut returned: Vec<Returned> = Vec::new();
    loop {
        tokio::select! {
            // Cancel-safe: a stream and a channel. Confirmations first: they free memory.
            biased;
            Some((post, outcome)) = under_way.next(), if !under_way.is_empty() => {
                let Post { letter, tell } = post;
                // Nobody waits any more when the agent is ending.
                tell.send(fate(&letter, outcome, &mut returned)).ok();
                if under_way.is_empty() {
                    returned.clear();
                }
            }
            post = posts.recv(), if !posts.is_closed() || !posts.is_empty() => {
                if let Some(post) = post {
                    under_way.push(publish(&channel, post));
                }
            }
            else => return,
        }
    }
}

async fn publish(channel: &Channel, post: Post) -> (Post, lapin::Result<Confirmation>) {
    let Letter { exchange, key, mandatory, body } = &*post.letter;
    // What oslo.messaging sets, and nothing else (kombu: content type, encoding, persistent, priority 0).
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(0)
        .with_headers(FieldTable::default());
    let options = BasicPublishOptions { mandatory: *mandatory, ..Default::default() };
    let sent = channel.basic_publish(exchange.as_str().into(), key.as_str().into(), options, body.as_bytes(), properties).await;
    let outcome = match sent {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    (post, outcome)
}

/// What became of `letter`, whose confirmation may bring another's message or have left its own with an earlier one.
fn fate(letter: &Letter, outcome: lapin::Result<Confirmation>, returned: &mut Vec<Returned>) -> Fate {
    let (taken, message) = match outcome {
        Ok(Confirmation::Ack(message)) => (true, message),
        Ok(Confirmation::Nack(message)) => (false, message),
        Ok(Confirmation::NotRequested) => (true, None),
        Err(error) => return Fate::Unknown(error.to_string()),
    };
    returned.extend(message.map(|message| (message.delivery.routing_key.to_string(), message.delivery.data)));
    match (take_back(letter, returned), taken) {
        (true, _) => Fate::GivenBack,
        (false, true) => Fate::Taken,
        (false, false) => Fate::Refused,
    }
}

fn take_back(letter: &Letter, returned: &mut Vec<Returned>) -> bool {
    let own = returned.iter().position(|(key, body)| *key == letter.key && *body == letter.body.as_bytes());
    own.map(|index| returned.swap_remove(index)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(key: &str, body: &str) -> Letter {
        Letter { exchange: String::new(), key: key.into(), mandatory: true, body: body.into() }
    }

    #[test]
    fn what_comes_back_with_another_confirmation_finds_its_own() {
        let mut returned = vec![("gone".to_owned(), b"1".to_vec())];
        // The confirmation that brought it is of a message that arrived.
        assert!(!take_back(&letter("there", "2"), &mut returned));
        assert!(!take_back(&letter("gone", "3"), &mut returned));
        assert!(take_back(&letter("gone", "1"), &mut returned));
        assert!(returned.is_empty());
    }
}
