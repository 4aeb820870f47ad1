//! Lines of JSON with the names of oslo.log's `JSONFormatter` (oslo_log/formatters.py).

use serde_json::{Map, Value, json};

use super::record::{Record, Said};

/// One document in one line. What Python's formatter tells of Python alone (threads, arguments of the format) is left out.
pub(super) fn line(record: &Record, pid: u32, hostname: &str) -> String {
    let extra: Map<String, Value> = record.fields.iter().map(|(name, said)| ((*name).to_owned(), value(said))).collect();
    let context = record.request.as_ref().map(|request| {
        let known = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        json!({
            "request_id": known(&request.request_id),
            "global_request_id": known(&request.global_request_id),
            "user": known(&request.user),
            "project": known(&request.project),
            "method": known(&request.method),
        })
    });
    let document = json!({
        "message": record.words(),
        "msg": record.message,
        "asctime": record.time.to_string(),
        "created": record.time.seconds(),
        "levelname": record.level_name(),
        "levelno": record.level_number(),
        "name": record.logger,
        "pathname": record.file,
        "lineno": record.line,
        "process": pid,
        "process_name": "trove-guestagent",
        "hostname": hostname,
        "context": context.unwrap_or_else(|| json!({})),
        "extra": extra,
    });
    document.to_string()
}

fn value(said: &Said) -> Value {
    match said {
        Said::Text(text) | Said::Words(text) => text.as_str().into(),
        Said::Value(value) => value.clone(),
    }
}
