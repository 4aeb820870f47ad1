//! Guests with a real server, one shared by all tests of a flavor, and others made for one test.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use trove_guestagent::config::Settings;
use trove_guestagent::error::Result;
use trove_guestagent::managers::mysql::{Layout, Login, MARIADB, MYSQL, MySqlManager, SqlText};
use trove_guestagent::managers::{DatastoreManager, Deps};
use trove_guestagent::model::{PrepareRequest, ServiceStatus, UserSpec};
use trove_guestagent::op::Op;
use trove_guestagent::system::command::{CommandOutput, CommandSpec, SystemCommands};
use trove_guestagent::system::running::RunningCommand;
use trove_guestagent::system::service::{self, ServiceControl, UnitState};

use crate::harness::{NoPackages, new_directory, pid_of, stop_and_remove, until_probed};
pub(crate) use crate::harness::{logged, run};

static SHARED: [OnceCell<Guest>; Root::COUNT] = [const { OnceCell::const_new() }; Root::COUNT];

/// Runs a test on the shared guest of each flavor.
pub(crate) fn on_both<F: Future<Output = ()> + Send + 'static>(test: impl Fn(&'static Guest) -> F + Send + Sync + 'static) {
    run(async move {
        for flavor in [Root::MariaDb, Root::MySql] {
            test(Guest::shared(flavor).await).await;
        }
    });
}

/// Runs a test with each flavor, for tests that make guests of their own.
pub(crate) fn with_both<F: Future<Output = ()> + Send + 'static>(test: impl Fn(Root) -> F + Send + Sync + 'static) {
    run(async move {
        for flavor in [Root::MariaDb, Root::MySql] {
            test(flavor).await;
        }
    });
}

/// A root file system with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    MariaDb,
    MySql,
    /// MariaDB 11.8: replication alone is run with it here.
    MariaDb11,
}

impl Root {
    fn path(self) -> Utf8PathBuf {
        let roots = std::env::var("TROVE_TEST_ROOTS").expect("TROVE_TEST_ROOTS names the directory of mariadb-10.11 and the others");
        let path = Utf8PathBuf::from(roots).join(match self {
            Root::MariaDb => "mariadb-10.11",
            Root::MySql => "mysql-9.7",
            Root::MariaDb11 => "mariadb-11.8",
        });
        assert!(path.join("usr/sbin").is_dir(), "there is no root file system at {path}");
        path
    }

    pub(crate) fn program(self) -> &'static str {
        if self.is_mariadb() { "/usr/sbin/mariadbd" } else { "/usr/sbin/mysqld" }
    }

    pub(crate) fn is_mariadb(self) -> bool {
        self != Root::MySql
    }

    /// A place for it in an array.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) const COUNT: usize = 3;
}

/// Programs of the datastore besides its server.
const TOOLS: [&str; 11] = [
    "mariadb",
    "mariadb-backup",
    "mariadb-check",
    "mariadb-dump",
    "mariadb-install-db",
    "mariadb-upgrade",
    "mbstream",
    "mysql",
    "mysqlcheck",
    "mysqldump",
    "xtrabackup",
];

/// The agent's own supervisor, with the programs of another root.
#[derive(Debug)]
struct Rooted {
    supervisor: Arc<dyn ServiceControl>,
    scratch: Utf8PathBuf,
}

#[async_trait]
impl ServiceControl for Rooted {
    async fn start(&self, op: &Op, wait: Duration) -> Result<()> {
        self.supervisor.start(op, wait).await
    }
    async fn stop(&self, op: &Op, wait: Duration) -> Result<()> {
        self.supervisor.stop(op, wait).await
    }
    async fn keep_stopped(&self, op: &Op) -> Result<()> {
        self.supervisor.keep_stopped(op).await
    }
    async fn set_enabled(&self, op: &Op, enabled: bool) -> Result<()> {
        self.supervisor.set_enabled(op, enabled).await
    }
    async fn state(&self, op: &Op) -> Result<UnitState> {
        self.supervisor.state(op).await
    }
    async fn exec(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        self.supervisor.exec(op, self.rooted(command)).await
    }
    async fn spawn(&self, op: &Op, command: CommandSpec) -> Result<RunningCommand> {
        self.supervisor.spawn(op, self.rooted(command)).await
    }
}

impl Rooted {
    /// A program of the datastore is that of its root, not this machine's.
    fn rooted(&self, command: CommandSpec) -> CommandSpec {
        match TOOLS.iter().find(|tool| command.argv()[0] == **tool) {
            Some(tool) => command.replace_program(self.scratch.join(tool), Vec::new()),
            None => command,
        }
    }
}

/// A guest: a manager, and a directory that holds all of it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) manager: MySqlManager,
    pub(crate) settings: Arc<Settings>,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) root: Root,
    pub(crate) op: Op,
}

