//! Places to store into, a proxy with faults in front of the real Swift, and bodies.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use trove_guestagent::config::Settings;
use trove_guestagent::error::{Error, Result};
use trove_guestagent::model::{BackupMetadata, RequestContext};
use trove_guestagent::op::Op;
use trove_guestagent::strategies::storage::{
    ByteStream, Location, ObjectName, Segment, SegmentBody, Storage, StorageRequest, byte_stream, storage_for,
};

use crate::certificates::Issued;

/// No wait of any test is longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// What `TROVE_TEST_SWIFT` says.
pub(crate) fn swift() -> Value {
    let text = std::env::var("TROVE_TEST_SWIFT").expect("TROVE_TEST_SWIFT describes a running Swift; dev/test sets it");
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("TROVE_TEST_SWIFT has no {key}: start it with bench.with_services keystone")).to_owned()
}

/// `host:port` of an address.
pub(crate) fn authority(url: &str) -> String {
    url.split('/').nth(2).unwrap().to_owned()
}

/// A token of tempauth and the address of its account.
pub(crate) async fn login(user: &str) -> (SecretString, String) {
    let swift = swift();
    let request = reqwest::Client::new().get(text(&swift, "auth_url"));
    let answer = request.header("x-auth-user", text(&swift, user)).header("x-auth-key", text(&swift, "key")).send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    (SecretString::from(header("x-auth-token")), header("x-storage-url"))
}

/// Settings of a guest, with more lines for `[DEFAULT]` (and groups after them).
pub(crate) fn settings(lines: &str) -> Settings {
    Settings::from_text("test.conf", &format!("[DEFAULT]\nguest_id = g\ndatastore_manager = mysql\n{lines}\n")).unwrap()
}

/// An operation of a request with this token.
pub(crate) fn op(token: &SecretString, more: Value) -> Op {
    let mut context = Map::from_iter([("auth_token".to_owned(), json!(token.expose_secret()))]);
    context.extend(more.as_object().cloned().unwrap_or_default());
    Op::new(CancellationToken::new(), RequestContext::from_wire(context))
}

pub(crate) fn unique() -> String {
    format!("c-{}", uuid::Uuid::new_v4().simple())
}

/// Somewhere to store into.
pub(crate) struct Place {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) op: Op,
    pub(crate) container: String,
    pub(crate) token: SecretString,
    folder: Option<tempfile::TempDir>,
    url: String,
}

impl Place {
    /// The Swift of the tests, with a container of its own.
    pub(crate) async fn swift(lines: &str) -> Place {
        Place::of("user", lines).await
    }

    /// With the token of this user of the account.
    pub(crate) async fn of(user: &str, lines: &str) -> Place {
        let (token, url) = login(user).await;
        let place = Place::at(token, url, lines).await;
        place.storage.ensure_container(&place.op, &place.container).await.unwrap();
        place
    }

    /// The same through a proxy.
    pub(crate) async fn behind(proxy: &Proxy, lines: &str) -> Place {
        Place::through(proxy, "http", lines).await
    }

    /// The same through a proxy with TLS.
    pub(crate) async fn behind_tls(proxy: &Proxy, lines: &str) -> Place {
        Place::through(proxy, "https", lines).await
    }

    async fn through(proxy: &Proxy, scheme: &str, lines: &str) -> Place {
        let direct = Place::swift("").await;
        let url = direct.url.replace(&format!("http://{}", authority(&direct.url)), &format!("{scheme}://{}", proxy.address));
        let place = Place::at(direct.token.clone(), url, lines).await;
        Place { container: direct.container, ..place }
    }

    async fn at(token: SecretString, url: String, lines: &str) -> Place {
        let op = op(&token, json!({}));
        let request = StorageRequest { swift_url: Some(url.clone()), ..StorageRequest::default() };
        let storage = storage_for(&op, &settings(lines), &request).await.unwrap();
        Place { storage, op, container: unique(), token, folder: None, url }
    }

