//! The traits every datastore implements: one [`DatastoreManager`], and a facet per capability.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use secrecy::SecretString;

use super::drill::Examination;
use super::logs::GuestLogs;
use super::tls::ClientTls;
use super::{Descriptor, Facet, Upgrades, VolumeSnapshots};
use crate::config::Settings;
use crate::error::Result;
use crate::model::{
    DatabaseSpec, MemberRole, Overrides, Page, PageRequest, PasswordChange, PrepareRequest, ServiceStatus, UserAttributes, UserSpec,
};
use crate::op::Op;
use crate::strategies::backup::{BackupRunner, RestoreRunner, Usage};
use crate::strategies::replication::ReplicationStrategy;
use crate::system::command::CommandRunner;
use crate::system::packages::PackageManager;
use crate::system::service::ServiceControl;

/// What every manager is built from.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The agent's configuration.
    pub settings: Arc<Settings>,
    /// Starts programs.
    pub commands: Arc<dyn CommandRunner>,
    /// Controls the server.
    pub service: Arc<dyn ServiceControl>,
    /// Installs packages.
    pub packages: Arc<dyn PackageManager>,
}

/// One datastore on this guest.
#[async_trait]
pub trait DatastoreManager: Send + Sync + fmt::Debug {
    /// Fixed facts.
    fn descriptor(&self) -> &'static Descriptor;

    /// Control of the server's process.
    fn service(&self) -> &dyn ServiceControl;

    /// The database's health.
    fn status(&self) -> &dyn StatusProbe;

    /// Where the data volume is mounted.
    fn mount_point(&self) -> Utf8PathBuf;

    /// Packages to install when the controller names none, and to upgrade.
    fn packages(&self) -> Vec<String> {
        self.descriptor().packages.iter().map(|&name| name.to_owned()).collect()
    }

    /// Directories the agent writes files into, besides its own: what a killed agent has not finished there is removed at the next start.
    fn written_directories(&self) -> Vec<Utf8PathBuf>;

    /// True when the server's programs are there, so that `prepare` need not install packages.
    async fn is_installed(&self, op: &Op) -> bool;

    /// Stops the server and writes its configuration: what must be there before a backup is restored. [`Self::prepare_server`] does it too.
    ///
    /// # Errors
    /// The server did not stop, or refuses the configuration.
    async fn configure(&self, op: &Op, request: &PrepareRequest) -> Result<()>;

    /// Makes an installed server on a mounted volume into a configured, secured, running database: data directory,
    /// configuration file, `os_admin`, removal of anonymous and remote accounts. Called once by the template flow
    /// ([`super::prepare`]), after packages and volume, before databases and users. Must be repeatable.
    ///
    /// # Errors
    /// Whatever stopped it; the instance becomes FAILED with this reason.
    async fn prepare_server(&self, op: &Op, request: &PrepareRequest) -> Result<()>;

    /// Directory on the volume that holds the data, below the mount point, when migrating what a package put at the
    /// mount point (Train: `data`, so that `lost+found` is not taken for a database).
    fn data_directory(&self, mount_point: &Utf8Path) -> Utf8PathBuf;

    /// Starts the server and waits until the database answers.
    ///
    /// # Errors
    /// It did not answer within `state_change_wait_time`; the end of the server's log is in the error.
    async fn start(&self, op: &Op) -> Result<()>;

    /// Stops the server in good order.
    ///
    /// # Errors
    /// It did not end within `state_change_wait_time`.
    async fn stop(&self, op: &Op) -> Result<()>;

    /// Finishes a restart that was part of another operation, and that the end of the agent's last life cut short: nobody else would start the server
    /// again. Called when the agent starts, before anything else.
    ///
    /// # Errors
    /// Those of [`Self::stop`] and [`Self::start`].
    async fn finish_restart(&self, _op: &Op) -> Result<()> {
        Ok(())
    }

    /// The volume has grown under the running server (`resize_fs` with `online`): what depends on its size follows. [`Self::start`] does it for others.
    ///
    /// # Errors
    /// Those of writing a configuration.
    async fn volume_grown(&self, _op: &Op) -> Result<()> {
        Ok(())
    }

    /// `start_db_with_conf_changes`: a new base configuration, then start (flavor resize).
    ///
    /// # Errors
    /// Those of writing and of [`Self::start`].
    async fn start_with_configuration(&self, op: &Op, config_contents: &str) -> Result<()> {
        self.stop(op).await?;
        self.reset_configuration(op, config_contents).await?;
        self.start(op).await
    }

    /// `reset_configuration`: a new base configuration, without a restart; groups stay.
    ///
    /// # Errors
    /// Those of writing.
    async fn reset_configuration(&self, op: &Op, config_contents: &str) -> Result<()>;

