//! [`RedisManager`]: the datastore's [`DatastoreManager`].

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use tokio::sync::Mutex;

use super::backups::{self, RedisBackups};
use super::cluster::Member;
use super::configuration::{CLUSTERING, Configuration, layer};
use super::descriptor::REDIS;
use super::groups::{self, Groups};
use super::layout::Layout;
use super::logs::Logs;
use super::program::ServerProgram;
use super::roles::Roles;
use super::root::Root;
use super::running::Running;
use super::server::RedisServer;
use super::tls::Tls;
use super::upgrading;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::{COMMON, Group, Pending};
use crate::managers::lifecycle::Lifecycle;
use crate::managers::logs::GuestLogs;
use crate::managers::restoring::HalfRestored;
use crate::managers::tls::{ClientTls, TlsStore};
use crate::managers::{Backups, ConfigGroups, DatastoreManager, Deps, Descriptor, Owner, RedisCluster, RootAccess, StatusProbe, Upgrades};
use crate::model::{MemberRole, PrepareRequest};
use crate::op::Op;
use crate::strategies::replication::ReplicationStrategy;
use crate::strategies::replication::redis::RedisSyncReplication;
use crate::system::files;
use crate::system::redis::Client;
use crate::system::service::ServiceControl;

/// Redis or Valkey on this guest.
#[derive(Debug)]
pub struct RedisManager {
    deps: Deps,
    layout: Layout,
    owner: Owner,
    configuration: Arc<Configuration>,
    client: Client,
    lifecycle: Arc<Lifecycle>,
    groups: Groups,
    root: Root,
    replication: RedisSyncReplication,
    cluster: Member,
    backups: RedisBackups,
    logs: Logs,
    tls: Tls,
}

impl RedisManager {
    /// A manager of the server that `deps.service` controls.
    pub fn new(layout: Layout, deps: Deps) -> RedisManager {
        let service = Arc::clone(&deps.service);
        let owner = Owner::new(Arc::clone(&service), layout.owners());
        let candidates = layout.programs.clone();
        let program = Arc::new(ServerProgram { service: Arc::clone(&service), owner: owner.clone(), candidates, found: Mutex::default() });
        let wait = deps.settings.state_change_wait_time;
        let configuration = Arc::new(Configuration {
            layout: layout.clone(),
            program,
            owner: owner.clone(),
            in_container: service.brings_its_own_programs(),
            wait,
        });
        let client = Client::new(Arc::<Configuration>::clone(&configuration));
        let pending = Arc::new(Pending::new(&layout.state_dir));
        let server = Arc::new(RedisServer { client: client.clone(), configuration: Arc::clone(&configuration) });
        let lifecycle = Arc::new(Lifecycle::new(Arc::clone(&service), server, owner.clone(), wait).telling(Arc::clone(&pending)));
        let running = Running { client: client.clone(), service: Arc::clone(&service), configuration: Arc::clone(&configuration), pending };
        let roles = Arc::new(Roles { running: running.clone(), lifecycle: Arc::clone(&lifecycle) });
        let tls = Tls {
            store: TlsStore::new(layout.data_dir().join("tls"), owner.clone()),
            configured_mode: deps.settings.tls_mode,
            running: running.clone(),
        };
        let strategy = deps.settings.datastore.replication_strategy.as_deref().unwrap_or(RedisSyncReplication::NAME);
        RedisManager {
            groups: Groups { running: running.clone() },
            root: Root { running, password_length: deps.settings.accounts.password_length },
            replication: RedisSyncReplication::new(Arc::<Roles>::clone(&roles), strategy),
            cluster: Member { client: client.clone(), roles },
            backups: RedisBackups {
                settings: Arc::clone(&deps.settings),
                service,
                configuration: Arc::clone(&configuration),
                client: client.clone(),
                owner: owner.clone(),
            },
            logs: Logs { configuration: Arc::clone(&configuration) },
            tls,
            deps,
            layout,
            owner,
            configuration,
            client,
            lifecycle,
        }
    }

    /// Sessions with the server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The configuration, for upgrades.
    pub(super) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The account the server runs as, for upgrades.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// TLS, for upgrades.
    pub(super) fn client_tls(&self) -> &Tls {
        &self.tls
    }

    /// Whether the data directory holds half of a restore.
    pub(super) fn half_restored(&self) -> HalfRestored {
        HalfRestored::new(&self.layout.state_dir, self.layout.data_dir())
    }

