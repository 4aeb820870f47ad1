//! Exchanges and queues: names, flags, and the order in which they are found or made.
//!
//! The task manager may have made the queue before this guest existed, with properties only it knows. What exists is used
//! as it is found; what does not is declared from the configuration; a race is settled by looking again.
//! (oslo_messaging/_drivers/impl_rabbit.py: declare_topic_consumer.)

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use crate::config::{BrokerSettings, Settings};

/// AMQP reply codes the agent tells apart (AMQP 0-9-1, section 1.2).
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// Name of the guest's queue, which is also its routing key.
pub(super) fn queue_name(settings: &Settings) -> String {
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

/// Finds the exchange, or declares it. A broker's refusal closes the channel, hence a new one for each attempt.
pub(super) async fn ensure_exchange(connection: &Connection, settings: &Settings) -> lapin::Result<Channel> {
    let found = declare_exchange(connection, settings, Look::Find).await;
    let made = match found {
        Err(error) if is_code(&error, NOT_FOUND) => declare_exchange(connection, settings, Look::Make).await,
        other => other,
    };
    match made {
        Err(error) if is_code(&error, PRECONDITION_FAILED) => declare_exchange(connection, settings, Look::Find).await,
        other => other,
    }
}

/// Likewise the queue. A guest that was not told copies the durability of the exchange, which the controller's servers
/// declared from the same option.
async fn ensure_queue(connection: &Connection, settings: &Settings) -> lapin::Result<Channel> {
    let found = declare_queue(connection, settings, Look::Find, false).await;
    let made = match found {
        Err(error) if is_code(&error, NOT_FOUND) => {
            let durable = match settings.broker.durable {
                Some(durable) => durable,
                None => exchange_is_durable(connection, settings).await,
            };
            declare_queue(connection, settings, Look::Make, durable).await
        }
        other => other,
    };
    match made {
        Err(error) if is_code(&error, PRECONDITION_FAILED) => declare_queue(connection, settings, Look::Find, false).await,
        other => other,
    }
}

/// A passive declaration finds, an active one makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Find,
    Make,
}

async fn declare_exchange(connection: &Connection, settings: &Settings, look: Look) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions {
        passive: look == Look::Find,
        durable: settings.broker.durable.unwrap_or(false),
        auto_delete: settings.broker.auto_delete,
        ..Default::default()
    };
    let name: ShortString = settings.control_exchange.as_str().into();
    channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default()).await?;
    Ok(channel)
}

async fn declare_queue(connection: &Connection, settings: &Settings, look: Look, durable: bool) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    let options =
        QueueDeclareOptions { passive: look == Look::Find, durable, auto_delete: settings.broker.auto_delete, ..Default::default() };
    channel.queue_declare(queue_name(settings).as_str().into(), options, queue_arguments(&settings.broker)).await?;
    Ok(channel)
}

/// An active declaration as not durable tells: RabbitMQ answers 406 when the exchange is durable.
async fn exchange_is_durable(connection: &Connection, settings: &Settings) -> bool {
    let Ok(channel) = connection.create_channel().await else { return false };
    let options = ExchangeDeclareOptions { durable: false, auto_delete: settings.broker.auto_delete, ..Default::default() };
    let declared =
        channel.exchange_declare(settings.control_exchange.as_str().into(), ExchangeKind::Topic, options, FieldTable::default()).await;
    match declared {
        Ok(()) => {
            channel.close(200, "OK".into()).await.ok();
            false
        }
        Err(error) => is_code(&error, PRECONDITION_FAILED) && error.to_string().contains("durable"),
    }
}

fn queue_arguments(broker: &BrokerSettings) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut text = |key: &str, value: &str| {
        arguments.insert(key.into(), AMQPValue::LongString(LongString::from(value)));
    };
    if broker.ha_queues {
        text("x-ha-policy", "all");
    }
    if let Some(quorum) = broker.quorum {
        text("x-queue-type", "quorum");
        for (key, value) in [
            ("x-delivery-limit", quorum.delivery_limit),
            ("x-max-in-memory-length", quorum.max_memory_length),
            ("x-max-in-memory-bytes", quorum.max_memory_bytes),
        ] {
            if value > 0 {
                arguments.insert(key.into(), AMQPValue::LongUInt(value));
            }
        }
    }
    arguments
}

fn is_code(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(amqp) if amqp.get_id() == code)
}
