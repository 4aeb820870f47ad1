//! A real agent, a real broker, and the controller's side of the wire: by hand, or with the real oslo.messaging.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use camino::Utf8PathBuf;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

pub(crate) use crate::ports::free_port;
use crate::proxy::Proxy;

/// No wait of any test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(20);

/// Waits until `found` has something.
pub(crate) async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut ticks = tokio::time::interval(POLL);
    loop {
        ticks.tick().await;
        if let Some(found) = found().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
    }
}

/// `amqp://` URL of the broker all tests share.
pub(crate) fn shared_broker() -> String {
    std::env::var("TROVE_TEST_BROKER").expect("TROVE_TEST_BROKER is the amqp:// URL of a running RabbitMQ")
}

/// The same for `transport_url`.
pub(crate) fn transport_url(amqp: &str) -> String {
    amqp.replacen("amqp://", "rabbit://", 1).replace("%2F", "").replace("%2f", "")
}

/// Secrets of a test; none may be in a log.
pub(crate) const PLANTED: &str = "pl4nted-s3cret";

/// A guest: its directory, its names, and its agent while one runs.
pub(crate) struct Guest {
    _dir: tempfile::TempDir,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) id: String,
    pub(crate) exchange: String,
    pub(crate) broker: String,
    pub(crate) key: Option<String>,
    agent: Mutex<Option<std::process::Child>>,
}

impl Guest {
    /// A guest on the shared broker, with more lines for `[DEFAULT]`; its agent consumes.
    pub(crate) async fn serving(options: &str) -> Guest {
        let guest = Guest::new(&shared_broker(), options);
        guest.start();
        guest.consuming(1).await;
        guest
    }

    /// No agent yet. `brokers` are amqp:// URLs, with commas between.
    pub(crate) fn new(brokers: &str, options: &str) -> Guest {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        // The server's account must get through.
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let id = uuid::Uuid::new_v4().to_string();
        let exchange = format!("trove-{id}");
        std::fs::create_dir(dir.join("conf.d")).unwrap();
        let mut urls = brokers.split(',').map(|broker| transport_url(broker).trim_end_matches('/').to_owned());
        let first = urls.next().unwrap();
        let url =
            std::iter::once(first).chain(urls.map(|url| url.trim_start_matches("rabbit://").to_owned())).collect::<Vec<_>>().join(",");
        let key = options.lines().find_map(|line| line.strip_prefix("instance_rpc_encr_key=")).map(str::to_owned);
        // Before the options of the test, which win.
        let info = "[oslo_messaging_rabbit]\nkombu_missing_consumer_retry_timeout=3\n";
        std::fs::write(
            dir.join("conf.d/guest_info.conf"),
            format!("{info}[DEFAULT]\nguest_id={id}\ndatastore_manager=mariadb\n{options}\n"),
        )
        .unwrap();
        let conf = format!(
            "[DEFAULT]\ntransport_url={url}/\ncontrol_exchange={exchange}\nconductor_queue=conductor-{id}\nservice_control=process\n\
             state_dir={dir}/state\nreport_interval=1\nnum_tries=1000\nstate_change_wait_time=120\nlog_file={dir}/agent.log\ndebug=true\n\
             [mariadb]\nsocket={dir}/run/mysqld.sock\nconfig_dir={dir}/etc\nmount_point={dir}/data\n\
             [postgresql]\nsocket={dir}/run/socket\nconfig_dir={dir}/etc\nmount_point={dir}/data\n\
             [mongodb]\nsocket={dir}/run/mongod.sock\nconfig_dir={dir}/etc\nmount_point={dir}/data\n\
             [redis]\nsocket={dir}/run/redis.sock\nconfig_dir={dir}/etc\nmount_point={dir}/data\n\
             [mongodb]\nsocket={dir}/run/mongod.sock\nconfig_dir={dir}/etc\nmount_point={dir}/data\n\
             [oslo_messaging_rabbit]\nkombu_reconnect_delay=0.1\n"
        );
        std::fs::write(dir.join("conf.d/trove-guestagent.conf"), conf).unwrap();
        let broker = brokers.split(',').next_back().unwrap().to_owned();
        Guest { _dir: temp, dir, id, exchange, broker, key, agent: Mutex::new(None) }
    }

    /// A guest that reaches the shared broker through a proxy; the controller's side does without it.
    pub(crate) fn behind(proxy: &Proxy, options: &str) -> Guest {
        let mut guest = Guest::new(&proxy.url(&shared_broker()), options);
        guest.broker = shared_broker();
        guest
    }

    pub(crate) fn start(&self) {
        self.start_with(&[]);
    }