    pub(crate) async fn local() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let lines = format!("storage_strategy = local\nbackup_local_dir = {}/backups", folder.path().display());
        let op = Op::internal(CancellationToken::new());
        let storage = storage_for(&op, &settings(&lines), &StorageRequest::default()).await.unwrap();
        let place = Place { storage, op, container: unique(), token: SecretString::default(), folder: Some(folder), url: String::new() };
        place.storage.ensure_container(&place.op, &place.container).await.unwrap();
        place
    }

    pub(crate) fn name(&self, object: &str) -> ObjectName {
        ObjectName::new(&self.container, object)
    }

    pub(crate) fn location(&self, name: &ObjectName) -> Location {
        Location::parse(&self.storage.location(name)).unwrap()
    }

    pub(crate) async fn segment(&self, name: &ObjectName, index: usize, content: &[u8]) -> Segment {
        let segment = Segment { name: name.segment(index), size: u64::try_from(content.len()).unwrap(), md5: md5(content) };
        let stored = self.storage.put_segment(&self.op, &segment.name, body(content, None)).await.unwrap();
        assert_eq!(stored, segment.md5);
        segment
    }

    pub(crate) async fn segments(&self, name: &ObjectName, contents: &[&[u8]]) -> Vec<Segment> {
        let mut segments = Vec::new();
        for (index, content) in contents.iter().enumerate() {
            segments.push(self.segment(name, index, content).await);
        }
        segments
    }

    /// A whole backup; returns its checksum.
    pub(crate) async fn store(&self, name: &ObjectName, contents: &[&[u8]], metadata: &BackupMetadata) -> String {
        let segments = self.segments(name, contents).await;
        self.storage.put_manifest(&self.op, name, &segments, metadata).await.unwrap()
    }

    /// The bytes of a whole backup, part by part, each with the MD5 it is said to have.
    pub(crate) async fn load(&self, name: &ObjectName) -> Vec<u8> {
        let found = self.storage.inspect(&self.op, &self.location(name)).await.unwrap();
        let mut all = Vec::new();
        for part in &found.parts {
            let bytes = collect(self.storage.read(&self.op, part, 0).await.unwrap()).await.unwrap();
            assert_eq!(md5(&bytes), part.md5, "{}", part.name);
            all.extend(bytes);
        }
        assert_eq!(found.size, u64::try_from(all.len()).unwrap());
        all
    }

    /// What is in the container, by name.
    pub(crate) async fn names(&self) -> Vec<String> {
        if let Some(folder) = &self.folder {
            let entries = std::fs::read_dir(folder.path().join("backups").join(&self.container)).unwrap();
            let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            return names;
        }
        let answer = self.raw(reqwest::Method::GET, "").send().await.unwrap();
        answer.text().await.unwrap().lines().map(str::to_owned).collect()
    }

    /// Takes one object away behind the agent's back.
    pub(crate) async fn lose(&self, name: &ObjectName) {
        if let Some(folder) = &self.folder {
            return std::fs::remove_file(folder.path().join("backups").join(&name.container).join(&name.object)).unwrap();
        }
        assert!(self.raw(reqwest::Method::DELETE, &name.object).send().await.unwrap().status().is_success());
    }

    /// A request by hand about something in the container.
    pub(crate) fn raw(&self, method: reqwest::Method, object: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/{}/{object}", self.url, self.container);
        reqwest::Client::new().request(method, url.trim_end_matches('/')).header("x-auth-token", self.token.expose_secret())
    }

    /// A request by hand about the account, with another one's token.
    pub(crate) fn account(&self, method: reqwest::Method, token: &SecretString) -> reqwest::RequestBuilder {
        reqwest::Client::new().request(method, &self.url).header("x-auth-token", token.expose_secret())
    }

    /// The error's words, which never have the token.
    #[track_caller]
    pub(crate) fn words(&self, error: &Error) -> String {
        let words = format!("{error} {error:?} {:?}", self.storage);
        let token = self.token.expose_secret();
        assert!(token.is_empty() || !words.contains(token), "the token is in: {error}");
        error.to_string()
    }

    /// Such a failure may be mended by another attempt, or not.
    #[track_caller]
    pub(crate) fn expect<T: std::fmt::Debug>(&self, outcome: Result<T>, transient: bool, word: &str) {
        let error = outcome.expect_err("this must fail");
        let words = self.words(&error);
        assert!(matches!(error, Error::Storage { .. }), "{words}");
        assert_eq!(error.is_transient(), transient, "{words}");
        assert!(words.contains(word), "'{word}' is not in: {words}");
    }
}

