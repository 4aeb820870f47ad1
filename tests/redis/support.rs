//! Guests with a real server each.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use tokio_util::sync::CancellationToken;
use trove_guestagent::config::Settings;
use trove_guestagent::error::Result;
use trove_guestagent::managers::redis::{Layout, REDIS, RedisManager};
use trove_guestagent::managers::{DatastoreManager, Deps};
use trove_guestagent::model::{Overrides, PrepareRequest, ServiceStatus};
use trove_guestagent::op::Op;
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::redis::Request;
use trove_guestagent::system::service;

pub(crate) use crate::harness::{NoPackages, logged, run};
use crate::harness::{new_directory, pid_of, stop_and_remove, until_probed};
use crate::ports::free_port;

/// A guest: a manager, and a directory that holds all of it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) manager: RedisManager,
    /// `Redis` or `Valkey`: the server that there is.
    pub(crate) product: &'static str,
    /// The configuration file.
    pub(crate) main_file: Utf8PathBuf,
    pub(crate) settings: Arc<Settings>,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) port: u16,
    pub(crate) op: Op,
}

impl Guest {
    /// A guest that nothing was done to.
    pub(crate) fn new(name: &str, change: impl FnOnce(&mut Settings)) -> Guest {
        let dir = new_directory("redis", name);
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
        let product = if layout.family() == "valkey" { "Valkey" } else { "Redis" };
        Guest { product, main_file: layout.main_file(), manager: RedisManager::new(layout, deps), settings, dir, port, op }
    }

    /// A guest with a running server.
    pub(crate) async fn prepared(name: &str, extra: &str) -> Guest {
        let guest = Guest::new(name, |_| ());
        guest.manager.prepare_server(&guest.op, &guest.request(extra)).await.unwrap();
        guest
    }

    /// One whose port is followed by another one of nobody.
    pub(crate) async fn prepared_with_two_ports(name: &str) -> Guest {
        let guest = Guest::new(name, |_| ());
        let mut port = free_port();
        loop {
            let next = free_port();
            if next == port + 1 {
                break;
            }
            port = next;
        }
        let guest = Guest { port, ..guest };
        guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
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
        pid_of(&self.manager, &self.op).await
    }

    /// What is in the configuration file.
    pub(crate) fn file(&self) -> String {
        std::fs::read_to_string(&self.main_file).unwrap()
    }

    /// Stops the server and removes everything.
    pub(crate) async fn remove(self) {
        stop_and_remove(&self.manager, &self.op, &self.dir).await;
    }

    /// Waits until the probe says so.
    pub(crate) async fn becomes(&self, wanted: ServiceStatus) {
        until_probed(&self.manager, &self.op, wanted).await;
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
