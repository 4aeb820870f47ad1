//! Exchanges and queues: names, and the order in which they are found or made.
//!
//! The task manager may have made the queue before this guest existed, with properties only it knows. What exists is used
//! as it is found. What does not is declared from the configuration; what that leaves open is learned from the controller's own queue
//! and exchange; a race is settled by looking again. (oslo_messaging/_drivers/impl_rabbit.py: declare_topic_consumer.)

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use super::shape::Shape;
use crate::config::Settings;

/// AMQP reply codes the agent tells apart (AMQP 0-9-1, section 1.2).
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
/// Each refusal names one property, and there are two flags and four arguments.
const MOST_GUESSES: usize = 8;

/// Name of the guest's queue, which is also its routing key.
pub fn queue_name(settings: &Settings) -> String {
    format!("guestagent.{}", settings.guest_id)
}

/// Makes sure that exchange, queue and binding exist; returns a channel that is still open.
pub(super) async fn ensure(connection: &Connection, settings: &Settings) -> lapin::Result<Channel> {
    ensure_exchange(connection, settings).await?.close(200, "OK".into()).await?;
    let channel = ensure_queue(connection, settings).await?;
    let queue = queue_name(settings);
    channel
        .queue_bind(
            queue.as_str().into(),
            settings.control_exchange.as_str().into(),
            queue.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    Ok(channel)
}

/// Finds the exchange, or declares it.
pub(super) async fn ensure_exchange(connection: &Connection, settings: &Settings) -> lapin::Result<Channel> {
    let exchange = Object::Exchange(&settings.control_exchange);
    match exchange.find(connection).await {
        Err(error) if is_code(&error, NOT_FOUND) => exchange.make(connection, &Shape::of_exchange(&settings.broker)).await,
        other => other,
    }
}

/// Likewise the queue.
async fn ensure_queue(connection: &Connection, settings: &Settings) -> lapin::Result<Channel> {
    let name = queue_name(settings);
    let queue = Object::Queue(&name);
    match queue.find(connection).await {
        Err(error) if is_code(&error, NOT_FOUND) => {
            let learned = learn_of_controller(connection, settings).await;
            queue.make(connection, &Shape::of_queue(&settings.broker, learned.as_ref())).await
        }
        Err(error) => Err(error),
        Ok(channel) => {
            tell_contradictions(connection, &queue, settings).await;
            Ok(channel)
        }
    }
}

/// What the controllers declare with, if the guest was not told all of it: every server of a controller declares from the same options.
async fn learn_of_controller(connection: &Connection, settings: &Settings) -> Option<Shape> {
    let broker = &settings.broker;
    if broker.durable.is_some() && broker.auto_delete.is_some() && broker.quorum.is_some() {
        return None;
    }
    match Object::Queue(&settings.conductor_queue).learn(connection).await {
        Some(shape) => Some(shape),
        None => Object::Exchange(&settings.control_exchange).learn(connection).await,
    }
}

/// The queue is used all the same; but the next one to be made by this guest might be one the controller refuses.
async fn tell_contradictions(connection: &Connection, queue: &Object<'_>, settings: &Settings) {
    let broker = &settings.broker;
    if broker.durable.is_none() && broker.auto_delete.is_none() && broker.quorum.is_none() {
        return;
    }
    let Some(found) = queue.learn(connection).await else { return };
    let contradictions = found.contradictions(broker);
    if !contradictions.is_empty() {
        tracing::warn!(
            queue = queue.name(),
            differs = contradictions.join(", "),
            "the guest's queue was made with other options than this guest's; it is used as it is. Set the same [oslo_messaging_rabbit] \
             options for guests and controllers"
        );
    }
}

/// Something the broker has, or has not.
#[derive(Debug, Clone, Copy)]
enum Object<'a> {
    Exchange(&'a str),
    Queue(&'a str),
}

impl Object<'_> {
    fn name(&self) -> &str {
        match self {
            Object::Exchange(name) | Object::Queue(name) => name,
        }
    }

    /// A passive declaration. A refusal closes the channel, hence a new one for each attempt.
    async fn find(&self, connection: &Connection) -> lapin::Result<Channel> {
        let channel = connection.create_channel().await?;
        self.declare(&channel, &Shape::guess(), true).await?;
        Ok(channel)
    }

    /// An active one. Somebody else may have been quicker.
    async fn make(&self, connection: &Connection, shape: &Shape) -> lapin::Result<Channel> {
        let channel = connection.create_channel().await?;
        match self.declare(&channel, shape, false).await {
            Ok(()) => Ok(channel),
            // When it is not there even now, the broker does not have the properties at all.
            Err(error) if is_code(&error, PRECONDITION_FAILED) => self.find(connection).await.map_err(|_| error),
            Err(error) => Err(error),
        }
    }

    /// The properties of what exists: RabbitMQ refuses a declaration with others, and names one of them each time. A probe makes nothing,
    /// because it looks first. `None` when there is nothing, or no permission to ask.
    async fn learn(&self, connection: &Connection) -> Option<Shape> {
        let mut shape = Shape::guess();
        for _ in 0..MOST_GUESSES {
            let channel = self.find(connection).await.ok()?;
            match self.declare(&channel, &shape, false).await {
                Ok(()) => {
                    channel.close(200, "OK".into()).await.ok();
                    return Some(shape);
                }
                Err(error) if is_code(&error, PRECONDITION_FAILED) && shape.correct(&error.to_string()) => {}
                Err(error) => {
                    tracing::debug!(%error, name = self.name(), "the properties cannot be learned");
                    return None;
                }
            }
        }
        None
    }

    async fn declare(&self, channel: &Channel, shape: &Shape, passive: bool) -> lapin::Result<()> {
        let Shape { durable, auto_delete, ref arguments } = *shape;
        match *self {
            Object::Exchange(name) => {
                let options = ExchangeDeclareOptions { passive, durable, auto_delete, ..Default::default() };
                channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default()).await
            }
            Object::Queue(name) => {
                let options = QueueDeclareOptions { passive, durable, auto_delete, ..Default::default() };
                channel.queue_declare(name.into(), options, arguments.clone()).await.map(|_| ())
            }
        }
    }
}

/// What an operator can do about a queue that cannot be had.
pub(super) fn advice(error: &lapin::Error) -> &'static str {
    let text = error.to_string();
    if text.contains("transient_nonexcl_queues") {
        "this broker permits no transient queues: set amqp_durable_queues or rabbit_quorum_queue (and for the controllers \
         rabbit_transient_quorum_queue) in [oslo_messaging_rabbit], or permit them in rabbitmq.conf"
    } else if is_code(error, ACCESS_REFUSED) {
        "give the user of transport_url the permissions configure, write and read on this queue and on control_exchange"
    } else if is_code(error, RESOURCE_LOCKED) {
        "another connection has the queue for itself: is there a second agent, or a client that declared the queue as exclusive?"
    } else if is_code(error, PRECONDITION_FAILED) {
        "the broker does not have a queue with these properties: a quorum queue cannot be amqp_auto_delete, and its limits must be ones this \
         release of RabbitMQ knows"
    } else {
        "check that its properties in the broker fit this guest's [oslo_messaging_rabbit] options"
    }
}

fn is_code(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(amqp) if amqp.get_id() == code)
}
