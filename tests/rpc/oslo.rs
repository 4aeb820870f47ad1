//! The controller's side of the wire, by the real oslo.messaging.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use camino::Utf8Path;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

use crate::support::DEADLINE;

/// The real oslo.messaging, in a process of its own.
pub(crate) struct Peer {
    _process: Child,
    stdin: tokio::sync::Mutex<ChildStdin>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>,
    next: Mutex<u64>,
}

impl Peer {
    pub(crate) fn start() -> Peer {
        let python = std::env::var("TROVE_TEST_PYTHON").expect("TROVE_TEST_PYTHON is a Python with trove and oslo.messaging");
        let script = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rpc/peer.py");
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // oslo.messaging's queue manager looks at the process that leads the group, which must be there: that of a shell's job may have ended.
        command.process_group(0);
        let mut process = command.spawn().unwrap();
        let stdin = tokio::sync::Mutex::new(process.stdin.take().unwrap());
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>> = Arc::default();
        let answers = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(answer) = serde_json::from_str::<Value>(&line) else { continue };
                if let Some(sender) = answers.lock().unwrap().remove(&answer["id"].as_u64().unwrap()) {
                    sender.send(answer).ok();
                }
            }
        });
        Peer { _process: process, stdin, waiting, next: Mutex::new(0) }
    }

    /// Does a job; its answer.
    pub(crate) async fn run(&self, mut job: Value) -> Value {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            *next
        };
        job["id"] = json!(id);
        self.waiting.lock().unwrap().insert(id, sender);
        self.stdin.lock().await.write_all(format!("{job}\n").as_bytes()).await.unwrap();
        tokio::time::timeout(DEADLINE, receiver).await.expect("the peer does not answer").expect("the peer has ended")
    }

    /// A job that must succeed.
    pub(crate) async fn ok(&self, job: Value) -> Value {
        self.done(job, "a job").await
    }

    /// Likewise; `what` goes with the failure.
    pub(crate) async fn done(&self, job: Value, what: &str) -> Value {
        let answer = self.run(job).await;
        assert!(answer.get("error").is_none(), "{what}: {answer}");
        answer["result"].clone()
    }
}
