//! [`MySqlManager`]: the family's [`DatastoreManager`].

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::accounts::Accounts;
use super::backups::MySqlBackups;
use super::bootstrap::{Tables, place};
use super::client::{Client, Session};
use super::configuration::Configuration;
use super::credentials;
use super::databases::Databases;
use super::descriptor::MARIADB;
use super::foreign;
use super::groups::Groups;
use super::layout::{self, Layout};
use super::logs::Logs;
use super::names::Rules;
use super::probe::MySqlServer;
use super::roles::Roles;
use super::root::Root;
use super::secure;
use super::server::ServerProgram;
use super::snapshots::Snapshots;
use super::tls::Tls;
use super::upgrade;
use crate::codec::OptionFile;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::{Group, Pending};
use crate::managers::data_directory::DataDirectory;
use crate::managers::lifecycle::Lifecycle;
use crate::managers::logs::GuestLogs;
use crate::managers::replication::strategy_name;
use crate::managers::restoring::HalfRestored;
use crate::managers::tls::{ClientTls, TlsStore};
use crate::managers::{
    Backups, ConfigGroups, DatabaseAdmin, DatastoreManager, Deps, Descriptor, Owner, RootAccess, StatusProbe, Upgrades, UserAdmin,
    VolumeSnapshots,
};
use crate::model::{Overrides, PrepareRequest, RestoreRequest};
use crate::op::Op;
use crate::strategies::replication::ReplicationStrategy;
use crate::strategies::replication::mysql::MySqlReplication;
use crate::system::files;
use crate::system::service::ServiceControl;
use crate::volume::Freezer;

/// Directory of keys and certificates, on the volume: beside the data, and no database for a server that takes directories for those.
const TLS_DIRECTORY: &str = "tls";

/// MySQL, Percona Server or MariaDB on this guest.
#[derive(Debug)]
pub struct MySqlManager {
    descriptor: &'static Descriptor,
    deps: Deps,
    layout: Layout,
    owner: Owner,
    program: Arc<ServerProgram>,
    configuration: Arc<Configuration>,
    client: Arc<Client>,
    lifecycle: Arc<Lifecycle>,
    accounts: Accounts,
    databases: Databases,
    root: Root,
    groups: Arc<Groups>,
    roles: Arc<Roles>,
    replication: MySqlReplication,
    backups: MySqlBackups,
    snapshots: Arc<Snapshots>,
    logs: Logs,
    tls: Tls,
}

impl MySqlManager {
    /// A manager of the server that `deps.service` controls.
    pub fn new(descriptor: &'static Descriptor, layout: Layout, deps: Deps) -> MySqlManager {
        let client = Arc::new(Client::new(layout.socket.clone(), layout.credentials.clone()));
        let rules = Arc::new(Rules::new(descriptor, &deps.settings.accounts));
        let program = Arc::new(ServerProgram::new(Arc::clone(&deps.service), descriptor.owners[0], layout.programs.clone()));
        let configuration =
            Arc::new(Configuration { layout: layout.clone(), program: Arc::clone(&program), guest_id: deps.settings.guest_id.clone() });
        let owner = Owner::new(Arc::clone(&deps.service), descriptor.owners);
        let server = Arc::new(MySqlServer { client: Arc::clone(&client), configuration: Arc::clone(&configuration) });
        let pending = Arc::new(Pending::new(&layout.state_dir));
        let lifecycle = Lifecycle::new(Arc::clone(&deps.service), server, owner.clone(), deps.settings.state_change_wait_time);
        let freezer = Freezer::new(Arc::clone(&deps.commands), layout.mount_point.clone(), layout.state_dir.clone());
        let snapshots = Arc::new(Snapshots::new(Arc::clone(&client), freezer, layout.data_dir.clone(), owner.clone()));
        let lifecycle = Arc::new(lifecycle.telling(Arc::clone(&pending)).letting_go(Arc::<Snapshots>::clone(&snapshots)));
        let tls_store = TlsStore::new(layout.mount_point.join(TLS_DIRECTORY), owner.clone());
        let roles = Arc::new(Roles {
            client: Arc::clone(&client),
            configuration: Arc::clone(&configuration),
            lifecycle: Arc::clone(&lifecycle),
            tls: tls_store.clone(),
            configured_tls_mode: deps.settings.tls_mode,
        });
        let backups = MySqlBackups {
            settings: Arc::clone(&deps.settings),
            service: Arc::clone(&deps.service),
            layout: layout.clone(),
            program: Arc::clone(&program),
            client: Arc::clone(&client),
            owner: owner.clone(),
        };
        let groups = Arc::new(Groups {
            client: Arc::clone(&client),
            configuration: Arc::clone(&configuration),
            service: Arc::clone(&deps.service),
            pending: Arc::clone(&pending),
        });
        let tls = Tls {
            store: tls_store.clone(),
            configured_mode: deps.settings.tls_mode,
            client: Arc::clone(&client),
            configuration: Arc::clone(&configuration),
            service: Arc::clone(&deps.service),
            pending,
            roles: Arc::clone(&roles),
            rules: Arc::clone(&rules),
        };
        let default_strategy = if descriptor.name == MARIADB.name { "MariaDBGTIDReplication" } else { "MysqlGTIDReplication" };
        MySqlManager {
            descriptor,
            snapshots,
            owner,
            backups,
            replication: MySqlReplication::new(Arc::<Roles>::clone(&roles), &strategy_name(&deps.settings.datastore, default_strategy)),
            roles,
            lifecycle,
            accounts: Accounts { client: Arc::clone(&client), rules: Arc::clone(&rules), tls: tls_store.clone() },
            databases: Databases { client: Arc::clone(&client), rules: Arc::clone(&rules) },
            root: Root { client: Arc::clone(&client), rules, accounts: deps.settings.accounts.clone(), tls: tls_store },
            logs: Logs {
                client: Arc::clone(&client),
                configuration: Arc::clone(&configuration),
                groups: Arc::clone(&groups),
                settings: Arc::clone(&deps.settings),
            },
            groups,
            tls,
            deps,
            layout,
            program,
            configuration,
            client,
        }
    }

