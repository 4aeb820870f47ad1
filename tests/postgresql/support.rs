//! Guests with a real server each.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use trove_guestagent::config::Settings;
use trove_guestagent::managers::postgresql::{Layout, POSTGRESQL, PostgreSqlManager};
use trove_guestagent::managers::{DatabaseAdmin, DatastoreManager, Deps, RootAccess, UserAdmin};
use trove_guestagent::model::{DatabaseSpec, PageRequest, PrepareRequest, ServiceStatus, UserSpec};
use trove_guestagent::op::Op;
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::postgresql::{Row, SqlText};
use trove_guestagent::system::service::{self, ServerCommand};

pub(crate) use crate::harness::{NoPackages, logged, run};
use crate::harness::{new_directory, pid_of, stop_and_remove, until_probed};
use crate::ports::free_port;

/// A guest: a manager, and a directory that holds all of it.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) manager: PostgreSqlManager,
    pub(crate) settings: Arc<Settings>,
    pub(crate) dir: Utf8PathBuf,
    pub(crate) port: u16,
    pub(crate) op: Op,
}

fn settings(dir: &Utf8Path) -> Settings {
    let text = format!(
        "[DEFAULT]\nguest_id = g1\ndatastore_manager = postgresql\ntransport_url = rabbit://u:p@127.0.0.1/\nservice_control = process\n\
         state_dir = {dir}/state\nstate_change_wait_time = 60\n[postgresql]\nmount_point = {dir}/mnt\nconfig_dir = {dir}/etc\n\
         socket = {dir}/run/socket\n"
    );
    Settings::from_text("guest.conf", &text).unwrap()
}

/// A server that nobody stops, as the shared one, shuts down when the threads of the test program are gone.
fn ending_with_the_tests(server: ServerCommand) -> ServerCommand {
    let program = server.programs.iter().find(|program| program.is_file()).cloned().unwrap();
    let user = ["--reuid", "--regid"].map(|option| format!("{option}={}", server.user));
    let others = ["--init-groups", "--pdeathsig=QUIT", program.as_str()].map(str::to_owned);
    let args = user.into_iter().chain(others).chain(server.args).collect();
    ServerCommand { programs: vec!["/usr/bin/setpriv".into()], args, started_as_user: false, ..server }
}

impl Guest {
    /// A guest that nothing was done to.
    pub(crate) fn new(name: &str) -> Guest {
        Guest::changed(name, |_| ())
    }

    /// One with other settings.
    pub(crate) fn changed(name: &str, change: impl FnOnce(&mut Settings)) -> Guest {
        let dir = new_directory("postgresql", name);
        let mut settings = settings(&dir);
        settings.guest_id = name.to_owned();
        change(&mut settings);
        Guest::with_settings(dir, settings, free_port())
    }

    fn with_settings(dir: Utf8PathBuf, settings: Settings, port: u16) -> Guest {
        let settings = Arc::new(settings);
        let layout = Layout::new(&settings);
        let commands = Arc::new(SystemCommands);
        let service = service::build(&settings, POSTGRESQL.services, ending_with_the_tests(layout.server_command()), commands.clone());
        let deps = Deps { settings: settings.clone(), commands, service, packages: Arc::new(NoPackages) };
        let op = Op::internal(CancellationToken::new());
        Guest { manager: PostgreSqlManager::new(layout, deps), settings, dir, port, op }
    }

    /// A guest with a running server.
    pub(crate) async fn prepared(name: &str, extra: &str) -> Guest {
        let guest = Guest::new(name);
        guest.manager.prepare_server(&guest.op, &guest.request(extra)).await.unwrap();
        guest
    }

    /// The same guest after its agent was started again. There is one at a time: two would both start a server that has ended.
    pub(crate) fn agent_again(self) -> Guest {
        let (dir, settings, port) = (self.dir.clone(), (*self.settings).clone(), self.port);
        drop(self);
        Guest::with_settings(dir, settings, port)
    }

