//! `trove-guestctl` as a person runs it: what it says without a broker, and against the real one of `TROVE_TEST_BROKER`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use trove_guestagent::op::Op;
use trove_guestagent::rpc::{InstanceKey, fresh_id, open_value, seal};
use trove_guestagent::system::command::{CommandOutput, CommandRunner, CommandSpec, SystemCommands};

const KEY: &str = "a-key-of-this-test";
const PASSWORD: &str = "planted-Pw1-0f6d";

fn ctl(args: &[&str]) -> CommandSpec {
    let command = CommandSpec::new(env!("CARGO_BIN_EXE_trove-guestctl")).args(args);
    command.accept(&[1, 2]).timeout(Duration::from_secs(60))
}

async fn run(command: CommandSpec) -> CommandOutput {
    let op = Op::internal(CancellationToken::new());
    SystemCommands.run(&op, command).await.unwrap()
}

/// Files of one test.
struct Files {
    _dir: tempfile::TempDir,
    dir: Utf8PathBuf,
}

impl Files {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(guard.path()).unwrap().to_owned();
        Files { _dir: guard, dir }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.into_string()
    }
}

/// Checks exit code, that nothing is on standard output, and words on standard error.
fn refused(output: &CommandOutput, code: i32, words: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{}", output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "'{word}' is not in: {}", output.stderr);
    }
}

