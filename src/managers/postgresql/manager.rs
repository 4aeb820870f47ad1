//! [`PostgreSqlManager`]: the datastore's [`DatastoreManager`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::accounts::Accounts;
use super::admin;
use super::backups::PostgreSqlBackups;
use super::configuration::Configuration;
use super::copied;
use super::databases::Databases;
use super::descriptor::POSTGRESQL;
use super::following::Following;
use super::groups::{self, Groups};
use super::layout::Layout;
use super::logs::Logs;
use super::names::Rules;
use super::program::ServerProgram;
use super::roles::Roles;
use super::root::Root;
use super::server::PostgreSqlServer;
use super::tables::{self, Tables};
use super::tls::Tls;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::Pending;
use crate::managers::data_directory::DataDirectory;
use crate::managers::lifecycle::Lifecycle;
use crate::managers::logs::GuestLogs;
use crate::managers::replication::strategy_name;
use crate::managers::restoring::HalfRestored;
use crate::managers::tls::{ClientTls, TlsStore};
use crate::managers::{
    Backups, ConfigGroups, DatabaseAdmin, DatastoreManager, Deps, Descriptor, Owner, RootAccess, StatusProbe, Upgrades, UserAdmin,
};
use crate::model::{Overrides, PrepareRequest, ReplicaInfo};
use crate::op::Op;
use crate::strategies::replication::ReplicationStrategy;
use crate::strategies::replication::postgresql::{Host, PostgreSqlReplication};
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::password::random_password;
use crate::system::postgresql::{Address, Client, OS_ADMIN, credentials};
use crate::system::service::ServiceControl;

/// A sample of each table is read.
const ANALYZING: Duration = Duration::from_secs(3600);

/// PostgreSQL on this guest.
#[derive(Debug)]
pub struct PostgreSqlManager {
    deps: Deps,
    layout: Layout,
    owner: Owner,
    program: Arc<ServerProgram>,
    configuration: Arc<Configuration>,
    client: Arc<Client>,
    lifecycle: Arc<Lifecycle>,
    roles: Arc<Roles>,
    replication: PostgreSqlReplication,
    accounts: Accounts,
    databases: Databases,
    root: Root,
    groups: Arc<Groups>,
    logs: Logs,
    tls: Arc<Tls>,
    backups: PostgreSqlBackups,
}

impl PostgreSqlManager {
    /// A manager of the server that `deps.service` controls.
    pub fn new(layout: Layout, deps: Deps) -> PostgreSqlManager {
        let service = Arc::clone(&deps.service);
        let owner = Owner::new(Arc::clone(&service), POSTGRESQL.owners);
        let program = Arc::new(ServerProgram { service: Arc::clone(&service), owner: owner.clone() });
        let configuration = Arc::new(Configuration {
            layout: layout.clone(),
            program: Arc::clone(&program),
            owner: owner.clone(),
            in_container: service.brings_its_own_programs(),
        });
        let client = Arc::new(Client::new(Arc::<Configuration>::clone(&configuration), layout.credentials.clone()));
        let rules = Arc::new(Rules::new(&POSTGRESQL, &deps.settings.accounts));
        let backups = PostgreSqlBackups {
            settings: Arc::clone(&deps.settings),
            service: Arc::clone(&service),
            configuration: Arc::clone(&configuration),
            program: Arc::clone(&program),
            client: Arc::clone(&client),
            rules: Arc::clone(&rules),
            owner: owner.clone(),
        };
        let pending = Arc::new(Pending::new(&layout.state_dir));
        let server = Arc::new(PostgreSqlServer { client: Arc::clone(&client), layout: layout.clone() });
        let lifecycle = Lifecycle::new(Arc::clone(&service), server, owner.clone(), deps.settings.state_change_wait_time);
        let groups = Arc::new(Groups {
            client: Arc::clone(&client),
            configuration: Arc::clone(&configuration),
            service: Arc::clone(&service),
            pending: Arc::clone(&pending),
        });
        let logs = Logs {
            client: Arc::clone(&client),
            configuration: Arc::clone(&configuration),
            groups: Arc::clone(&groups),
            settings: Arc::clone(&deps.settings),
            owner: owner.clone(),
        };
        let tls = Arc::new(Tls {
            store: TlsStore::new(layout.mount_point.join("tls"), owner.clone()),
            configured_mode: deps.settings.tls_mode,
            client: Arc::clone(&client),
            configuration: Arc::clone(&configuration),
            groups: Arc::clone(&groups),
        });
        let lifecycle = Arc::new(lifecycle.telling(pending));
        let data = Following { layout: layout.clone(), program: Arc::clone(&program), service: Arc::clone(&service), owner: owner.clone() };
        let roles = Arc::new(Roles {
            client: Arc::clone(&client),
            configuration: Arc::clone(&configuration),
            lifecycle: Arc::clone(&lifecycle),
            service: Arc::clone(&service),
            data,
            tls: Arc::clone(&tls),
            guest_id: deps.settings.guest_id.clone(),
        });
        let strategy = strategy_name(&deps.settings.datastore, PostgreSqlReplication::NAME);
        let needs_backup = PostgreSqlBackups::are_physical(&deps.settings);
        PostgreSqlManager {
            lifecycle,
            replication: PostgreSqlReplication::new(Arc::<Roles>::clone(&roles), &strategy, needs_backup),
            roles,
            accounts: Accounts { client: Arc::clone(&client), rules: Arc::clone(&rules) },
            databases: Databases { client: Arc::clone(&client), rules, program: Arc::clone(&program) },
            root: Root { client: Arc::clone(&client), password_length: deps.settings.accounts.password_length },
            groups,
            logs,
            tls,
            backups,
            deps,
            layout,
            owner,
            program,
            configuration,
            client,
        }
    }

