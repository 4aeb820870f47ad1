//! Guests with a real server each.

use std::future::Future;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use trove_guestagent::config::Settings;
use trove_guestagent::error::{Error, Result};
use trove_guestagent::managers::redis::{Layout, REDIS, RedisManager};
use trove_guestagent::managers::{DatastoreManager, Deps};
use trove_guestagent::model::{Overrides, PrepareRequest};
use trove_guestagent::op::Op;
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::packages::PackageManager;
use trove_guestagent::system::redis::Request;
use trove_guestagent::system::service::{self, UnitState};

/// Servers are children of this runtime's threads, and are told to end with the thread that started them: it must outlive all tests.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
static LOG: LazyLock<Log> = LazyLock::new(Log::default);
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Runs a test on the runtime that outlives it.
pub(crate) fn run(test: impl Future<Output = ()> + Send + 'static) {
    let outcome = RUNTIME.block_on(RUNTIME.spawn(test));
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Everything logged by all tests, to look for secrets in.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything logged so far, down to TRACE.
pub(crate) fn logged() -> String {
    String::from_utf8_lossy(&LOG.0.lock().unwrap()).into_owned()
}

#[derive(Debug)]
pub(crate) struct NoPackages;

#[async_trait]
impl PackageManager for NoPackages {
    async fn install(&self, _op: &Op, packages: &[String]) -> Result<()> {
        Err(Error::guest(format!("no test installs packages: {packages:?}")))
    }

    async fn upgrade(&self, _op: &Op, packages: &[String]) -> Result<()> {
        Err(Error::guest(format!("no test installs packages: {packages:?}")))
    }
}

/// A guest: a manager, and a directory that holds all of it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) manager: RedisManager,
    pub(crate) settings: Arc<Settings>,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) port: u16,
    pub(crate) op: Op,
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    loop {
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        // A cluster's members have a second one, 10000 above.
        if port < 50_000 && std::net::TcpListener::bind(("0.0.0.0", port + 10_000)).is_ok() {
            return port;
        }
    }
}

