//! One channel's messages on their way to the broker, and what becomes of each.
//!
//! The broker gives a message that no queue wants back before it confirms it, and lapin hands what came back to whichever confirmation comes
//! next: its own or another's. With several answers under way, one to a caller that has ended would count as delivered and a good one
//! as lost. So one task sees all confirmations of a channel in their order, and finds by its content which message came back.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

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

/// A message that was sent, or is about to be.
type UnderWay<T> = Pin<Box<dyn Future<Output = T> + Send>>;

async fn run(channel: Channel, mut posts: mpsc::UnboundedReceiver<Post>) {
    let mut under_way = Vec::new();
    let mut returned: Vec<Returned> = Vec::new();
    loop {
        tokio::select! {
            // Cancel-safe: what is polled stays where it is until it has ended, and a channel. Confirmations first: they free memory.
            biased;
            confirmed = poll_fn(|cx| ended(&mut under_way, cx)), if !under_way.is_empty() => {
                let mut known = Vec::with_capacity(confirmed.len());
                for (post, outcome) in confirmed {
                    known.push((post, confirmation(outcome, &mut returned)));
                }
                for (Post { letter, tell }, taken) in known {
                    // Nobody waits any more when the agent is ending.
                    tell.send(fate(&letter, taken, &mut returned)).ok();
                }
                if under_way.is_empty() {
                    returned.clear();
                }
            }
            post = wanted(&mut posts), if !posts.is_closed() || !posts.is_empty() => {
                if let Some(post) = post {
                    under_way.push(Box::pin(publish(channel.clone(), post)) as UnderWay<_>);
                }
            }
            else => return,
        }
    }
}

/// The next message that somebody waits for: one that was given up before it has left, as a heartbeat that is not true any more, does not leave.
async fn wanted(posts: &mut mpsc::UnboundedReceiver<Post>) -> Option<Post> {
    loop {
        let post = posts.recv().await?;
        if !post.tell.is_closed() {
            return Some(post);
        }
    }
}

/// All that has ended by now. A confirmation may bring another's message, and always comes before that other's own: so whatever came before one that
/// is seen must be seen with it, also when it came while the others were looked at.
fn ended<T>(under_way: &mut Vec<UnderWay<T>>, cx: &mut Context<'_>) -> Poll<Vec<T>> {
    let mut all = Vec::new();
    loop {
        let before = all.len();
        under_way.retain_mut(|sent| match sent.as_mut().poll(cx) {
            Poll::Ready(outcome) => {
                all.push(outcome);
                false
            }
            Poll::Pending => true,
        });
        if all.len() == before {
            break;
        }
    }
    if all.is_empty() { Poll::Pending } else { Poll::Ready(all) }
}

async fn publish(channel: Channel, post: Post) -> (Post, lapin::Result<Confirmation>) {
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

/// Whether the broker took a message, or why that is not known; what came back with its confirmation is kept.
fn confirmation(outcome: lapin::Result<Confirmation>, returned: &mut Vec<Returned>) -> Result<bool, String> {
    let (taken, message) = match outcome {
        Ok(Confirmation::Ack(message)) => (true, message),
        Ok(Confirmation::Nack(message)) => (false, message),
        Ok(Confirmation::NotRequested) => (true, None),
        Err(error) => return Err(error.to_string()),
    };
    returned.extend(message.map(|message| (message.delivery.routing_key.to_string(), message.delivery.data)));
    Ok(taken)
}

/// What became of `letter`, whose own message may have come back with another's confirmation.
fn fate(letter: &Letter, taken: Result<bool, String>, returned: &mut Vec<Returned>) -> Fate {
    match taken {
        Err(error) => Fate::Unknown(error),
        Ok(_) if take_back(letter, returned) => Fate::GivenBack,
        Ok(true) => Fate::Taken,
        Ok(false) => Fate::Refused,
    }
}

fn take_back(letter: &Letter, returned: &mut Vec<Returned>) -> bool {
    let own = returned.iter().position(|(key, body)| *key == letter.key && *body == letter.body.as_bytes());
    own.map(|index| returned.swap_remove(index)).is_some()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn letter(key: &str, body: &str) -> Letter {
        Letter { exchange: String::new(), key: key.into(), mandatory: true, body: body.into() }
    }

    #[test]
    fn what_came_before_one_that_is_seen_is_seen_with_it() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let came = Arc::new(AtomicBool::new(false));
        // The first ends right after it was looked at, and before the second.
        let (first, second) = (came.clone(), came);
        let first: UnderWay<u8> = Box::pin(poll_fn(move |_| if first.load(Ordering::SeqCst) { Poll::Ready(1) } else { Poll::Pending }));
        let second: UnderWay<u8> = Box::pin(poll_fn(move |_| {
            second.store(true, Ordering::SeqCst);
            Poll::Ready(2)
        }));
        let mut under_way = vec![first, second, Box::pin(std::future::pending())];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert_eq!(ended(&mut under_way, &mut cx), Poll::Ready(vec![2, 1]));
        assert_eq!((ended(&mut under_way, &mut cx), under_way.len()), (Poll::Pending, 1));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_does_not_leave() {
        let (sender, mut posts) = mpsc::unbounded_channel();
        let sender = Sender(sender);
        let mut given_up = Box::pin(sender.send(Arc::new(letter("conductor", "stale"))));
        assert!(given_up.as_mut().now_or_never().is_none(), "it is queued");
        drop(given_up);
        let mut waiting = Box::pin(sender.send(Arc::new(letter("conductor", "true"))));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(wanted(&mut posts).await.unwrap().letter.body, "true");
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