    /// Sessions with the server as `os_admin`, for strategies.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where the server's files are, for strategies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Puts options of the agent's own into a layer of the configuration, or removes the change of this `id` when there are none, and brings the running
    /// server in line: all of it, or nothing. Returns what waits for the server's next start; the instance is `RESTART_REQUIRED` until then.
    ///
    /// # Errors
    /// The server refuses an option or a value; files and server are as they were.
    pub async fn change_system(&self, op: &Op, group: Group, id: &str, options: Option<OptionFile>) -> Result<Vec<String>> {
        self.groups.change_system(op, group, id, options).await
    }

    async fn is_foreign(&self, op: &Op) -> Result<bool> {
        foreign::is_foreign(op, &*self.deps.service, &self.layout).await
    }

    /// Without the directory of the socket, a container's server is out of reach.
    async fn require_socket(&self, op: &Op) -> Result<()> {
        let directory = self.layout.run_dir();
        if self.deps.service.shares(op, directory).await? {
            return Ok(());
        }
        Err(Error::guest(format!(
            "the container of the database does not have the directory of the socket, {directory}: make it again with \
             --volume={directory}:DIR, where the server's option 'socket' is DIR/{}; or remove it and set docker_image, and the agent makes one",
            self.layout.socket.file_name().unwrap_or_default()
        )))
    }

    /// Whether the data directory holds half of a restore.
    pub(super) fn half_restored(&self) -> HalfRestored {
        HalfRestored::new(&self.layout.state_dir, self.layout.data_dir.clone())
    }

    fn password_length(&self) -> usize {
        self.deps.settings.accounts.password_length
    }

    /// A session with all privileges, through the server's own start if nothing else works.
    async fn privileged_session(&self, op: &Op) -> Result<Session<'_>> {
        if let Some(session) = secure::way_in(op, &self.client, &self.layout).await? {
            return Ok(session);
        }
        if self.is_foreign(op).await? {
            return Err(Error::guest(format!(
                "no way into the database in its container: put user and password of an account with all privileges into {} ([client] group, mode 0600)",
                self.layout.credentials
            )));
        }
        tracing::info!("no account lets the agent in: starting the server once with statements that create one");
        self.stop(op).await?;
        let flavor = self.program.flavor(op).await?;
        let init = secure::write_init_file(op, &self.layout, flavor, &self.owner, self.password_length()).await?;
        let started = match self.configuration.set_init_file(&init.path) {
            Ok(()) => self.start(op).await,
            Err(error) => Err(error),
        };
        // Whatever came of it, neither the password nor the order to run it stays behind.
        self.configuration.clear_init_file()?;
        files::remove(&init.path)?;
        started?;
        let session = self.client.session_as(op, &init.login).await.action("use the account that the server created at its start")?;
        credentials::write(&self.layout.credentials, &init.login, &self.layout.socket)?;
        Ok(session)
    }

    /// TLS for clients, for upgrades.
    pub(super) fn client_tls(&self) -> &Tls {
        &self.tls
    }

    /// The server's program, for upgrades.
    pub(super) fn program(&self) -> &ServerProgram {
        &self.program
    }

    /// The account the server runs as, for upgrades.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Writes base configuration and group, for a server that is started next.
    pub(super) async fn write_configuration(&self, op: &Op, contents: &str, overrides: Option<&Overrides>) -> Result<()> {
        self.configuration.write_base(op, contents).await.action("write the base configuration")?;
        match overrides.filter(|overrides| !overrides.is_empty()) {
            Some(overrides) => ConfigGroups::update(&*self.groups, op, overrides, false).await.action("write the configuration group"),
            None => Ok(()),
        }
    }

    /// The agent's account lets it in, whatever became of its password.
    pub(super) async fn ensure_admin(&self, op: &Op) -> Result<()> {
        let mut session = self.privileged_session(op).await?;
        let is_admin = credentials::read(&self.layout.credentials)?.is_some() && self.client.session(op).await.is_ok();
        if !is_admin {
            secure::create_admin(op, &mut session, &self.layout, self.password_length()).await?;
        }
        session.close().await;
        Ok(())
    }

    async fn take_over(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        self.ensure_admin(op).await?;
        let mut session = self.client.session(op).await?;
        // A restored database keeps what its owner had, root included.
        secure::secure(op, &mut session, self.password_length(), request.backup_info.is_some()).await?;
        tracing::info!(server = %session.flavor(), "the database is secured");
        let flavor = session.flavor();
        session.close().await;
        upgrade::note(&self.layout, flavor)
    }
}

