//! The floor of `rpc_ping`: a peer that answers every call with the same result and does nothing else.
//!
//! It knows neither JSON nor Trove: the two ids are cut out of the request's text, the reply is a formatted string. What
//! it costs is the broker, the client and lapin, which no agent built on lapin can go below. `benches/agent/run` starts it.
//!
//! Usage: `empty_reply AMQP_URI QUEUE RESULT`, where RESULT is the JSON text of the reply's `result`.

use std::error::Error;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, queue, result] = arguments.as_slice() else {
        return Err("usage: empty_reply AMQP_URI QUEUE RESULT".into());
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let consumer_tag = ShortString::from("");
    let mut deliveries =
        channel.basic_consume(queue.as_str().into(), consumer_tag, BasicConsumeOptions::default(), FieldTable::default()).await?;
    loop {
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            delivery = deliveries.next() => match delivery {
                Some(delivery) => answer(&channel, delivery?, result).await?,
                None => return Err("the broker ended the consumer".into()),
            },
        }
    }
}

/// Acknowledges `delivery` and, if it is a call, sends `result` back: what every server must do, in the order it must.
async fn answer(channel: &Channel, delivery: Delivery, result: &str) -> Result<(), Box<dyn Error>> {
    delivery.ack(BasicAckOptions::default()).await?;
    let request = std::str::from_utf8(&delivery.data)?;
    let (Some(msg_id), Some(reply_q)) = (inner_string(request, "_msg_id"), inner_string(request, "_reply_q")) else {
        return Ok(()); // A cast.
    };
    let unique_id = Uuid::new_v4().simple();
    let inner = format!(r#"{{"result": {result}, "failure": null, "ending": true, "_msg_id": "{msg_id}", "_unique_id": "{unique_id}"}}"#);
    let body = format!(r#"{{"oslo.version": "2.0", "oslo.message": "{}"}}"#, inner.replace('"', r#"\""#));
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(0)
        .with_headers(FieldTable::default());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish("".into(), reply_q.into(), options, body.as_bytes(), properties).await?;
    Ok(())
}

/// The value of a string key of the inner message, whose quotes are escaped: `\"key\": \"value\"`.
fn inner_string<'a>(request: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = request.split_once(&format!(r#"\"{key}\""#))?;
    rest.split(r#"\""#).nth(1)
}