impl Guest {
    /// A guest that nothing was done to.
    pub(crate) fn new(name: &str, change: impl FnOnce(&mut Settings)) -> Guest {
        sweep();
        let log = LOG.clone();
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(move || log.clone()).try_init().ok();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let dir = Utf8PathBuf::from(format!("/tmp/trove-redis-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut settings = settings(&dir);
        change(&mut settings);
        Guest::with_settings(dir, settings, free_port())
    }

    fn with_settings(dir: Utf8PathBuf, settings: Settings, port: u16) -> Guest {
        let settings = Arc::new(settings);
        let layout = Layout::new(&settings);
        let commands = Arc::new(SystemCommands);
        let service = service::build(&settings, REDIS.services, layout.server_command(), commands.clone());
        let deps = Deps { settings: settings.clone(), commands, service, packages: Arc::new(NoPackages) };
        let op = Op::internal(CancellationToken::new());
        Guest { manager: RedisManager::new(layout, deps), settings, dir, port, op }
    }

    /// A guest with a running server.
    pub(crate) async fn prepared(name: &str, extra: &str) -> Guest {
        let guest = Guest::new(name, |_| ());
        guest.manager.prepare_server(&guest.op, &guest.request(extra)).await.unwrap();
        guest
    }

    /// The same guest after its agent was started again.
    pub(crate) fn agent_again(&self) -> Guest {
        Guest::with_settings(self.dir.clone(), (*self.settings).clone(), self.port)
    }

    /// What a controller renders, in short, and `extra`.
    pub(crate) fn base(&self, extra: &str) -> String {
        format!(
            "# rendered\ndaemonize yes\npidfile /var/run/redis/redis-server.pid\nport {}\ntcp-backlog 511\ntimeout 0\nsupervised systemd\n\
             loglevel notice\nlogfile \"\"\ndatabases 16\nsave 900 1\nsave 300 10\nsave 60 10000\ndbfilename dump.rdb\ndir /tmp\n\
             slave-serve-stale-data yes\nslave-read-only yes\nrepl-diskless-sync no\nrepl-diskless-sync-delay 0\nmaxmemory 64mb\nappendonly no\n\
             appendfilename \"appendonly.aof\"\nhash-max-ziplist-entries 512\nclient-output-buffer-limit normal 0 0 0\n\
             client-output-buffer-limit slave 256mb 64mb 60\nhz 10\n{extra}",
            self.port
        )
    }

    /// Arguments of a `prepare` with nothing but a base configuration.
    pub(crate) fn request(&self, extra: &str) -> PrepareRequest {
        serde_json::from_value(serde_json::json!({"config_contents": self.base(extra)})).unwrap()
    }

    /// What the agent's session is answered.
    pub(crate) async fn ask(&self, words: &[&str]) -> String {
        let value: redis::Value = self.try_ask(words).await.unwrap();
        redis::from_redis_value(value).unwrap()
    }

    pub(crate) async fn try_ask(&self, words: &[&str]) -> Result<redis::Value> {
        let mut session = self.manager.client().session(&self.op).await?;
        let request = Request::new(words[0]).args(words[1..].iter().copied());
        session.run(&self.op, "test", &request).await
    }

    /// A parameter of the running server.
    pub(crate) async fn parameter(&self, name: &str) -> String {
        use secrecy::ExposeSecret;
        let mut session = self.manager.client().session(&self.op).await.unwrap();
        session.parameters(&self.op, name).await.unwrap().get(name).map(|value| value.expose_secret().to_owned()).unwrap_or_default()
    }

    /// A user's connection over the network.
    pub(crate) async fn user(&self, password: Option<&str>) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        use redis::IntoConnectionInfo;
        let mut settings = redis::RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let info = redis::ConnectionAddr::Tcp("127.0.0.1".into(), self.port).into_connection_info()?.set_redis_settings(settings);
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        redis::Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// What a user is answered.
    pub(crate) async fn as_user(&self, password: Option<&str>, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut connection = self.user(password).await?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut connection).await
    }

    /// The server's process.
    pub(crate) async fn pid(&self) -> nix::unistd::Pid {
        match self.manager.service().state(&self.op).await.unwrap() {
            UnitState::Running { pid: Some(pid) } => nix::unistd::Pid::from_raw(pid),
            other => panic!("the server is {other:?}"),
        }
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> String {
        std::fs::read_to_string(self.dir.join("etc/redis.conf")).unwrap()
    }

    /// Stops the server and removes everything.
    pub(crate) async fn remove(self) {
        self.manager.stop(&self.op).await.unwrap();
        // The supervisor of an agent's earlier life may note the server's end in there at this very moment.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let mut tries = tokio::time::interval(Duration::from_millis(50));
        while let Err(error) = std::fs::remove_dir_all(&self.dir) {
            assert!(tokio::time::Instant::now() < deadline, "{}: {error}", self.dir);
            tries.tick().await;
        }
    }
}

/// Directories of test programs that are gone: a killed one cannot clean up.
fn sweep() {
    for entry in Utf8Path::new("/tmp").read_dir_utf8().unwrap().flatten() {
        let pid = entry.file_name().strip_prefix("trove-redis-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Utf8Path::new("/proc").join(pid).exists()) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn settings(dir: &Utf8Path) -> Settings {
    let text = format!(
        "[DEFAULT]\nguest_id = guest\ndatastore_manager = redis\nservice_control = process\nstate_dir = {dir}/state\n\
         state_change_wait_time = 60\ntransport_url = rabbit://unused:unused@127.0.0.1:5672/\n\
         storage_strategy = local\nbackup_local_dir = {dir}/backups\nbackup_spool_dir = {dir}\n\
         [redis]\nmount_point = {dir}/volume\nsocket = {dir}/run/redis.sock\nconfig_dir = {dir}/etc\n"
    );
    Settings::from_text("guest.conf", &text).unwrap()
}

/// Values of a configuration group.
pub(crate) fn values(value: serde_json::Value) -> Overrides {
    serde_json::from_value(value).unwrap()
}
