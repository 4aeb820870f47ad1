//! Guests with a real server each.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use mongodb::bson::{Document, doc};
use tokio_util::sync::CancellationToken;
use trove_guestagent::config::Settings;
use trove_guestagent::error::Result;
use trove_guestagent::managers::mongodb::{Layout, MongoDbManager, service as mongodb_service};
use trove_guestagent::managers::{DatastoreManager, Deps};
use trove_guestagent::model::{Overrides, PrepareRequest, ServiceStatus};
use trove_guestagent::op::Op;
use trove_guestagent::system::command::{CommandRunner, SystemCommands};
use trove_guestagent::system::mongodb::{Access, Address, Client, Login, Session};

pub(crate) use crate::harness::{NoPackages, logged, run};
use crate::harness::{new_directory, pid_of, stop_and_remove, until_probed};
use crate::ports::free_port;

/// Members of a set give their clients 15 s to go elsewhere before they end; here there are none.
pub(crate) const QUICK: &str = "setParameter.shutdownTimeoutMillisForSignaledShutdown: 0\n";

/// A server program of the guest's own, in its directory.
const PROGRAM: &str = "mongod";

/// A guest: a manager, and a directory that holds all of it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) manager: MongoDbManager,
    pub(crate) settings: Arc<Settings>,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) port: u16,
    pub(crate) op: Op,
}

impl Guest {
    /// A guest that nothing was done to.
    pub(crate) fn new(name: &str) -> Guest {
        let (dir, port) = (new_directory("mongodb", name), free_port());
        let settings = settings(&dir, port);
        Guest::with_settings(dir, settings, port)
    }

    /// Likewise, whose server is a program that `install` puts in its place.
    pub(crate) fn with_program(name: &str, install: impl FnOnce(&Utf8Path)) -> Guest {
        let (dir, port) = (new_directory("mongodb", name), free_port());
        install(&dir.join(PROGRAM));
        let settings = settings(&dir, port);
        Guest::with_settings(dir, settings, port)
    }

    fn with_settings(dir: Utf8PathBuf, settings: Settings, port: u16) -> Guest {
        let settings = Arc::new(settings);
        let mut layout = Layout::new(&settings);
        let own = dir.join(PROGRAM);
        if own.exists() {
            layout.programs = vec![own];
        }
        layout.routers = vec![dir.join("mongos")];
        let commands = Arc::new(SystemCommands);
        let commands: Arc<dyn CommandRunner> = commands;
        let service = mongodb_service(&layout, &settings, &commands);
        let deps = Deps { settings: settings.clone(), commands, service, packages: Arc::new(NoPackages) };
        let op = Op::internal(CancellationToken::new());
        Guest { manager: MongoDbManager::new(layout, deps), settings, dir, port, op }
    }

    /// A guest with a running server.
    pub(crate) async fn prepared(name: &str) -> Guest {
        let guest = Guest::new(name);
        guest.prepare("").await.unwrap();
        guest
    }

    pub(crate) async fn prepare(&self, extra: &str) -> Result<()> {
        self.manager.prepare_server(&self.op, &self.request(extra)).await
    }

    /// In a role of a cluster; a query router with the stand-in for its program.
    pub(crate) async fn prepare_as(&self, cluster_config: &serde_json::Value) -> Result<()> {
        self.prepare_with(cluster_config, "").await
    }

    /// Likewise, and more in the base configuration.
    pub(crate) async fn prepare_with(&self, cluster_config: &serde_json::Value, extra: &str) -> Result<()> {
        if cluster_config["instance_type"] == "query_router" {
            crate::router::install(&self.dir.join("mongos"));
        }
        let request = PrepareRequest { cluster_config: Some(cluster_config.clone()), ..self.request(&format!("{QUICK}{extra}")) };
        self.manager.prepare_server(&self.op, &request).await
    }