    /// Without the directories of configuration and socket, a container's server is out of reach.
    async fn require_shared(&self, op: &Op) -> Result<()> {
        for directory in [self.layout.config_dir(), self.layout.run_dir(), self.layout.data_dir()] {
            if !self.deps.service.shares(op, &directory).await? {
                return Err(Error::guest(format!(
                    "the container of the database does not have {directory}: make it again with --volume={directory}:{directory}, or remove it \
                     and set docker_image, and the agent makes one"
                )));
            }
        }
        Ok(())
    }
    /// Valkey's place is another one than Trove's, which a controller that was told nothing sends: data beside the volume would be lost with the root disk.
    fn require_volume(&self, request: &PrepareRequest) -> Result<()> {
        let data_dir = self.layout.data_dir();
        match &request.mount_point {
            Some(mount_point) if request.device_path.is_some() && *mount_point != data_dir => Err(Error::guest(format!(
                "the controller mounts the volume at {mount_point}, and the server of this guest keeps its data in {data_dir}: set [redis] mount_point to the \
                 same on controller and guest"
            ))),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl DatastoreManager for RedisManager {
    fn descriptor(&self) -> &'static Descriptor {
        &REDIS
    }

    fn service(&self) -> &dyn ServiceControl {
        &*self.deps.service
    }

    fn status(&self) -> &dyn StatusProbe {
        &*self.lifecycle
    }

    fn mount_point(&self) -> Utf8PathBuf {
        self.layout.data_dir()
    }

    /// Those of the server that is there.
    fn packages(&self) -> Vec<String> {
        vec![format!("{}-server", self.layout.family())]
    }

    fn written_directories(&self) -> Vec<Utf8PathBuf> {
        vec![self.layout.config_dir(), self.layout.override_dir(), self.layout.data_dir(), self.tls.store().directory().to_owned()]
    }

    async fn is_installed(&self, op: &Op) -> bool {
        self.deps.service.brings_its_own_programs() || self.configuration.program.product(op).await.is_ok()
    }

    async fn configure(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        self.stop(op).await?;
        self.lifecycle.ensure_directories()?;
        let mut layers = Vec::new();
        if let Some(overrides) = request.overrides.as_ref().filter(|overrides| !overrides.is_empty()) {
            layers.push((Group::User, COMMON, groups::parse(overrides).action("read the configuration group")?));
        }
        if request.cluster_config.is_some() {
            let clustering = layer([("cluster-enabled", json!(true)), ("cluster-config-file", json!("cluster.conf"))])?;
            layers.push((Group::System, CLUSTERING, clustering));
        }
        let contents = request.config_contents.as_deref().unwrap_or_default();
        self.configuration.write_base(op, contents, true, layers).await.action("write the configuration")?;
        self.tls.store().forget()?;
        self.configuration.forget_password()
    }

    async fn prepare_server(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        files::ensure_directory(&self.layout.state_dir, 0o700, None)?;
        self.require_shared(op).await?;
        self.require_volume(request)?;
        self.configure(op, request).await?;
        self.owner.directory(op, &self.layout.data_dir(), 0o750).await?;
        if self.half_restored().is_set() {
            tracing::warn!(directory = %self.layout.data_dir(), "an earlier restore was interrupted: its half of a database is removed");
            backups::remove_data(&self.configuration)?;
            self.half_restored().forget()?;
        }
        self.deps.service.set_enabled(op, true).await?;
        self.start(op).await?;
        let product = self.configuration.program.product(op).await?;
        tracing::info!(server = %product, "the database runs");
        upgrading::note(&self.configuration, product)
    }

    /// The volume itself, as with Trove: nothing on it is taken for a database.
    fn data_directory(&self, mount_point: &Utf8Path) -> Utf8PathBuf {
        mount_point.to_owned()
    }

    async fn start(&self, op: &Op) -> Result<()> {
        self.half_restored().refuse()?;
        self.lifecycle.start(op).await
    }

    async fn stop(&self, op: &Op) -> Result<()> {
        self.lifecycle.stop(op).await?;
        // The root disk may be next: a crash in the middle of a change has left the volume without it.
        self.configuration.keep_on_volume()
    }

    async fn reset_configuration(&self, op: &Op, config_contents: &str) -> Result<()> {
        self.configuration.write_base(op, config_contents, false, Vec::new()).await.action("write the base configuration")
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

    fn replication(&self) -> Option<&dyn ReplicationStrategy> {
        Some(&self.replication)
    }

    fn upgrades(&self) -> Option<&dyn Upgrades> {
        Some(self)
    }

    fn logs(&self) -> Option<&dyn GuestLogs> {
        Some(&self.logs)
    }

    fn tls(&self) -> Option<&dyn ClientTls> {
        Some(&self.tls)
    }

    fn redis_cluster(&self) -> Option<&dyn RedisCluster> {
        Some(&self.cluster)
    }

    async fn role(&self, op: &Op) -> Result<Option<MemberRole>> {
        match self.cluster.role(op).await? {
            Some(role) => Ok(Some(role)),
            None => self.replication.role(op).await,
        }
    }
}