    /// Starts the agent with more variables in its environment.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_trove-guestagent"));
        command.arg("--config-dir").arg(self.dir.join("conf.d")).env_remove("RUST_LOG").env("HOME", &self.dir).stdin(Stdio::null());
        // A server that starts removes the temporary tables it finds, those of other tests, too.
        let tmp = self.dir.join("tmp");
        std::fs::create_dir_all(&tmp).unwrap();
        std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o1777)).unwrap();
        command.env("TMPDIR", tmp).envs(environment.iter().copied());
        command.stderr(std::fs::File::create(self.dir.join("stderr")).unwrap()).process_group(0);
        *self.agent.lock().unwrap() = Some(command.spawn().unwrap());
    }

    /// Like a power cut.
    pub(crate) fn kill(&self) {
        if let Some(mut agent) = self.agent.lock().unwrap().take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    pub(crate) fn terminate(&self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = self.agent.lock().unwrap().as_ref().unwrap().id();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.agent.lock().unwrap().as_mut().is_none_or(|agent| agent.try_wait().unwrap().is_some())
    }

    /// Waits for the agent's end.
    pub(crate) async fn ended(&self) -> std::process::ExitStatus {
        until("the agent's end", async || self.agent.lock().unwrap().as_mut().unwrap().try_wait().unwrap()).await
    }

    pub(crate) fn log(&self) -> String {
        let file = std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
        file + &std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    /// Waits until the log has `text` `times` times.
    pub(crate) async fn logged(&self, text: &str, times: usize) {
        until(&format!("{text:?} in the log"), async || (self.log().matches(text).count() >= times).then_some(())).await;
    }

    pub(crate) async fn consuming(&self, times: usize) {
        self.logged("consuming queue=", times).await;
    }

    /// Waits until the journal holds `count` files whose names end so.
    pub(crate) async fn journalled(&self, extension: &str, count: usize) {
        until(&format!("{count} {extension} in the journal"), async || (self.journal(extension) == count).then_some(())).await;
    }

    pub(crate) fn journal(&self, extension: &str) -> usize {
        let Ok(entries) = self.dir.join("state/journal").read_dir_utf8() else { return 0 };
        entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension() == Some(extension))).count()
    }

    /// Path of a device that is not there: an operation on it waits until [`Self::open_gate`].
    pub(crate) fn gate(&self, name: &str) -> Utf8PathBuf {
        self.dir.join(name)
    }

    /// The device appears, and is none: the operation ends with that error.
    pub(crate) fn open_gate(&self, name: &str) {
        std::fs::write(self.gate(name), "").unwrap();
    }

    /// How often an operation ran that waits for this gate: it fails each time.
    pub(crate) fn runs(&self, name: &str) -> usize {
        let gate = self.gate(name);
        self.log().lines().filter(|line| line.contains("the operation failed") && line.contains(gate.as_str())).count()
    }

    /// Waits until the gate's operation ran.
    pub(crate) async fn ran(&self, name: &str) {
        until(&format!("a run of {name}"), async || (self.runs(name) > 0).then_some(())).await;
    }

    /// The largest its agent ever was, in KiB of resident memory.
    pub(crate) fn peak_memory(&self) -> u64 {
        let pid = self.agent.lock().unwrap().as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Fields a job for the peer begins with.
    pub(crate) fn job(&self, what: &str, method: &str, args: Value) -> Value {
        json!({"do": what, "url": transport_url(&self.broker), "exchange": self.exchange, "guest": self.id, "method": method,
               "args": args, "key": self.key, "context": {"project_id": "T1", "auth_token": PLANTED}})
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::connect(self, &self.broker, &format!("reply_{}", fresh())).await
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
        // The database server outlives an agent that is killed.
        let server = std::fs::read_to_string(self.dir.join("state/server.pid")).unwrap_or_default();
        if let Some(pid) = serde_json::from_str::<Value>(&server).ok().and_then(|server| server["pid"].as_i64()) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), nix::sys::signal::Signal::SIGKILL).ok();
        }
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{log}", self.id);
        } else {
            assert!(!log.contains(PLANTED), "a secret is in the log:\n{log}");
            assert!(!log.contains("internal error"), "the agent panicked:\n{log}");
        }
    }
}

/// The controller's side by hand.
pub(crate) struct Wire {
    _connection: Connection,
    pub(crate) channel: Channel,
    pub(crate) reply_queue: String,
    replies: Inbox,
    casts: Inbox,
    queue: String,
}

/// The inner message of a body.
fn inner(body: &[u8]) -> Map<String, Value> {
    let outer: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(outer["oslo.version"], "2.0");
    serde_json::from_str(outer["oslo.message"].as_str().unwrap()).unwrap()
}

