//! Runs `oracle.py`, and states options and values so that both sides can be compared.

use std::io::Write as _;
use std::process::{Command, Stdio};

use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};
use trove_guestagent::config::{ConfigError, Kind, OptionSpec, Outcome, Value};

/// The real libraries' answers to `cases`, in order.
pub(crate) fn ask(cases: &[Json]) -> Vec<Json> {
    let python =
        std::env::var_os("TROVE_TEST_PYTHON").expect("TROVE_TEST_PYTHON names a Python with trove, oslo.config and oslo.messaging");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/oracle.py");
    #[expect(clippy::disallowed_methods, reason = "a test's peer, not a child of the agent")]
    let mut command = Command::new(python);
    let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The script reads all of its input before it writes anything.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(cases).unwrap()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    answers
}

/// A declaration for the oracle.
pub(crate) fn declaration(spec: &OptionSpec) -> Json {
    let (min, max) = match spec.kind {
        Kind::Int(min, max) => (json!(min), json!(max)),
        Kind::Float(min, max) => (json!(min), json!(max)),
        _ => (Json::Null, Json::Null),
    };
    let aliases: Vec<Json> = spec.aliases.iter().map(|(group, name)| json!([group, name])).collect();
    json!({"group": spec.group, "name": spec.name, "kind": spec.kind.label(), "min": min, "max": max, "default": spec.default, "aliases": aliases})
}

/// A value as the oracle states it.
pub(crate) fn plain(value: &Value) -> Json {
    match value {
        Value::Missing => Json::Null,
        Value::Text(text) => json!(text.expose_secret()),
        Value::Bool(flag) => json!(flag),
        Value::Int(number) => json!(number),
        Value::Float(_) => json!({"float": value.python_text()}),
        Value::List(items) => json!(items),
        Value::Dict(pairs) => json!({"dict": pairs}),
        Value::Multi(items) => json!(items.iter().map(|item| item.expose_secret()).collect::<Vec<_>>()),
    }
}

/// Both sides agree when both fail, or both have the same value.
pub(crate) fn agrees(ours: &Result<Outcome, ConfigError>, theirs: &Json) -> bool {
    match ours {
        Ok(outcome) => theirs.get("value") == Some(&plain(&outcome.value)),
        Err(_) => theirs.get("error").is_some(),
    }
}