    /// A guest whose server is a replica set of one member.
    pub(crate) async fn prepare_set(&self, name: &str) {
        let key = self.dir.join("key");
        std::fs::write(&key, "planted0key").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        self.prepare(&format!("replication.replSetName: {name}\nsecurity.keyFile: {key}\n")).await.unwrap();
        let host = format!("127.0.0.1:{}", self.port);
        self.ask("admin", doc! {"replSetInitiate": {"_id": name, "members": [{"_id": 0, "host": host}]}}).await;
        let elected = async {
            let mut look = tokio::time::interval(std::time::Duration::from_millis(50));
            while !self.ask("admin", doc! {"hello": 1}).await.get_bool("isWritablePrimary").unwrap() {
                look.tick().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), elected).await.unwrap();
    }

    /// A guest that backups of this one can be restored to.
    pub(crate) fn beside(&self, name: &str) -> Guest {
        let (dir, port) = (new_directory("mongodb", name), free_port());
        let mut settings = settings(&dir, port);
        settings.storage.local_dir = self.settings.storage.local_dir.clone();
        Guest::with_settings(dir, settings, port)
    }

    /// The same guest after its agent was started again.
    pub(crate) fn agent_again(&self) -> Guest {
        Guest::with_settings(self.dir.clone(), (*self.settings).clone(), self.port)
    }

    /// What Train's controller renders, and `extra`.
    pub(crate) fn base(&self, extra: &str) -> String {
        format!(
            "# mongodb.conf\n\nstorage.mmapv1.smallFiles: false\nstorage.journal.enabled: true\n# small, for tests\nstorage.wiredTiger.engineConfig.cacheSizeGB: 0.25\n\
             net.port: {}\n{extra}",
            self.port
        )
    }

    /// Arguments of a `prepare` with nothing but a base configuration.
    pub(crate) fn request(&self, extra: &str) -> PrepareRequest {
        serde_json::from_value(serde_json::json!({"config_contents": self.base(extra)})).unwrap()
    }

    /// What the agent's session is answered.
    pub(crate) async fn ask(&self, database: &str, command: Document) -> Document {
        self.agent().await.run(&self.op, "test", database, command).await.unwrap()
    }

    pub(crate) async fn agent(&self) -> Session {
        self.manager.client().session(&self.op).await.unwrap()
    }

    /// A parameter of the running server.
    pub(crate) async fn parameter(&self, name: &str) -> mongodb::bson::Bson {
        let mut command = doc! {"getParameter": 1};
        command.insert(name, 1);
        self.ask("admin", command).await.get(name).cloned().unwrap()
    }

    /// A user's session over the network; nobody's without a login.
    pub(crate) async fn user(&self, login: Option<(&str, &str, &str)>) -> Result<Session> {
        let login =
            login.map(|(database, user, password)| Login { database: database.into(), user: user.into(), password: password.into() });
        let address = Address::Tcp { host: "127.0.0.1".into(), port: self.port };
        Client::new(Arc::new(Access { address, login })).session(&self.op).await
    }

    /// The server's process.
    pub(crate) async fn pid(&self) -> nix::unistd::Pid {
        pid_of(&self.manager, &self.op).await
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> String {
        std::fs::read_to_string(self.dir.join("etc/mongod.conf")).unwrap()
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

fn settings(dir: &Utf8Path, port: u16) -> Settings {
    let text = format!(
        "[DEFAULT]\nguest_id = guest\ndatastore_manager = mongodb\nservice_control = process\nstate_dir = {dir}/state\n\
         state_change_wait_time = 60\ntransport_url = rabbit://unused:unused@127.0.0.1:5672/\n\
         storage_strategy = local\nbackup_local_dir = {dir}/backups\nbackup_spool_dir = {dir}\n\
         [mongodb]\nmount_point = {dir}/volume\nsocket = {dir}/run/mongod.sock\nconfig_dir = {dir}/etc\nconfigsvr_port = {port}\n"
    );
    Settings::from_text("guest.conf", &text).unwrap()
}

/// Values of a configuration group.
pub(crate) fn values(value: serde_json::Value) -> Overrides {
    serde_json::from_value(value).unwrap()
}
