//! Publishing with confirmation: replies and casts leave over one supervised connection, and nothing is forgotten while it is down.

use std::sync::Arc;

use futures_util::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection::{Broker, ConnectionPurpose};
use super::topology;
use crate::error::{Error, Result};

/// Where a message goes.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Exchange; empty for the default one, which routes to the queue of that name.
    pub exchange: String,
    /// Routing key.
    pub key: String,
    /// Ask the broker to hand the message back if no queue takes it.
    pub mandatory: bool,
}

/// A handle on the publishing connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    channel: watch::Receiver<Option<Numbered>>,
    /// The highest number of a channel that was found to be of no use.
    broken: Arc<watch::Sender<u64>>,
    cancel: CancellationToken,
}

/// A channel and which of the supervisor's channels it is.
#[derive(Debug, Clone)]
struct Numbered {
    number: u64,
    channel: Channel,
}

impl Publisher {
    /// Starts the connection's supervisor, which ends with `cancel`.
    pub fn start(broker: Arc<Broker>, cancel: CancellationToken) -> Self {
        let (sender, channel) = watch::channel(None);
        let broken = Arc::new(watch::Sender::new(0));
        tokio::spawn(supervise(broker, sender, broken.subscribe(), cancel.clone()));
        Publisher { channel, broken, cancel }
    }

    /// Waits until the broker is there.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the agent ends first.
    pub async fn connected(&self) -> Result<()> {
        self.open_channel().await.map(|_| ())
    }

    async fn open_channel(&self) -> Result<Numbered> {
        let mut channel = self.channel.clone();
        let found = tokio::select! {
            // Cancel-safe: a watch.
            found = channel.wait_for(Option::is_some) => found.ok().and_then(|found| found.clone()),
            () = self.cancel.cancelled() => None,
        };
        found.ok_or_else(|| Error::Cancelled { action: "wait for the message broker".into() })
    }

    /// Publishes, and waits for the broker's confirmation. While the broker is away this waits; a message whose fate is not
    /// known is sent again (its `_unique_id` lets the receiver drop a repeat). Returns false if a mandatory message found no queue.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the agent ends first.
    pub async fn publish(&self, routing: &Routing, body: &[u8]) -> Result<bool> {
        loop {
            let Numbered { number, channel } = self.open_channel().await?;
            let attempt = tokio::select! {
                // Cancel-safe: the message may or may not have left; the agent is ending.
                attempt = publish_once(&channel, routing, body) => attempt,
                () = self.cancel.cancelled() => return Err(Error::Cancelled { action: "publish a message".into() }),
            };
            match attempt {
                Ok(routed) => return Ok(routed),
                Err(error) => {
                    tracing::debug!(%error, "publishing again on a new channel");
                    self.forget(number).await;
                }
            }
        }
    }

    /// Tells the supervisor that a channel is of no use, and waits until it has put it away.
    async fn forget(&self, number: u64) {
        self.broken.send_if_modified(|broken| number > std::mem::replace(broken, number.max(*broken)));
        let mut current = self.channel.clone();
        tokio::select! {
            // Cancel-safe: a watch.
            _ = current.wait_for(|now| now.as_ref().is_none_or(|now| now.number != number)) => {}
            () = self.cancel.cancelled() => {}
        }
    }
}

async fn publish_once(channel: &Channel, routing: &Routing, body: &[u8]) -> lapin::Result<bool> {
    // What oslo.messaging sets, and nothing else (kombu: content type, encoding, persistent, priority 0).
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(0)
        .with_headers(FieldTable::default());
    let options = BasicPublishOptions { mandatory: routing.mandatory, ..Default::default() };
    let confirm = channel.basic_publish(routing.exchange.as_str().into(), routing.key.as_str().into(), options, body, properties).await?;
    Ok(!matches!(confirm.await?, Confirmation::Ack(Some(_)) | Confirmation::Nack(_)))
}

async fn supervise(
    broker: Arc<Broker>,
    sender: watch::Sender<Option<Numbered>>,
    mut broken: watch::Receiver<u64>,
    cancel: CancellationToken,
) {
    let mut number = 0;
    while let Some(connection) = broker.connect(ConnectionPurpose::Send, &cancel).await {
        match open_channel(&broker, &connection).await {
            Ok(channel) => {
                number += 1;
                sender.send_replace(Some(Numbered { number, channel }));
                until_lost(&connection, &mut broken, number, &cancel).await;
                sender.send_replace(None);
            }
            Err(error) => {
                tracing::warn!(%error, "failed to open a channel for sending; trying again");
                tokio::select! {
                    // Cancel-safe: a timer.
                    () = tokio::time::sleep(broker.settings().broker.retry_interval) => {}
                    () = cancel.cancelled() => {}
                }
            }
        }
        connection.close(200, "OK".into()).await.ok();
    }
}

/// A channel with confirms, after making sure that there is an exchange to cast to.
async fn open_channel(broker: &Broker, connection: &Connection) -> lapin::Result<Channel> {
    let channel = topology::ensure_exchange(connection, broker.settings()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn until_lost(connection: &Connection, broken: &mut watch::Receiver<u64>, number: u64, cancel: &CancellationToken) {
    let mut events = Box::pin(connection.events_listener());
    while connection.status().connected() {
        tokio::select! {
            // Cancel-safe: a stream, a watch and a token.
            event = events.next() => match event {
                Some(lapin::Event::Error(_)) | None => return,
                Some(event) => tracing::debug!(?event, "event of the sending connection"),
            },
            _ = broken.wait_for(|broken| *broken >= number) => return,
            () = cancel.cancelled() => return,
        }
    }
}