pub(crate) fn md5(bytes: &[u8]) -> String {
    format!("{:x}", Md5::digest(bytes))
}

/// Bytes of no pattern that compression or luck could make equal.
pub(crate) fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(size).collect()
}

/// A stream of buffers of 10000 bytes, then perhaps an error.
pub(crate) fn stream(content: &[u8], end: Option<Error>) -> ByteStream {
    let (sender, stream) = byte_stream(2);
    let buffers: Vec<Bytes> = content.chunks(10_000).map(Bytes::copy_from_slice).collect();
    tokio::spawn(async move {
        for item in buffers.into_iter().map(Ok).chain(end.map(Err)) {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    stream
}

pub(crate) fn body(content: &[u8], size: Option<u64>) -> SegmentBody {
    SegmentBody { bytes: stream(content, None), size }
}

pub(crate) async fn collect(mut stream: ByteStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(bytes) = tokio::time::timeout(DEADLINE, stream.recv()).await.expect("the stream goes on") {
        all.extend_from_slice(&bytes?);
    }
    Ok(all)
}

/// `dev/bench/fault_proxy.py` in front of a server.
pub(crate) struct Proxy {
    pub(crate) address: String,
    _child: Child,
}

pub(crate) fn python() -> Command {
    let python = std::env::var("TROVE_TEST_PYTHON").expect("TROVE_TEST_PYTHON is a Python that has swiftclient; dev/test sets it");
    #[expect(clippy::disallowed_methods, reason = "a test's own child")]
    let mut command = Command::new(python);
    command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/dev")).kill_on_drop(true);
    command
}

impl Proxy {
    /// In front of the Swift of the tests.
    pub(crate) async fn swift() -> Proxy {
        Proxy::before(&authority(&text(&swift(), "auth_url"))).await
    }

    pub(crate) async fn before(target: &str) -> Proxy {
        Proxy::start(&[target]).await
    }

    /// With a certificate: its remote control cannot be used.
    pub(crate) async fn over_tls(target: &str, issued: &Issued) -> Proxy {
        Proxy::start(&[target, "127.0.0.1:0", issued.cert.as_str(), issued.key.as_str()]).await
    }

    async fn start(arguments: &[&str]) -> Proxy {
        let mut child = python().args(["-m", "bench.fault_proxy"]).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port =
            tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("the proxy starts").unwrap().expect("the proxy says its port");
        Proxy { address: format!("127.0.0.1:{port}"), _child: child }
    }

    /// What it does from now on; see `dev/bench/fault_proxy.py`.
    pub(crate) async fn add(&self, rule: Value) {
        let sent = reqwest::Client::new().post(self.control()).json(&rule).send().await.unwrap();
        assert!(sent.status().is_success());
    }

    /// Method, path and status of each request so far.
    pub(crate) async fn requests(&self) -> Vec<(String, String, Option<u64>)> {
        self.seen().await.iter().map(|one| (text(one, "method"), text(one, "path"), one["status"].as_u64())).collect()
    }

    /// The token Keystone gave last.
    pub(crate) async fn last_token(&self) -> SecretString {
        let seen = self.seen().await;
        let token = seen.iter().rev().find_map(|one| one["token"].as_str()).expect("Keystone has given a token");
        SecretString::from(token.to_owned())
    }

    async fn seen(&self) -> Vec<Value> {
        reqwest::Client::new().get(self.control()).send().await.unwrap().json().await.unwrap()
    }

    fn control(&self) -> String {
        format!("http://{}/.faults", self.address)
    }
}