#[async_trait]
impl DatastoreManager for MySqlManager {
    fn descriptor(&self) -> &'static Descriptor {
        self.descriptor
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

    fn written_directories(&self) -> Vec<Utf8PathBuf> {
        let Layout { override_dir, mount_point, data_dir, .. } = &self.layout;
        vec![
            self.layout.config_dir().to_owned(),
            override_dir.clone(),
            mount_point.clone(),
            data_dir.clone(),
            self.tls.store().directory().to_owned(),
        ]
    }

    async fn is_installed(&self, op: &Op) -> bool {
        self.deps.service.brings_its_own_programs() || self.program.flavor(op).await.is_ok()
    }

    async fn configure(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        self.stop(op).await?;
        // Left behind by an attempt that was cut off.
        self.configuration.clear_init_file()?;
        self.roles.forget()?;
        self.tls.forget()?;
        self.lifecycle.ensure_directories()?;
        let contents = request.config_contents.as_deref().unwrap_or_default();
        self.write_configuration(op, contents, request.overrides.as_ref()).await
    }

    async fn prepare_server(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        files::ensure_directory(&self.layout.state_dir, 0o700, None)?;
        if self.is_foreign(op).await? {
            self.require_socket(op).await?;
            tracing::info!("the container has files of its own: its configuration and data directory are left as they are");
            self.start(op).await?;
            return self.take_over(op, request).await;
        }
        self.configure(op, request).await?;
        let tables = Tables { layout: &self.layout, program: &self.program };
        let data = place(&self.layout).ensure(op, &self.half_restored(), &tables, &self.owner).await?;
        if data == DataDirectory::New {
            // Credentials of another database are of no use, and not a way in to try first.
            files::remove(&self.layout.credentials)?;
        }
        let is_copy = request.backup_info.as_ref().is_some_and(RestoreRequest::is_volume_snapshot);
        if is_copy {
            // The UUID of a server: a replica with that of its source is refused.
            files::remove(&self.layout.data_dir.join("auto.cnf"))?;
            self.configuration.stay_alone()?;
        }
        self.deps.service.set_enabled(op, true).await?;
        self.start(op).await?;
        self.take_over(op, request).await?;
        if is_copy {
            self.replication.follow_nobody(op).await?;
        }
        self.configuration.stay_alone_no_more()
    }

    fn data_directory(&self, mount_point: &Utf8Path) -> Utf8PathBuf {
        layout::data_dir(mount_point)
    }

    async fn start(&self, op: &Op) -> Result<()> {
        self.half_restored().refuse()?;
        self.lifecycle.start(op).await
    }

    async fn stop(&self, op: &Op) -> Result<()> {
        self.lifecycle.stop(op).await
    }

    async fn finish_restart(&self, op: &Op) -> Result<()> {
        self.roles.finish_restart(op).await
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
        Some(&*self.groups)
    }

    fn upgrades(&self) -> Option<&dyn Upgrades> {
        Some(self)
    }

    fn replication(&self) -> Option<&dyn ReplicationStrategy> {
        Some(&self.replication)
    }

    fn backups(&self) -> Option<&dyn Backups> {
        Some(&self.backups)
    }

    fn snapshots(&self) -> Option<&dyn VolumeSnapshots> {
        Some(&*self.snapshots)
    }

    fn logs(&self) -> Option<&dyn GuestLogs> {
        Some(&self.logs)
    }

    fn tls(&self) -> Option<&dyn ClientTls> {
        Some(&self.tls)
    }
}
