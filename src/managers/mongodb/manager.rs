//! [`MongoDbManager`]: the datastore's [`DatastoreManager`].

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::accounts::Accounts;
use super::admin;
use super::backups::MongoDbBackups;
use super::cluster::{Changes, Cluster, Membership, Role, is_waiting};
use super::configuration::{Configuration, is_database};
use super::data;
use super::databases::Databases;
use super::descriptor::MONGODB;
use super::groups::{self, Groups};
use super::layout::Layout;
use super::logs::Logs;
use super::names::Rules;
use super::private_server::{self, Doors, PrivateServer};
use super::program::ServerProgram;
use super::root::Root;
use super::running::Running;
use super::server::MongoDbServer;
use crate::config::ServiceControlKind;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::Pending;
use crate::managers::lifecycle::Lifecycle;
use crate::managers::logs::GuestLogs;
use crate::managers::restoring::HalfRestored;
use crate::managers::{
    Backups, ConfigGroups, DatabaseAdmin, DatastoreManager, Deps, Descriptor, MongoDbCluster, Owner, RootAccess, StatusProbe, Upgrades,
    UserAdmin,
};
use crate::model::{MemberRole, PrepareRequest};
use crate::op::Op;
use crate::system::files;
use crate::system::mongodb::{Client, KeyHolder, credentials};
use crate::system::password::random_password;
use crate::system::service::{ServiceControl, UnitState};

/// Has systemd make the server's runtime directory at every boot: not every package does (tmpfiles.d(5)).
const RUNTIME_DIRECTORIES: &str = "/etc/tmpfiles.d/trove-mongodb.conf";

/// Letters and digits of the key that members of a cluster know each other by.
const KEY_LENGTH: usize = 128;

/// MongoDB on this guest.
#[derive(Debug)]
pub struct MongoDbManager {
    deps: Deps,
    layout: Layout,
    owner: Owner,
    program: Arc<ServerProgram>,
    configuration: Arc<Configuration>,
    client: Client,
    lifecycle: Arc<Lifecycle>,
    accounts: Accounts,
    databases: Databases,
    root: Root,
    groups: Groups,
    logs: Logs,
    backups: MongoDbBackups,
    cluster: Cluster,
}