impl Guest {
    /// The guest all tests of a flavor share: prepared. Tests use names of their own.
    pub(crate) async fn shared(root: Root) -> &'static Guest {
        SHARED[root.index()]
            .get_or_init(|| async move {
                let guest = Guest::new(root, "shared", |_| ());
                guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
                guest
            })
            .await
    }

    /// A guest that nothing was done to.
    pub(crate) fn new(root: Root, name: &str, change: impl FnOnce(&mut Settings)) -> Guest {
        let dir = new_directory("mysql", name);
        let mut settings = settings(if root.is_mariadb() { "mariadb" } else { "mysql" }, &dir);
        change(&mut settings);
        Guest::with_settings(root, dir, settings)
    }

    fn with_settings(root: Root, dir: Utf8PathBuf, settings: Settings) -> Guest {
        let descriptor = if root.is_mariadb() { &MARIADB } else { &MYSQL };
        let server = dir.join("mysqld");
        let setpriv = ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups", "--pdeathsig=KILL", root.program()];
        wrapper(&server, root, &dir, &setpriv);
        for tool in TOOLS {
            wrapper(&dir.join(tool), root, &dir, &[tool]);
        }
        let settings = Arc::new(settings);
        let layout = Layout { programs: vec![server], ..Layout::new(descriptor, &settings) };
        let commands = Arc::new(SystemCommands);
        let supervisor = service::build(&settings, descriptor.services, layout.server_command(descriptor), commands.clone());
        let service = Arc::new(Rooted { supervisor, scratch: dir.clone() });
        let deps = Deps { settings: settings.clone(), commands, service, packages: Arc::new(NoPackages) };
        let op = Op::internal(CancellationToken::new());
        Guest { manager: MySqlManager::new(descriptor, layout, deps), settings, dir, root, op }
    }

    /// The same guest after its agent was started again.
    pub(crate) fn agent_again(&self) -> Guest {
        Guest::with_settings(self.root, self.dir.clone(), (*self.settings).clone())
    }

    /// First column of what `os_admin` reads.
    pub(crate) async fn column(&self, sql: SqlText) -> Vec<Option<String>> {
        let mut session = self.manager.client().session(&self.op).await.unwrap();
        let rows = session.rows(&self.op, "read", &sql).await.unwrap_or_else(|error| panic!("{sql:?} on {:?}: {error}", self.root));
        session.close().await;
        rows
    }

    /// A statement of `os_admin`.
    pub(crate) async fn sql(&self, sql: SqlText) {
        let mut session = self.manager.client().session(&self.op).await.unwrap();
        session.run(&self.op, "run", &sql).await.unwrap();
        session.close().await;
    }

    /// A statement of somebody else.
    pub(crate) async fn sql_as(&self, user: &str, password: &str, sql: SqlText) -> Result<()> {
        let login = Login { user: user.into(), password: (!password.is_empty()).then(|| password.into()) };
        let mut session = self.manager.client().session_as(&self.op, &login).await?;
        let done = session.run(&self.op, "run", &sql).await;
        session.close().await;
        done
    }

    /// The server's process.
    pub(crate) async fn pid(&self) -> nix::unistd::Pid {
        pid_of(&self.manager, &self.op).await
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

fn wrapper(path: &Utf8Path, root: Root, scratch: &Utf8Path, program: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mysql/in-root");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount --propagation private '{script}' '{}' '{scratch}' {} \"$@\"\n",
        root.path(),
        program.join(" ")
    );
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn settings(manager: &str, dir: &Utf8Path) -> Settings {
    let text = format!(
        "[DEFAULT]\nguest_id = guest\ndatastore_manager = {manager}\nservice_control = process\nstate_dir = {dir}/state\n\
         state_change_wait_time = 120\ntransport_url = rabbit://unused:unused@127.0.0.1:5672/\n\
         [{manager}]\nmount_point = {dir}/volume\nsocket = {dir}/run/mysqld.sock\nconfig_dir = {dir}/etc\n"
    );
    Settings::from_text("guest.conf", &text).unwrap()
}

/// Arguments of a `prepare` with nothing but a base configuration.
pub(crate) fn request(contents: &str) -> PrepareRequest {
    serde_json::from_value(serde_json::json!({"config_contents": contents})).unwrap()
}

/// A user as the controller sends it.
pub(crate) fn user(name: &str, host: Option<&str>, password: &str, databases: &[&str]) -> UserSpec {
    let databases: Vec<_> =
        databases.iter().map(|name| serde_json::json!({"_name": name, "_collate": null, "_character_set": null})).collect();
    serde_json::from_value(serde_json::json!({"_name": name, "_host": host, "_password": password, "_databases": databases})).unwrap()
}

/// What a controller of today renders for a guest of 1 GiB (the options of its templates for both flavors); the port is closed to
/// the network here, because other tests have servers too.
pub(crate) const BASE: &str = "
[client]
port = 3306
socket = /var/run/mysqld/mysqld.sock

[mysqld_safe]
nice = 0

[mysqld]
port = 3306
skip-networking
basedir = /usr
datadir = /var/lib/mysql/data
tmpdir = /var/tmp
pid_file = /var/run/mysqld/mysqld.pid
socket = /var/run/mysqld/mysqld.sock
skip-external-locking = 1
key_buffer_size = 100M
max_allowed_packet = 2048K
thread_stack = 192K
thread_cache_size = 8
myisam-recover-options = BACKUP,FORCE
query_cache_type = 1
query_cache_limit = 1M
query_cache_size = 16M
innodb_data_file_path = ibdata1:10M:autoextend
innodb_buffer_pool_size = 300M
innodb_file_per_table = 1
innodb_log_files_in_group = 2
innodb_log_file_size=50M
innodb_log_buffer_size=25M
connect_timeout = 15
wait_timeout = 120
join_buffer_size = 1M
read_buffer_size = 512K
read_rnd_buffer_size = 512K
sort_buffer_size = 1M
tmp_table_size = 32M
max_heap_table_size = 32M
table_open_cache = 512
table_definition_cache = 512
open_files_limit = 1024
max_user_connections = 200
max_connections = 200
default_storage_engine = innodb
local-infile = 0
server_id = 1234

[mysqldump]
quick = 1
quote-names = 1
max_allowed_packet = 16M

[isamchk]
key_buffer = 16M

!includedir /etc/mysql/conf.d/
";