pub(crate) fn envelope(message: &Value) -> Vec<u8> {
    json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string().into_bytes()
}

pub(crate) fn fresh() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

impl Wire {
    /// To one of the guest's brokers, with a reply queue of this name there.
    pub(crate) async fn connect(guest: &Guest, broker: &str, reply_queue: &str) -> Wire {
        let connecting = Connection::connect(broker, ConnectionProperties::default());
        let connection = tokio::time::timeout(DEADLINE, connecting).await.unwrap().unwrap();
        // Passive: the agent made it.
        let channel = connection.create_channel().await.unwrap();
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        channel.exchange_declare(guest.exchange.as_str().into(), ExchangeKind::Topic, options, FieldTable::default()).await.unwrap();
        let conductor = format!("conductor-{}", guest.id);
        let replies = collect(&channel, reply_queue, true).await;
        let casts = collect(&channel, &conductor, false).await;
        let (queue, exchange) = (conductor.as_str().into(), guest.exchange.as_str().into());
        channel.queue_bind(queue, exchange, conductor.as_str().into(), QueueBindOptions::default(), FieldTable::default()).await.unwrap();
        Wire {
            _connection: connection,
            channel,
            reply_queue: reply_queue.to_owned(),
            replies,
            casts,
            queue: format!("guestagent.{}", guest.id),
        }
    }

    /// A body as it is, into the guest's queue.
    pub(crate) async fn send(&self, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        self.channel.basic_publish("".into(), self.queue.as_str().into(), options, body, properties).await.unwrap();
    }

    /// A call of a client of today; returns its `_msg_id`.
    pub(crate) async fn call(&self, method: &str, args: Value) -> String {
        self.call_with(method, args, json!({"_timeout": null})).await
    }

    /// A call with more keys.
    pub(crate) async fn call_with(&self, method: &str, args: Value, more: Value) -> String {
        let id = fresh();
        let mut message =
            json!({"method": method, "args": args, "version": "1.0", "_msg_id": id, "_reply_q": self.reply_queue, "_unique_id": fresh()});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(&envelope(&message), BasicProperties::default()).await;
        id
    }

    /// A call whose client gives up after a minute, as a controller's does.
    pub(crate) async fn call_in_time(&self, method: &str, args: Value) -> String {
        let id = fresh();
        let message = json!({"method": method, "args": args, "version": "1.0", "_msg_id": id, "_reply_q": self.reply_queue, "_unique_id": fresh(),
                             "_timeout": null, "_context_tenant": "T", "_context_roles": []});
        self.send(&envelope(&message), BasicProperties::default().with_expiration("60000".into())).await;
        id
    }

    pub(crate) async fn cast_with(&self, method: &str, args: Value, more: Value) {
        let mut message = json!({"method": method, "args": args, "version": "1.0", "_unique_id": fresh()});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(&envelope(&message), BasicProperties::default()).await;
    }

    /// Casts `prepare`, which waits for its device at the gate `dev`; returns when the conductor was told that it has begun.
    pub(crate) async fn prepare(&mut self, guest: &Guest) {
        let prepare = json!({"packages": [], "databases": [], "users": [], "memory_mb": 512, "device_path": guest.gate("dev"),
                             "mount_point": guest.gate("mnt"), "config_contents": "[mysqld]\n", "root_password": PLANTED, "overrides": {}});
        let notification = json!({"server_type": "guest", "request_id": "r"});
        self.cast_with("prepare", prepare, json!({"_context_project_id": "T", "_context_trove_notification": notification})).await;
        assert_eq!(self.heartbeat().await, "building");
    }

    /// Calls an operation that waits at a gate.
    pub(crate) async fn call_gate(&self, guest: &Guest, name: &str) -> String {
        self.call("resize_fs", json!({"device_path": guest.gate(name)})).await
    }

    /// Two changes: one under way, that waits at the gate `begun`, and one behind it, at `waiting`. Their calls.
    pub(crate) async fn two_changes(&self, guest: &Guest) -> (String, String) {
        let begun = self.call("resize_fs", json!({"device_path": guest.gate("begun"), "secret": PLANTED})).await;
        guest.journalled("started", 1).await;
        let waiting = self.call_gate(guest, "waiting").await;
        guest.journalled("accepted", 1).await;
        (begun, waiting)
    }

    /// Makes a queue and takes replies from there from now on.
    pub(crate) async fn listen_at(&mut self, queue: &str) {
        self.replies = collect(&self.channel, queue, true).await;
    }

