//! [`RedisManager`]: the datastore's [`DatastoreManager`].

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use tokio::sync::OnceCell;

use super::backups::{self, RedisBackups};
use super::cluster::Member;
use super::configuration::{CLUSTERING, Configuration, layer};
use super::descriptor::REDIS;
use super::groups::{self, Groups};
use super::layout::Layout;
use super::program::ServerProgram;
use super::roles::Roles;
use super::root::Root;
use super::running::Running;
use super::server::RedisServer;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::{COMMON, Group, Pending};
use crate::managers::lifecycle::Lifecycle;
use crate::managers::restoring::HalfRestored;
use crate::managers::{Backups, ConfigGroups, DatastoreManager, Deps, Descriptor, Owner, RedisCluster, RootAccess, StatusProbe};
use crate::model::PrepareRequest;
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
}

impl RedisManager {
    /// A manager of the server that `deps.service` controls.
    pub fn new(layout: Layout, deps: Deps) -> RedisManager {
        let service = Arc::clone(&deps.service);
        let owner = Owner::new(Arc::clone(&service), REDIS.owners);
        let candidates = layout.programs.clone();
        let program = Arc::new(ServerProgram { service: Arc::clone(&service), owner: owner.clone(), candidates, found: OnceCell::new() });
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

    fn half_restored(&self) -> HalfRestored {
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

    fn written_directories(&self) -> Vec<Utf8PathBuf> {
        vec![self.layout.config_dir(), self.layout.override_dir(), self.layout.data_dir()]
    }

    async fn is_installed(&self, op: &Op) -> bool {
        self.deps.service.brings_its_own_programs() || self.configuration.program.flavor(op).await.is_ok()
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
        self.configuration.forget_password()
    }

    async fn prepare_server(&self, op: &Op, request: &PrepareRequest) -> Result<()> {
        files::ensure_directory(&self.layout.state_dir, 0o700, None)?;
        self.require_shared(op).await?;
        self.configure(op, request).await?;
        self.owner.directory(op, &self.layout.data_dir(), 0o750).await?;
        if self.half_restored().is_set() {
            tracing::warn!(directory = %self.layout.data_dir(), "an earlier restore was interrupted: its half of a database is removed");
            backups::remove_data(&self.configuration)?;
            self.half_restored().forget()?;
        }
        self.deps.service.set_enabled(op, true).await?;
        self.start(op).await?;
        let flavor = self.configuration.program.flavor(op).await?;
        tracing::info!(server = %flavor, "the database runs");
        Ok(())
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
        self.lifecycle.stop(op).await
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

    fn redis_cluster(&self) -> Option<&dyn RedisCluster> {
        Some(&self.cluster)
    }
}