impl MongoDbManager {
    /// A manager of the server that `deps.service` controls.
    pub fn new(layout: Layout, deps: Deps) -> MongoDbManager {
        let service = Arc::clone(&deps.service);
        let owner = Owner::new(Arc::clone(&service), MONGODB.owners);
        let program = |candidates| Arc::new(ServerProgram { service: Arc::clone(&service), owner: owner.clone(), candidates });
        let (program, router) = (program(layout.programs.clone()), program(layout.routers.clone()));
        let configuration = Arc::new(Configuration {
            layout: layout.clone(),
            program: Arc::clone(&program),
            router,
            owner: owner.clone(),
            in_container: service.brings_its_own_programs(),
        });
        let client = Client::new(Arc::<Configuration>::clone(&configuration));
        let rules = Arc::new(Rules::new(&MONGODB, &deps.settings.accounts));
        let pending = Arc::new(Pending::new(&layout.state_dir));
        let server = Arc::new(MongoDbServer { client: client.clone(), layout: layout.clone() });
        let wait = deps.settings.state_change_wait_time;
        let lifecycle = Arc::new(Lifecycle::new(Arc::clone(&service), server, owner.clone(), wait).telling(Arc::clone(&pending)));
        let password_length = deps.settings.accounts.password_length;
        let cluster = Cluster {
            configuration: Arc::clone(&configuration),
            client: client.clone(),
            lifecycle: Arc::clone(&lifecycle),
            service: Arc::clone(&service),
            password_length,
        };
        let changes = Changes { client: client.clone(), configuration: Arc::clone(&configuration) };
        let running = Running { client: client.clone(), service, configuration: Arc::clone(&configuration), pending };
        let backups = MongoDbBackups {
            settings: Arc::clone(&deps.settings),
            service: Arc::clone(&deps.service),
            configuration: Arc::clone(&configuration),
            program: Arc::clone(&program),
            client: client.clone(),
            owner: owner.clone(),
        };
        MongoDbManager {
            backups,
            cluster,
            lifecycle,
            accounts: Accounts { client: client.clone(), changes: changes.clone(), rules: Arc::clone(&rules) },
            databases: Databases { client: client.clone(), changes: changes.clone(), rules },
            root: Root { client: client.clone(), changes, configuration: Arc::clone(&configuration), password_length },
            groups: Groups { running },
            logs: Logs { layout: layout.clone() },
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

    pub(super) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    pub(super) fn half_restored(&self) -> HalfRestored {
        HalfRestored::new(&self.layout.state_dir, self.layout.data_dir.clone())
    }

    /// Without the directories of configuration and socket, a container's server is out of reach.
    async fn require_shared(&self, op: &Op) -> Result<()> {
        for directory in [self.layout.config_dir(), self.layout.run_dir(), &self.layout.data_dir] {
            if !self.deps.service.shares(op, directory).await? {
                return Err(Error::guest(format!(
                    "the container of the database does not have {directory}: make it again with --volume={directory}:{directory}, or remove it \
                     and set docker_image, and the agent makes one"
                )));
            }
        }
        Ok(())
    }

    /// Makes the agent's user while nobody else can reach the server: in a new database by the localhost exception, in one that has users already on a server that
    /// asks nobody.
    async fn create_admin(&self, op: &Op, doors: Doors) -> Result<()> {
        let password = random_password(self.deps.settings.accounts.password_length)?;
        let (conf, wait) = (self.configuration.effective()?, self.deps.settings.state_change_wait_time);
        let server = PrivateServer::start(op, &self.program, &conf, &self.layout.data_dir, doors, wait).await?;
        let session = server.client().session(op).await?;
        match doors {
            Doors::LocalhostException => admin::create(op, &session, &password).await?,
            Doors::Open => admin::set(op, &session, &password).await?,
        }
        drop(session);
        server.stop(op).await?;
        credentials::write(&self.layout.credentials(), &password)
    }

    /// Those of socket, configuration and log, also after a boot.
    pub(super) fn ensure_directories(&self) -> Result<()> {
        self.lifecycle.ensure_directories()?;
        if self.layout.control != ServiceControlKind::Systemd {
            return Ok(());
        }
        let (directory, account) = (self.layout.run_dir(), self.owner.name());
        let line = format!("d {directory} 0755 {account} {account} -\n");
        files::write_atomic(RUNTIME_DIRECTORIES.into(), line.as_bytes(), 0o644, None)
    }

    /// A key that no other server has.
    pub(super) async fn write_own_key(&self, op: &Op) -> Result<()> {
        self.configuration.write_key(op, &random_password(KEY_LENGTH)?).await
    }

    /// Sees to it that a query router's guest does not start the other server, which would take its port at the next boot.
    pub(super) async fn disable_server(&self, op: &Op) -> Result<()> {
        match self.deps.service.state(op).await? {
            UnitState::Missing => Ok(()),
            _ => self.deps.service.set_enabled(op, false).await,
        }
    }

    /// A cluster's servers have no data of their own when it is made.
    fn refuse_in_cluster(&self, request: &PrepareRequest, role: Option<&Role>) -> Result<()> {
        if role.is_some() && request.backup_info.is_some() {
            return Err(Error::bad_request(
                "a backup cannot be restored to one server of a cluster: restore it to an instance, and load its data through the cluster",
            ));
        }
        match role {
            Some(Role::QueryRouter) if self.layout.control == ServiceControlKind::Docker => Err(Error::bad_request(
                "a query router does not run in the database's container: set service_control to systemd or process",
            )),
            _ => Ok(()),
        }
    }

    /// The password of an administrator that this server does not have, of an earlier instance.
    fn forget_admin(&self) -> Result<()> {
        files::remove(&self.layout.credentials())
    }

    /// Starts the server of a member or a config server. Its users come with its set, once that is made.
    async fn start_in_cluster(&self, op: &Op) -> Result<()> {
        private_server::end_left_over(op, &self.layout.data_dir).await?;
        if !is_database(&self.layout.data_dir) {
            self.forget_admin()?;
        }
        self.start(op).await
    }

    /// Starts the server; the agent's user lets it in then, whatever became of its password.
    pub(super) async fn start_with_admin(&self, op: &Op) -> Result<()> {
        let directory = &self.layout.data_dir;
        private_server::end_left_over(op, directory).await?;
        if !is_database(directory) {
            // Those of another database.
            self.forget_admin()?;
            self.create_admin(op, Doors::LocalhostException).await.action("create the agent's user in the database")?;
            return self.start(op).await;
        }
        if self.layout.credentials().exists() {
            self.start(op).await?;
            match self.client.session(op).await {
                Ok(_) => return Ok(()),
                Err(error @ (Error::Database { .. } | Error::Guest { .. })) => {
                    tracing::info!(%error, "the database does not know the agent's password: a new one is set");
                }
                Err(error) => return Err(error),
            }
            self.stop(op).await?;
        }
        self.create_admin(op, Doors::Open).await.action("give the agent's user a new password")?;
        self.start(op).await
    }
}

#[async_trait]
impl DatastoreManager for MongoDbManager {
    fn descriptor(&self) -> &'static Descriptor {
        &MONGODB
    }

    fn service(&self) -> &dyn ServiceControl {
        &*self.deps.service
    }

    fn status(&self) -> &dyn StatusProbe {
        &*self.lifecycle
    }

    fn mount_point(&self) -> Utf8PathBuf {
        self.layout.data_dir.clone()
    }

    fn written_directories(&self) -> Vec<Utf8PathBuf> {
        vec![self.layout.config_dir().to_owned(), self.layout.override_dir(), self.layout.data_dir.clone()]
    }

    async fn is_installed(&self, op: &Op) -> bool {
        self.deps.service.brings_its_own_programs() || self.program.flavor(op).await.is_ok()
    }

    async fn configure(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        let membership = request.cluster_config.as_ref().map(Membership::parse).transpose()?;
        let role = membership.as_ref().map(|membership| &membership.role);
        self.refuse_in_cluster(request, role)?;
        self.configuration.program_of(role).flavor(op).await?.check_supported()?;
        self.stop(op).await?;
        self.ensure_directories()?;
        // A server of one member has one, too: whoever makes it the first of a replica set finds it asking for keys already.
        match &membership {
            Some(Membership { key: Some(key), .. }) => self.configuration.write_key(op, key).await?,
            Some(_) => files::remove(&self.layout.key_file())?,
            None => self.write_own_key(op).await?,
        }
        let overrides = request.overrides.as_ref().filter(|overrides| !overrides.is_empty());
        let group = overrides.map(groups::parse).transpose().action("read the configuration group")?;
        let contents = request.config_contents.as_deref().unwrap_or_default();
        if role == Some(&Role::QueryRouter) {
            self.disable_server(op).await?;
        }
        self.configuration.write_first(op, contents, group, membership.as_ref()).await.action("write the configuration")
    }

    async fn prepare_server(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        files::ensure_directory(&self.layout.state_dir, 0o700, None)?;
        self.require_shared(op).await?;
        self.configuration.forget_kept()?;
        self.configure(op, request).await?;
        let role = self.configuration.role()?;
        if role == Some(Role::QueryRouter) {
            tracing::info!("the query router waits for its config servers");
            self.forget_admin()?;
            return self.configuration.keep();
        }
        self.owner.directory(op, &self.layout.data_dir, 0o750).await?;
        if self.half_restored().is_set() {
            tracing::warn!(directory = %self.layout.data_dir, "an earlier restore was interrupted: its half of a database is removed");
            data::remove(&self.layout.data_dir)?;
            self.half_restored().forget()?;
        }
        self.deps.service.set_enabled(op, true).await?;
        if let Some(role) = role {
            if self.configuration.access()?.login.is_none() {
                tracing::warn!("the cluster has no key: its servers let everybody in");
            }
            tracing::info!(?role, "the server waits for its cluster");
            self.start_in_cluster(op).await?;
            return self.note(self.program.flavor(op).await?);
        }
        self.start_with_admin(op).await?;
        let flavor = self.client.session(op).await?.flavor(op).await?;
        tracing::info!(server = %flavor, "the database is secured");
        self.note(flavor)
    }

    /// The volume itself, as with Trove.
    fn data_directory(&self, mount_point: &Utf8Path) -> Utf8PathBuf {
        mount_point.to_owned()
    }

    async fn start(&self, op: &Op) -> Result<()> {
        self.half_restored().refuse()?;
        if is_waiting(&self.configuration.effective()?) {
            return Err(Error::guest("the query router has no config servers yet: it is started by add_config_servers"));
        }
        self.lifecycle.start(op).await
    }

    async fn stop(&self, op: &Op) -> Result<()> {
        self.lifecycle.stop(op).await
    }

    async fn reset_configuration(&self, op: &Op, config_contents: &str) -> Result<()> {
        self.configuration.write_base(op, config_contents).await.action("write the base configuration")
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
        Some(&self.groups)
    }

    fn backups(&self) -> Option<&dyn Backups> {
        Some(&self.backups)
    }

    fn mongodb_cluster(&self) -> Option<&dyn MongoDbCluster> {
        Some(&self.cluster)
    }

    fn upgrades(&self) -> Option<&dyn Upgrades> {
        Some(self)
    }

    async fn role(&self, op: &Op) -> Result<Option<MemberRole>> {
        self.cluster.member_role(op).await
    }

    fn logs(&self) -> Option<&dyn GuestLogs> {
        Some(&self.logs)
    }
}