    /// Whether it has a part of the guest API.
    fn has(&self, facet: Facet) -> bool {
        match facet {
            // Modules have drivers of their own, whatever the datastore.
            Facet::Core | Facet::Modules => true,
            Facet::Users => self.users().is_some(),
            Facet::Databases => self.databases().is_some(),
            Facet::Root => self.root().is_some(),
            Facet::RootPassword => self.root().is_some_and(RootAccess::tells_password),
            Facet::Config => self.config().is_some(),
            Facet::Backup => self.backups().is_some(),
            Facet::Snapshots => self.snapshots().is_some(),
            Facet::Replication => self.replication().is_some(),
            Facet::RedisCluster => self.redis_cluster().is_some(),
            Facet::Upgrade => self.upgrades().is_some(),
            Facet::Logs => self.logs().is_some(),
            Facet::Tls => self.tls().is_some(),
            Facet::MongoDbCluster => self.mongodb_cluster().is_some(),
            Facet::SelfUpdate | Facet::GaleraCluster | Facet::CassandraCluster | Facet::VerticaCluster => false,
        }
    }

    /// Accounts.
    fn users(&self) -> Option<&dyn UserAdmin> {
        None
    }

    /// Databases.
    fn databases(&self) -> Option<&dyn DatabaseAdmin> {
        None
    }

    /// The user's root account.
    fn root(&self) -> Option<&dyn RootAccess> {
        None
    }

    /// Configuration groups.
    fn config(&self) -> Option<&dyn ConfigGroups> {
        None
    }

    /// Backup and restore.
    fn backups(&self) -> Option<&dyn Backups> {
        None
    }

    /// Snapshots of the volume.
    fn snapshots(&self) -> Option<&dyn VolumeSnapshots> {
        None
    }

    /// Membership in a Redis Cluster.
    fn redis_cluster(&self) -> Option<&dyn RedisCluster> {
        None
    }

    /// A role in a sharded MongoDB cluster.
    fn mongodb_cluster(&self) -> Option<&dyn MongoDbCluster> {
        None
    }

    /// What the instance's part is among others, for people; `None` when nobody can tell.
    ///
    /// # Errors
    /// The server does not say.
    async fn role(&self, op: &Op) -> Result<Option<MemberRole>> {
        match self.replication() {
            Some(replication) => replication.role(op).await,
            None => Ok(None),
        }
    }

    /// Upgrades.
    fn upgrades(&self) -> Option<&dyn Upgrades> {
        None
    }

    /// Logs to publish.
    fn logs(&self) -> Option<&dyn GuestLogs> {
        None
    }

    /// TLS for clients.
    fn tls(&self) -> Option<&dyn ClientTls> {
        None
    }

    /// Replication.
    fn replication(&self) -> Option<&dyn ReplicationStrategy> {
        None
    }
}

/// Asks the database how it is.
#[async_trait]
pub trait StatusProbe: Send + Sync {
    /// Never fails: what cannot be found out is [`ServiceStatus::Unknown`]. Bounded by its own deadline of a few seconds.
    async fn probe(&self, op: &Op) -> ServiceStatus;
}

/// Accounts of the database. Reserved names ([`Descriptor::ignore_users`]) are never listed, and refused elsewhere.
#[async_trait]
pub trait UserAdmin: Send + Sync {
    /// Creates accounts with their grants. All names are checked before the first statement.
    async fn create(&self, op: &Op, users: &[UserSpec]) -> Result<()>;
    /// Drops one account.
    async fn delete(&self, op: &Op, user: &UserSpec) -> Result<()>;
    /// Lists accounts by `name@host`.
    async fn list(&self, op: &Op, page: &PageRequest) -> Result<Page<UserSpec>>;
    /// One account, or `None`.
    async fn get(&self, op: &Op, name: &str, host: Option<&str>) -> Result<Option<UserSpec>>;
    /// Sets new passwords.
    async fn change_passwords(&self, op: &Op, changes: &[PasswordChange]) -> Result<()>;
    /// Changes name, host or password; grants stay.
    async fn update_attributes(&self, op: &Op, name: &str, host: Option<&str>, attributes: &UserAttributes) -> Result<()>;
    /// Databases the account may use.
    async fn list_access(&self, op: &Op, name: &str, host: Option<&str>) -> Result<Vec<DatabaseSpec>>;
    /// Grants everything on these databases.
    async fn grant_access(&self, op: &Op, name: &str, host: Option<&str>, databases: &[String]) -> Result<()>;
    /// Takes it back for one database.
    async fn revoke_access(&self, op: &Op, name: &str, host: Option<&str>, database: &str) -> Result<()>;
}

/// Databases. Reserved names ([`Descriptor::ignore_dbs`]) are never listed, and refused elsewhere.
#[async_trait]
pub trait DatabaseAdmin: Send + Sync {
    /// Creates databases that do not exist. All names are checked before the first statement.
    async fn create(&self, op: &Op, databases: &[DatabaseSpec]) -> Result<()>;
    /// Drops one.
    async fn delete(&self, op: &Op, database: &DatabaseSpec) -> Result<()>;
    /// Lists by name.
    async fn list(&self, op: &Op, page: &PageRequest) -> Result<Page<DatabaseSpec>>;
}