    /// Sessions with the server as `os_admin`.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(super) fn program(&self) -> &ServerProgram {
        &self.program
    }

    pub(super) fn roles(&self) -> &Roles {
        &self.roles
    }

    pub(super) fn client_tls(&self) -> &Tls {
        &self.tls
    }

    /// A base configuration, and a group where there is one to be; changes that are there stay.
    pub(super) async fn write_configuration(&self, op: &Op, contents: &str, overrides: Option<&Overrides>) -> Result<()> {
        self.lifecycle.ensure_directories()?;
        let overrides = overrides.filter(|overrides| !overrides.is_empty());
        let group = overrides.map(groups::parse).transpose().action("read the configuration group")?;
        self.configuration.write_base(op, contents, false, group).await.action("write the configuration")
    }

    /// Has the running server look at all tables: it knows nothing of how their values are distributed after an upgrade to another major version.
    pub(super) async fn analyze(&self, op: &Op) -> Result<()> {
        let (socket_dir, port) = self.configuration.address()?;
        let command = CommandSpec::new(self.program.path(op, "vacuumdb").await?)
            .args(["--all", "--analyze-only", "--quiet", "--no-password"])
            .arg(format!("--host={socket_dir}"))
            .arg(format!("--port={port}"))
            .arg(format!("--username={OS_ADMIN}"))
            .env("PGPASSFILE", self.layout.credentials.as_str())
            .timeout(ANALYZING);
        self.deps.service.exec(op, command).await.map(drop)
    }

    pub(super) fn half_restored(&self) -> HalfRestored {
        HalfRestored::new(&self.layout.state_dir, self.layout.data_dir.clone())
    }

    /// Without the directories of configuration and socket, a container's server is out of reach.
    async fn require_shared(&self, op: &Op) -> Result<()> {
        for directory in [self.layout.config_dir(), self.layout.run_dir().to_owned(), self.layout.mount_point.clone()] {
            if !self.deps.service.shares(op, &directory).await? {
                return Err(Error::guest(format!(
                    "the container of the database does not have {directory}: make it again with --volume={directory}:{directory}, or remove it \
                     and set docker_image, and the agent makes one"
                )));
            }
        }
        Ok(())
    }

    /// Makes `os_admin`, or gives it a new password, while the server is stopped.
    async fn create_admin(&self, op: &Op) -> Result<()> {
        let password = random_password(self.deps.settings.accounts.password_length)?;
        let statements = admin::statements(&password)?;
        let made = self.program.run_alone(op, &self.layout.main_file(), &statements).await;
        made.action("create the agent's account in the database")?;
        credentials::write(&self.layout.credentials, &password)
    }

    /// Starts a copy of a source, which has everything of it and takes nothing of this guest's.
    async fn start_as_replica(&self, op: &Op, source: &ReplicaInfo) -> Result<()> {
        self.roles.set_administrator(&PostgreSqlReplication::administrator(source)?)?;
        self.start(op).await
    }

    /// Starts the server; the agent's account lets it in then, whatever became of its password.
    pub(super) async fn start_with_admin(&self, op: &Op, data: DataDirectory) -> Result<()> {
        if data == DataDirectory::New {
            self.create_admin(op).await?;
            return self.start(op).await;
        }
        // It recovers first, if it must: statements without a server would not wait for that.
        self.start(op).await?;
        match self.client.session(op).await {
            Ok(_) => Ok(()),
            Err(error @ (Error::Database { .. } | Error::Guest { .. })) => {
                tracing::info!(%error, "the database does not know the agent's password: a new one is set");
                self.stop(op).await?;
                self.create_admin(op).await?;
                self.start(op).await
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl DatastoreManager for PostgreSqlManager {
    fn descriptor(&self) -> &'static Descriptor {
        &POSTGRESQL
    }

    fn service(&self) -> &dyn ServiceControl {
        &*self.deps.service
    }

    fn status(&self) -> &dyn StatusProbe {
        &*self.lifecycle
    }

    fn mount_point(&self) -> Utf8PathBuf {
        self.layout.mount_point.clone()
    }

    fn packages(&self) -> Vec<String> {
        Layout::packages()
    }

    fn written_directories(&self) -> Vec<Utf8PathBuf> {
        vec![self.layout.config_dir(), self.layout.override_dir(), self.layout.mount_point.clone(), self.tls.store().directory().to_owned()]
    }

    async fn is_installed(&self, op: &Op) -> bool {
        self.deps.service.brings_its_own_programs() || self.program.version(op).await.is_ok()
    }

    async fn configure(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        self.stop(op).await?;
        self.lifecycle.ensure_directories()?;
        let overrides = request.overrides.as_ref().filter(|overrides| !overrides.is_empty());
        let group = overrides.map(groups::parse).transpose().action("read the configuration group")?;
        let contents = request.config_contents.as_deref().unwrap_or_default();
        self.configuration.write_base(op, contents, true, group).await.action("write the configuration")?;
        self.roles.begin(op, request.snapshot.is_some()).await?;
        self.tls.forget()?;
        self.configuration.write_rules(op, self.tls.mode()?).await
    }

    async fn prepare_server(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        files::ensure_directory(&self.layout.state_dir, 0o700, None)?;
        self.require_shared(op).await?;
        self.configure(op, request).await?;
        let place = tables::place(&self.layout);
        self.owner.directory(op, place.data_dir.parent().unwrap_or(place.mount_point), 0o755).await?;
        let data = place.ensure(op, &self.half_restored(), &Tables(&self.program), &self.owner).await?;
        if data == DataDirectory::New {
            // Those of another database.
            files::remove(&self.layout.credentials)?;
        }
        self.deps.service.set_enabled(op, true).await?;
        match &request.snapshot {
            Some(source) if self.roles.is_standby() => self.start_as_replica(op, source).await?,
            _ => {
                files::remove(&self.layout.data_dir.join(copied::STANDBY))?;
                self.start_with_admin(op, data).await?;
            }
        }
        let version = self.program.version(op).await?;
        tracing::info!(server = %version, "the database is secured");
        Ok(())
    }

    /// The volume itself: what a package has put at the mount point are directories of versions.
    fn data_directory(&self, mount_point: &Utf8Path) -> Utf8PathBuf {
        mount_point.to_owned()
    }

    async fn start(&self, op: &Op) -> Result<()> {
        self.half_restored().refuse()?;
        self.configuration.fit_to_volume(op).await.action("fit the configuration to the volume")?;
        self.lifecycle.start(op).await
    }

    async fn volume_grown(&self, op: &Op) -> Result<()> {
        if self.configuration.fit_to_volume(op).await? {
            self.groups.change_own(op, |_| ()).await?;
        }
        Ok(())
    }

    async fn stop(&self, op: &Op) -> Result<()> {
        self.lifecycle.stop(op).await
    }

    async fn reset_configuration(&self, op: &Op, config_contents: &str) -> Result<()> {
        self.configuration.write_base(op, config_contents, false, None).await.action("write the base configuration")
    }

    fn users(&self) -> Option<&dyn UserAdmin> {
        Some(&self.accounts)
    }

    fn databases(&self) -> Option<&dyn DatabaseAdmin> {
        Some(&self.databases)
    }

    fn root(&self) -> Option<&dyn RootAccess> {
        Some(&self.root)
    }

    fn config(&self) -> Option<&dyn ConfigGroups> {
        Some(&*self.groups)
    }

    fn backups(&self) -> Option<&dyn Backups> {
        Some(&self.backups)
    }

    fn upgrades(&self) -> Option<&dyn Upgrades> {
        Some(self)
    }

    fn logs(&self) -> Option<&dyn GuestLogs> {
        Some(&self.logs)
    }

    fn tls(&self) -> Option<&dyn ClientTls> {
        Some(&*self.tls)
    }

    fn replication(&self) -> Option<&dyn ReplicationStrategy> {
        Some(&self.replication)
    }
}