#[tokio::test]
async fn help_shows_how() {
    let help = run(ctl(&["--help"])).await;
    assert_eq!(help.code, 0);
    for word in ["call", "watch", "--transport-url-file", "Exit codes", "Examples:"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    let help = run(ctl(&["call", "--help"])).await;
    for word in ["NAME=JSON", "--args-file", "--cast", "--timeout <SECONDS>"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
}

#[tokio::test]
async fn mistakes_on_the_command_line_are_usage_errors() {
    refused(&run(ctl(&["call", "g"])).await, 2, &["<METHOD>"]);
    refused(&run(ctl(&["cal", "g", "rpc_ping"])).await, 2, &["call"]);
    refused(&run(ctl(&["call", "g", "rpc_ping", "--timeout", "0"])).await, 2, &["1..=86400"]);
}

#[tokio::test]
async fn wrong_arguments_are_told_before_a_broker_is_asked() {
    let files = Files::new();
    let list = files.write("list.json", "[1]");
    let torn = files.write("torn.json", "{\"a\"");
    for (args, words) in [
        (vec!["limit"], "'limit' is not NAME=JSON"),
        (vec!["users=[{]"], "the value of users is not JSON"),
        (vec!["--args-file", &list], "must hold one JSON object"),
        (vec!["--args-file", &torn], "is not JSON"),
        (vec!["--args-file", "/no/such/file"], "/no/such/file"),
    ] {
        let args = [vec!["--config-dir", "/no/such/dir", "call", "g", "m"], args].concat();
        refused(&run(ctl(&args)).await, 1, &[words]);
    }
}

#[tokio::test]
async fn a_broker_that_is_not_configured_or_not_there_is_named() {
    let missing = run(ctl(&["--config-dir", "/no/such/dir", "call", "g", "rpc_ping"])).await;
    refused(&missing, 1, &["there is no directory /no/such/dir", "--transport-url-file"]);
    let files = Files::new();
    // Port 1 is nobody's.
    let url = files.write("url", &format!("rabbit://u:{PASSWORD}@127.0.0.1:1,u:{PASSWORD}@127.0.0.1:1/\n"));
    let down = run(ctl(&["--transport-url-file", &url, "call", "g", "rpc_ping"])).await;
    refused(&down, 1, &["connect to 127.0.0.1:1", "refused"]);
    assert!(!down.stderr.contains(PASSWORD), "{}", down.stderr);
}

/// The broker, a guest that answers, and the files that lead there.
struct Bench {
    files: Files,
    url: String,
    channel: Channel,
    _connection: Connection,
}

impl Bench {
    async fn new() -> Self {
        let address = std::env::var("TROVE_TEST_BROKER").expect("TROVE_TEST_BROKER is the AMQP address of a broker; dev/test sets it");
        let connection = Connection::connect(&address, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let files = Files::new();
        let rabbit = address.replacen("amqp://", "rabbit://", 1);
        let url = files.write("url", rabbit.trim_end_matches("%2F").trim_end_matches("%2f"));
        Bench { files, url, channel, _connection: connection }
    }

    /// A queue of this test's own, consumed.
    async fn queue(&self, name: &str) -> Consumer {
        let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
        self.channel.queue_declare(name.into(), options, FieldTable::default()).await.unwrap();
        self.channel.basic_consume(name.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await.unwrap()
    }

    fn ctl(&self, args: &[&str]) -> CommandSpec {
        ctl(&[&["--transport-url-file", &self.url], args].concat())
    }

    async fn send(&self, queue: &str, message: &Map<String, Value>) {
        let body = seal(message);
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = self.channel.basic_publish("".into(), queue.into(), options, &body, properties);
        sent.await.unwrap().await.unwrap();
    }

    /// Takes one request, answers with `ending: false` first, then with what `answer` makes of it.
    async fn serve(&self, requests: &mut Consumer, answer: impl FnOnce(&Map<String, Value>) -> (&'static str, Value)) {
        let delivery = requests.next().await.unwrap().unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        let request = open_value(&delivery.data).unwrap();
        let (kind, value) = answer(&request);
        let reply_queue = request["_reply_q"].as_str().unwrap();
        for (name, value, ending) in [("result", Value::Null, false), (kind, value, true)] {
            let reply = json!({name: value, "_msg_id": request["_msg_id"], "ending": ending, "_unique_id": fresh_id()});
            self.send(reply_queue, reply.as_object().unwrap()).await;
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[tokio::test]
async fn a_call_prints_the_result_or_the_failure() {
    let bench = Bench::new().await;
    let guest = format!("echo-{}", fresh_id());
    let mut requests = bench.queue(&format!("guestagent.{guest}")).await;

    let arguments = json!({"users": [{"_name": "ann", "_password": PASSWORD}]}).to_string();
    let command = bench.ctl(&["call", &guest, "echo", "--args-file", "-", "limit=5", "marker=a word"]).stdin_secret(arguments.into());
    let echo = |request: &Map<String, Value>| {
        assert_eq!(request["method"], "echo");
        assert_eq!(request["version"], "1.0");
        ("result", request["args"].clone())
    };
    let (output, ()) = tokio::join!(run(command), bench.serve(&mut requests, echo));
    assert_eq!(output.code, 0, "{}", output.stderr);
    let result: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(result, json!({"users": [{"_name": "ann", "_password": PASSWORD}], "limit": 5, "marker": "a word"}));

    let failure = json!({"class": "BadRequest", "module": "trove.common.exception", "message": "no such thing", "tb": []}).to_string();
    let command = bench.ctl(&["call", &guest, "fail"]);
    let (output, ()) = tokio::join!(run(command), bench.serve(&mut requests, |_| ("failure", Value::String(failure))));
    refused(&output, 1, &["BadRequest: no such thing"]);
}

#[tokio::test]
async fn an_encrypted_call_is_in_the_clear_nowhere() {
    let bench = Bench::new().await;
    let key = InstanceKey::derive(&KEY.into()).unwrap();
    let key_file = bench.files.write("key", &format!("{KEY}\n"));
    let guest = format!("sealed-{}", fresh_id());
    let mut requests = bench.queue(&format!("guestagent.{guest}")).await;
    let answer = |request: &Map<String, Value>| {
        assert!(!Value::Object(request.clone()).to_string().contains(PASSWORD));
        let (args, context) = (object(request["args"].clone()), object(json!({"context": request["_context_context"]})));
        let secret = key.decrypt("the argument", &args["secret"]).unwrap();
        assert!(key.decrypt("the context", &context["context"]).unwrap().is_object());
        ("result", Value::String(key.encrypt(&json!({"was": secret})).unwrap()))
    };
    let arguments = bench.files.write("args.json", &json!({"secret": PASSWORD}).to_string());
    let command = bench.ctl(&["--key-file", &key_file, "call", &guest, "echo", "--args-file", &arguments]);
    let (output, ()) = tokio::join!(run(command), bench.serve(&mut requests, answer));
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(serde_json::from_str::<Value>(&output.stdout).unwrap(), json!({"was": PASSWORD}));
}

#[tokio::test]
async fn a_guest_that_is_not_there_or_silent_is_named() {
    let bench = Bench::new().await;
    let arguments = bench.files.write("args.json", &json!({"secret": PASSWORD}).to_string());
    let nobody = run(bench.ctl(&["call", "nobody", "rpc_ping", "--args-file", &arguments])).await;
    refused(&nobody, 1, &["there is no queue guestagent.nobody"]);
    // The returned message is not repeated.
    assert!(!nobody.stderr.contains("BasicReturn") && nobody.stderr.lines().count() == 1, "{}", nobody.stderr);
    let guest = format!("silent-{}", fresh_id());
    let _requests = bench.queue(&format!("guestagent.{guest}")).await;
    let silent = run(bench.ctl(&["call", &guest, "rpc_ping", "--timeout", "1"])).await;
    refused(&silent, 1, &["timed out after 1 s: wait for the guest's answer"]);
    assert_eq!(run(bench.ctl(&["call", &guest, "rpc_ping", "--cast"])).await.code, 0);
}

#[tokio::test]
async fn watch_prints_what_guests_say() {
    let bench = Bench::new().await;
    let key = InstanceKey::derive(&KEY.into()).unwrap();
    let key_file = bench.files.write("key", KEY);
    let queue = format!("conductor-{}", fresh_id());
    // Declared here, so that nothing is lost before `watch` consumes it.
    bench.channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    let heartbeat = |value: Value| {
        object(json!({"method": "heartbeat", "version": "1.0", "args": {"instance_id": "i-1", "payload": value}, "_unique_id": fresh_id()}))
    };
    bench.send(&queue, &heartbeat(json!({"service_status": "healthy"}))).await;
    let sealed = key.encrypt(&json!({"service_status": "shutdown"})).unwrap();
    let entity = json!({"entity": sealed, "csz-instance-id": "i-1"}).to_string();
    bench.send(&queue, &heartbeat(Value::String(entity))).await;

    let command = bench.ctl(&["--key-file", &key_file, "watch", "--queue", &queue, "--count", "2", "--seconds", "30"]);
    let output = run(command).await;
    bench.channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(output.code, 0, "{}", output.stderr);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", output.stdout);
    assert!(lines[0].ends_with(r#" heartbeat instance_id=i-1 payload={"service_status":"healthy"}"#), "{}", lines[0]);
    assert!(lines[1].ends_with(r#"payload={"service_status":"shutdown"}"#), "{}", lines[1]);
}