/// The user's own root account (`root@%`), off unless asked for.
#[async_trait]
pub trait RootAccess: Send + Sync {
    /// True when there is a root account that can log in from outside.
    async fn is_enabled(&self, op: &Op) -> Result<bool>;
    /// Enables it with this password, or a random one; the returned user has it.
    async fn enable(&self, op: &Op, password: Option<SecretString>) -> Result<UserSpec>;
    /// Locks it out.
    async fn disable(&self, op: &Op) -> Result<()>;
    /// Whether it tells the password again (`get_root_password`): where the server keeps it as it is.
    fn tells_password(&self) -> bool {
        false
    }
    /// The password; `None` when root is not enabled, or not told.
    async fn password(&self, _op: &Op) -> Result<Option<SecretString>> {
        Ok(None)
    }
}

/// Configuration groups: values a user laid over the base configuration.
#[async_trait]
pub trait ConfigGroups: Send + Sync {
    /// Writes the user's group, or removes it.
    async fn update(&self, op: &Op, overrides: &Overrides, remove: bool) -> Result<()>;
    /// Sets dynamic variables in the running server.
    async fn apply(&self, op: &Op, overrides: &Overrides) -> Result<()>;
}

/// A member of a Redis Cluster, and what the task manager asks it for. Every call can be made again: what is done is found done.
#[async_trait]
pub trait RedisCluster: Send + Sync {
    /// Address and port other members reach this one at.
    async fn node_address(&self, op: &Op) -> Result<(String, String)>;
    /// The member's id, when it may leave: it has no slots. `None` otherwise.
    async fn id_for_removal(&self, op: &Op) -> Result<Option<String>>;
    /// Forgets members that leave. To be called on every one that stays.
    async fn remove_nodes(&self, op: &Op, ids: &[String]) -> Result<()>;
    /// Joins the cluster of another member, and waits until they know each other.
    async fn meet(&self, op: &Op, host: &str, port: &str) -> Result<()>;
    /// Takes slots from `first` to `last`, both rounded down: controllers divide in floating point. Beyond the last slot there are none.
    async fn add_slots(&self, op: &Op, first: f64, last: f64) -> Result<()>;
}

/// A server of a sharded MongoDB cluster, and what the task manager asks it for. Every call can be made again: what is done is found done.
#[async_trait]
pub trait MongoDbCluster: Send + Sync {
    /// Makes a replica set of this member and others, and waits until all of them serve.
    async fn add_members(&self, op: &Op, members: &[String]) -> Result<()>;
    /// Makes the set of the cluster's config servers, and starts this query router with it.
    async fn add_config_servers(&self, op: &Op, config_servers: &[String]) -> Result<()>;
    /// Has this query router add a replica set to the cluster, by one of its members.
    async fn add_shard(&self, op: &Op, replica_set: &str, member: &str) -> Result<()>;
    /// Whether the cluster has this replica set for a shard. Asked of a query router.
    async fn is_shard_active(&self, op: &Op, replica_set: &str) -> Result<bool>;
    /// Makes this member the first of its replica set, with an administrator of its own.
    async fn prepare_primary(&self, op: &Op) -> Result<()>;
    /// Makes the cluster's administrator, through this query router.
    async fn create_admin(&self, op: &Op, password: &SecretString) -> Result<()>;
    /// Keeps the password of the cluster's administrator.
    fn store_admin_password(&self, password: &SecretString) -> Result<()>;
    /// The password of the administrator that this guest knows.
    fn admin_password(&self) -> Result<SecretString>;
    /// The secret by which the cluster's servers know each other.
    fn key(&self) -> Result<SecretString>;
    /// Name of the replica set that this member is in.
    async fn replica_set_name(&self, op: &Op) -> Result<String>;
}

/// Where a backup is restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTarget {
    /// The instance itself: its data directory, or its running server.
    Instance,
    /// An empty directory of its own, for a drill.
    Scratch(Utf8PathBuf),
}

/// The strategies a datastore has for backup and restore. The flow around them is the same for all (`managers::backup`).
#[async_trait]
pub trait Backups: Send + Sync {
    /// The runner `backup_strategy` names; its incremental form for a backup with a parent.
    async fn runner(&self, op: &Op, incremental: bool) -> Result<Box<dyn BackupRunner>>;
    /// What restores a backup of this `kind` (the type Trove kept: a class name of any release, `full`, `incremental`, or nothing) whose object
    /// has this name.
    async fn restorer(&self, op: &Op, kind: Option<&str>, object: &str, target: &RestoreTarget) -> Result<Box<dyn RestoreRunner>>;
    /// Starts a server that nobody else can reach on what was restored to this scratch directory, looks at all of it, and ends the server.
    async fn examine(&self, op: &Op, directory: &Utf8Path) -> Result<Examination>;
    /// Removes a scratch directory, after ending a server that a killed agent has left on it.
    async fn clear_scratch(&self, op: &Op, directory: &Utf8Path) -> Result<()>;
    /// What tells whether the database has clients at work: a backup goes slowly then.
    fn usage(&self) -> Box<dyn Usage>;
}