    /// The next message to the reply queue.
    pub(crate) async fn reply(&mut self) -> Map<String, Value> {
        self.replies.next("reply", |_| true).await
    }

    /// The next message that is a reply to `id`; others are kept.
    pub(crate) async fn reply_to(&mut self, id: &str) -> Map<String, Value> {
        self.replies.next("reply", |reply| reply["_msg_id"] == id).await
    }

    /// The failure a call ends with: class and message.
    pub(crate) async fn failure_of(&mut self, id: &str) -> (String, String) {
        let reply = self.reply_to(id).await;
        let failure: Value = serde_json::from_str(reply["failure"].as_str().unwrap_or_else(|| panic!("no failure: {reply:?}"))).unwrap();
        (failure["class"].as_str().unwrap().to_owned(), failure["message"].as_str().unwrap().to_owned())
    }

    /// The next cast to the conductor with this method.
    pub(crate) async fn cast(&mut self, method: &str) -> Map<String, Value> {
        self.casts.next(method, |cast| cast["method"] == method).await
    }

    /// The words of all heartbeats that have come until now.
    pub(crate) fn words(&mut self) -> Vec<String> {
        let heartbeats = self.casts.all(|cast| cast["method"] == "heartbeat");
        heartbeats.iter().map(|cast| cast["args"]["payload"]["service_status"].as_str().unwrap().to_owned()).collect()
    }

    /// What the conductor was told of operations that failed, until now.
    pub(crate) fn failures(&mut self) -> Vec<String> {
        let told = self.casts.all(|cast| cast["method"] == "notify_exc_info");
        told.iter().map(|cast| cast["args"]["message"].as_str().unwrap().to_owned()).collect()
    }

    /// States of this backup that the conductor was told until now.
    pub(crate) fn backup_states(&mut self, id: &str) -> Vec<Map<String, Value>> {
        self.casts.all(|cast| cast["method"] == "update_backup" && cast["args"]["backup_id"] == id)
    }

    /// Whether the answer to this call has come.
    pub(crate) fn is_answered(&mut self, id: &str) -> bool {
        self.replies.drain();
        self.replies.kept.iter().any(|reply| reply["_msg_id"] == id)
    }

    /// The next heartbeat's word.
    pub(crate) async fn heartbeat(&mut self) -> String {
        self.cast("heartbeat").await["args"]["payload"]["service_status"].as_str().unwrap().to_owned()
    }

    /// Asserts that nobody answered this call once more. A ping that is answered after it shows that nothing is under way.
    pub(crate) async fn no_more_for(&mut self, id: &str) {
        self.ping().await;
        assert!(!self.replies.kept.iter().any(|reply| reply["_msg_id"] == id), "answered twice");
    }

    /// That the agent serves: a ping is answered.
    pub(crate) async fn ping(&mut self) {
        let id = self.call("rpc_ping", json!({})).await;
        let reply = self.reply_to(&id).await;
        assert_eq!((&reply["result"], &reply["ending"]), (&json!(true), &json!(true)));
    }
}

/// Messages that arrived, and those nobody has asked for yet.
struct Inbox {
    arriving: mpsc::UnboundedReceiver<Map<String, Value>>,
    kept: VecDeque<Map<String, Value>>,
}

impl Inbox {
    fn drain(&mut self) {
        while let Ok(message) = self.arriving.try_recv() {
            self.kept.push_back(message);
        }
    }

    /// Takes what has come of these.
    fn all(&mut self, wanted: impl Fn(&Map<String, Value>) -> bool) -> Vec<Map<String, Value>> {
        self.drain();
        let (taken, kept) = self.kept.drain(..).partition(|message| wanted(message));
        self.kept = kept;
        let taken: VecDeque<_> = taken;
        taken.into()
    }

    async fn next(&mut self, what: &str, wanted: impl Fn(&Map<String, Value>) -> bool) -> Map<String, Value> {
        if let Some(index) = self.kept.iter().position(&wanted) {
            return self.kept.remove(index).unwrap();
        }
        let found = async {
            loop {
                let message = self.arriving.recv().await.unwrap();
                if wanted(&message) {
                    return message;
                }
                self.kept.push_back(message);
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("no {what}"))
    }
}

async fn collect(channel: &Channel, queue: &str, exclusive: bool) -> Inbox {
    let options = QueueDeclareOptions { exclusive, auto_delete: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut consumer = channel.basic_consume(queue.into(), queue.into(), options, FieldTable::default()).await.unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(delivery)) = consumer.next().await {
            if sender.send(inner(&delivery.data)).is_err() {
                break;
            }
        }
    });
    Inbox { arriving: receiver, kept: VecDeque::new() }
}