    /// The same guest as an agent with other settings sees it, which is to start and stop nothing.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Settings)) -> Guest {
        let mut settings = (*self.settings).clone();
        change(&mut settings);
        Guest::with_settings(self.dir.clone(), settings, self.port)
    }

    /// What a controller renders, in short, and `extra`. The server syncs nothing: the tests do not cut its power.
    pub(crate) fn base(&self, extra: &str) -> String {
        format!(
            "# rendered\nlisten_addresses = '*'\nport = {}\nmax_connections = 100\t\t\t# (change requires restart)\n\
             shared_buffers = 16MB\nmax_stack_depth = 7MB\nfsync = off\nwal_log_hints = on\n{extra}",
            self.port
        )
    }

    /// Arguments of a `prepare` with nothing but a base configuration.
    pub(crate) fn request(&self, extra: &str) -> PrepareRequest {
        serde_json::from_value(serde_json::json!({"config_contents": self.base(extra)})).unwrap()
    }

    pub(crate) fn users(&self) -> &dyn UserAdmin {
        self.manager.users().unwrap()
    }

    pub(crate) fn databases(&self) -> &dyn DatabaseAdmin {
        self.manager.databases().unwrap()
    }

    pub(crate) fn root(&self) -> &dyn RootAccess {
        self.manager.root().unwrap()
    }

    pub(crate) async fn create_databases(&self, names: &[&str]) {
        let specs: Vec<DatabaseSpec> = names.iter().map(|name| DatabaseSpec::named(*name)).collect();
        self.databases().create(&self.op, &specs).await.unwrap();
    }

    /// Rows of the agent's own session.
    pub(crate) async fn rows(&self, sql: &SqlText) -> Vec<Row> {
        self.manager.client().session(&self.op).await.unwrap().rows(&self.op, "test", sql).await.unwrap()
    }

    /// The value of a parameter in the running server.
    pub(crate) async fn parameter(&self, name: &str) -> String {
        let rows = self.rows(&SqlText::new("SELECT current_setting(").literal(name).raw(")")).await;
        rows[0][0].clone().unwrap()
    }

    /// What a user's own statements over the network come to: the first column of the last one's rows.
    pub(crate) async fn as_user(&self, user: &str, password: &str, database: &str, sql: &str) -> Result<Vec<String>, String> {
        self.query(&self.login(user, password, database), tokio_postgres::NoTls, sql).await
    }

    /// The same over TLS, whoever the server is.
    pub(crate) async fn as_tls_user(&self, user: &str, password: &str, database: &str, sql: &str) -> Result<Vec<String>, String> {
        let mut builder = openssl::ssl::SslConnector::builder(openssl::ssl::SslMethod::tls_client()).unwrap();
        builder.set_verify(openssl::ssl::SslVerifyMode::NONE);
        let mut login = self.login(user, password, database);
        login.ssl_mode(tokio_postgres::config::SslMode::Require);
        self.query(&login, postgres_openssl::MakeTlsConnector::new(builder.build()), sql).await
    }

    fn login(&self, user: &str, password: &str, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname(database);
        config
    }

    async fn query<T>(&self, login: &tokio_postgres::Config, tls: T, sql: &str) -> Result<Vec<String>, String>
    where
        T: tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>,
        T::Stream: Send + 'static,
    {
        let text = |error: tokio_postgres::Error| error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        let (client, connection) = login.connect(tls).await.map_err(text)?;
        tokio::spawn(connection);
        let messages = client.simple_query(sql).await.map_err(text)?;
        let value = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(value).collect())
    }

    pub(crate) async fn until(&self, wanted: ServiceStatus) {
        until_probed(&self.manager, &self.op, wanted).await;
    }

    /// The server's process.
    pub(crate) async fn pid(&self) -> nix::unistd::Pid {
        pid_of(&self.manager, &self.op).await
    }

    /// Stops the server and removes everything.
    pub(crate) async fn remove(self) {
        stop_and_remove(&self.manager, &self.op, &self.dir).await;
    }
}

/// One server for tests that change nothing but what they have made themselves.
pub(crate) async fn shared() -> &'static Guest {
    static GUEST: OnceCell<Guest> = OnceCell::const_new();
    GUEST.get_or_init(|| Guest::prepared("shared", "")).await
}

pub(crate) fn user(name: &str, password: &str, databases: &[&str]) -> UserSpec {
    let databases = databases.iter().map(|name| DatabaseSpec::named(*name)).collect();
    UserSpec { name: name.into(), password: Some(password.into()), host: None, databases, is_root: false }
}

pub(crate) fn page(limit: Option<usize>, marker: Option<&str>, include_marker: bool) -> PageRequest {
    PageRequest { limit, marker: marker.map(str::to_owned), include_marker }
}
