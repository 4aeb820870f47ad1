//! `trove-guestctl call`: one RPC, as oslo.messaging's client sends it.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Consumer};
use serde_json::{Map, Value, json};

use super::cli::CallArgs;
use super::output;
use super::remote::{Remote, broker_error};
use crate::error::{Error, Result, ResultExt};
use crate::rpc::{fresh_id, open_value, seal};

/// Sends the request and prints the result as JSON, or the failure and exit code 1.
pub(super) async fn run(remote: &Remote, args: CallArgs, values: Map<String, Value>) -> Result<ExitCode> {
    let mut message = request(remote, &args, values)?;
    let channel = remote.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(broker_error)?;
    let queue = format!("guestagent.{}", args.guest);
    let msg_id = fresh_id();
    let mut replies = None;
    if !args.cast {
        let reply_queue = format!("reply_{}", fresh_id());
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        channel.queue_declare(reply_queue.as_str().into(), options, FieldTable::default()).await.map_err(broker_error)?;
        let consume = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(reply_queue.as_str().into(), "".into(), consume, FieldTable::default());
        replies = Some(consumer.await.map_err(broker_error)?);
        message.insert("_msg_id".into(), json!(msg_id));
        message.insert("_reply_q".into(), json!(reply_queue));
        message.insert("_timeout".into(), Value::Null);
    }
    let mut properties = BasicProperties::default().with_content_type("application/json".into()).with_content_encoding("utf-8".into());
    if !args.cast {
        properties = properties.with_expiration((args.timeout * 1000).to_string().into());
    }
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    // The default exchange routes by queue name: this works whatever control_exchange is.
    let body = seal(&message);
    let confirm = channel.basic_publish("".into(), queue.as_str().into(), options, &body, properties);
    let confirm = confirm.await.map_err(broker_error)?.await.map_err(broker_error)?;
    if confirm.take_message().is_some() {
        return Err(Error::guest(format!(
            "there is no queue {queue}: the guest's id is another, it never started, or it is on another broker or virtual host"
        )));
    }
    match replies {
        Some(replies) => answer(remote, replies, &msg_id, Duration::from_secs(args.timeout)).await,
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The arguments of the RPC, from file and command line.
///
/// # Errors
/// No such file, or what is in it is not JSON.
pub(super) fn arguments(args: &CallArgs) -> Result<Map<String, Value>> {
    let mut values = Map::new();
    if let Some(path) = &args.args_file {
        let text = if path == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).action("read standard input")?;
            text
        } else {
            std::fs::read_to_string(path).action(format!("read {path}"))?
        };
        let object: Value = serde_json::from_str(&text).map_err(|error| Error::invalid(format!("{path} is not JSON: {error}")))?;
        let Value::Object(object) = object else {
            return Err(Error::invalid(format!("{path} must hold one JSON object, with the arguments by name")));
        };
        values = object;
    }
    for arg in &args.args {
        let (name, text) = arg.split_once('=').ok_or_else(|| Error::invalid(format!("'{arg}' is not NAME=JSON, such as limit=5")))?;
        values.insert(name.to_owned(), value(name, text)?);
    }
    Ok(values)
}

fn request(remote: &Remote, args: &CallArgs, values: Map<String, Value>) -> Result<Map<String, Value>> {
    let mut message = Map::new();
    message.insert("method".into(), json!(args.method));
    message.insert("version".into(), json!(args.rpc_version));
    message.insert("_unique_id".into(), json!(fresh_id()));
    // No tenant and no project: the guest concludes nothing about its controller's release from this.
    let context = json!({"request_id": format!("req-{}", fresh_id()), "is_admin": true, "user": "trove-guestctl"});
    match &remote.key {
        None => {
            message.insert("args".into(), Value::Object(values));
            let context = context.as_object().cloned().unwrap_or_default();
            message.extend(context.into_iter().map(|(name, value)| (format!("_context_{name}"), value)));
        }
        Some(key) => {
            let sealed: Result<Map<String, Value>> =
                values.into_iter().map(|(name, value)| Ok((name, Value::String(key.encrypt(&value)?)))).collect();
            message.insert("args".into(), Value::Object(sealed?));
            message.insert("_context_context".into(), Value::String(key.encrypt(&context)?));
        }
    }
    Ok(message)
}

/// JSON, or text that does not look like it: quotes around each word would be a nuisance.
fn value(name: &str, text: &str) -> Result<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(error) if text.starts_with(['{', '[', '"']) => Err(Error::invalid(format!("the value of {name} is not JSON: {error}"))),
        Err(_) => Ok(json!(text)),
    }
}

async fn answer(remote: &Remote, mut replies: Consumer, msg_id: &str, timeout: Duration) -> Result<ExitCode> {
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let delivery = tokio::time::timeout_at(deadline, replies.next()).await.map_err(|_| Error::Timeout {
            action: "wait for the guest's answer".into(),
            after: timeout,
            detail: "it may be down, or still at it (--timeout)".into(),
        })?;
        let delivery = delivery.ok_or_else(|| Error::guest("the broker closed the connection"))?.map_err(broker_error)?;
        let reply = open_value(&delivery.data)?;
        let ours = reply.get("_msg_id").and_then(Value::as_str) == Some(msg_id);
        if !ours || reply.get("ending") == Some(&json!(false)) {
            continue;
        }
        return print(remote, &reply);
    }
}

fn print(remote: &Remote, reply: &Map<String, Value>) -> Result<ExitCode> {
    if let Some(failure) = reply.get("failure").and_then(Value::as_str) {
        let failure: Value = serde_json::from_str(failure).unwrap_or(Value::Null);
        let text = |key: &str| failure.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
        writeln!(std::io::stderr(), "{}: {}", text("class"), text("message")).action("write to standard error")?;
        return Ok(ExitCode::FAILURE);
    }
    let result = reply.get("result").cloned().unwrap_or(Value::Null);
    let result = match &remote.key {
        Some(key) => key.decrypt("the result", &result)?,
        None => result,
    };
    let text = serde_json::to_string_pretty(&result).map_err(|error| Error::guest(error.to_string()))?;
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_json_must_be_json() {
        assert_eq!(value("limit", "5").unwrap(), json!(5));
        assert_eq!(value("x", "null").unwrap(), Value::Null);
        assert_eq!(value("x", r#"[{"_name": "shop"}]"#).unwrap(), json!([{"_name": "shop"}]));
        for text in ["shop", "", "5.7-8", "a=b", "true story"] {
            assert_eq!(value("x", text).unwrap(), json!(text));
        }
        for text in [r#"{"a": }"#, "[1", r#""open"#] {
            let error = value("users", text).unwrap_err().to_string();
            assert!(error.starts_with("the value of users is not JSON: "), "{error}");
        }
    }
}
