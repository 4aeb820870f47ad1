//! Publishing with confirmation: replies and casts leave over one supervised connection, and nothing is forgotten while it is down.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connection::{Broker, ConnectionPurpose};
use super::sender::{Fate, Sender};
use super::topology;
use crate::error::{Error, Result};
use crate::journal::Letter;
use crate::watchdog::Pulse;

/// Nothing larger is sent: RabbitMQ 4 refuses it (`max_message_size`) and closes the channel, for ever and again.
pub(super) const MAX_BODY: usize = 16 << 20;
/// Between attempts to send one message: from here, doubled each time, up to there.
const RETRY_FROM: Duration = Duration::from_millis(100);
const RETRY_TO: Duration = Duration::from_secs(5);
/// How long the broker may take to confirm a connection's end.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A handle on the publishing connection; cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    channel: watch::Receiver<Option<Numbered>>,
    /// The highest number of a channel that was found to be of no use.
    broken: Arc<watch::Sender<u64>>,
    cancel: CancellationToken,
}

/// A channel's sender and which of the supervisor's channels it is.
#[derive(Debug, Clone)]
struct Numbered {
    number: u64,
    sender: Sender,
}

impl Publisher {
    /// Starts the connection's supervisor, which ends with `cancel`; the handle tells when it has.
    pub fn start(broker: Arc<Broker>, pulse: Pulse, cancel: CancellationToken) -> (Self, JoinHandle<()>) {
        let (sender, channel) = watch::channel(None);
        let broken = Arc::new(watch::Sender::new(0));
        let supervisor = tokio::spawn(supervise(broker, sender, broken.subscribe(), pulse, cancel.clone()));
        (Publisher { channel, broken, cancel }, supervisor)
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
    /// known, or that the broker could not take, is sent again (its `_unique_id` lets the receiver drop a repeat). Returns false
    /// if a mandatory message found no queue.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the agent ends first. A message no broker takes because of its size is refused.
    pub async fn publish(&self, letter: &Arc<Letter>) -> Result<bool> {
        if letter.body.len() > MAX_BODY {
            return Err(Error::guest(format!("a message of {} bytes for '{}' is too large for the broker", letter.body.len(), letter.key)));
        }
        let mut pause = RETRY_FROM;
        loop {
            let Numbered { number, sender } = self.open_channel().await?;
            let fate = tokio::select! {
                // Cancel-safe: the message may or may not have left; the agent is ending.
                fate = sender.send(letter.clone()) => fate,
                () = self.cancel.cancelled() => return Err(ending()),
            };
            match fate {
                Fate::Taken => return Ok(true),
                Fate::GivenBack => return Ok(false),
                Fate::Refused => tracing::debug!(key = letter.key, "the broker could not take a message; sending it again"),
                Fate::Unknown(error) => {
                    tracing::debug!(error, "sending a message again on a new channel");
                    self.forget(number).await;
                }
            }
            tokio::select! {
                // Cancel-safe: a timer.
                () = tokio::time::sleep(pause) => {}
                () = self.cancel.cancelled() => return Err(ending()),
            }
            pause = (pause * 2).min(RETRY_TO);
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

fn ending() -> Error {
    Error::Cancelled { action: "publish a message".into() }
}

async fn supervise(
    broker: Arc<Broker>,
    sender: watch::Sender<Option<Numbered>>,
    mut broken: watch::Receiver<u64>,
    mut pulse: Pulse,
    cancel: CancellationToken,
) {
    let mut number = 0;
    let mut failing = false;
    while let Some(connection) = pulse.during(broker.connect(ConnectionPurpose::Send, &cancel)).await {
        match pulse.during(open_channel(&broker, &connection)).await {
            Ok(channel) => {
                failing = false;
                number += 1;
                sender.send_replace(Some(Numbered { number, sender: Sender::start(channel) }));
                until_lost(&connection, &mut broken, number, &mut pulse, &cancel).await;
                sender.send_replace(None);
            }
            Err(error) => {
                // Once per trouble.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "failed to open a channel for sending; trying again");
                }
                broker.next_host();
            }
        }
        pulse.during(close(&connection)).await;
        pulse.during(broker.pause_before_reconnecting(&cancel)).await;
    }
    pulse.end();
}

/// Ends a connection in good order, if the broker goes along in time.
pub(super) async fn close(connection: &Connection) {
    let farewell = connection.close(200, "OK".into());
    match tokio::time::timeout(CLOSE_TIMEOUT, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the broker was closed already"),
        Err(_) => tracing::debug!("the broker did not confirm the end of a connection"),
    }
}

/// A channel with confirms, after making sure that there is an exchange to cast to.
async fn open_channel(broker: &Broker, connection: &Connection) -> lapin::Result<Channel> {
    let channel = topology::ensure_exchange(connection, broker.settings()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn until_lost(
    connection: &Connection,
    broken: &mut watch::Receiver<u64>,
    number: u64,
    pulse: &mut Pulse,
    cancel: &CancellationToken,
) {
    let mut events = Box::pin(connection.events_listener());
    while connection.status().connected() {
        tokio::select! {
            // Cancel-safe: a stream, two watches and a token.
            event = events.next() => match event {
                Some(lapin::Event::Error(_)) | None => return,
                Some(lapin::Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(%reason, "the broker takes no messages now (disk or memory alarm); heartbeats and replies wait");
                }
                Some(lapin::Event::ConnectionUnblocked) => tracing::info!("the broker takes messages again"),
                Some(event) => tracing::debug!(?event, "event of the sending connection"),
            },
            _ = broken.wait_for(|broken| *broken >= number) => return,
            () = pulse.asked() => {}
            () = cancel.cancelled() => return,
        }
    }
}
