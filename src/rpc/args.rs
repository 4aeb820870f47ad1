//! Arguments of the RPC methods: one struct a method, or a few methods of the same shape.

use camino::Utf8PathBuf;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::managers::tls::Container;
use crate::model::{
    BackupRequest, DatabaseSpec, ModuleEnvelope, Opaque, Overrides, PageRequest, PasswordChange, ReplicaInfo, UserAttributes, UserSpec,
};

/// No arguments. (A unit variant would refuse `args: {}`.)
#[derive(Debug, Clone, Deserialize)]
pub struct NoArgs {}

/// Arguments of a method no datastore of this build implements: kept out of sight, because they may hold secrets.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Anything(pub Map<String, Value>);

impl std::fmt::Debug for Anything {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        pub struct $name { $($(#[$attribute])* pub $field: $type,)* }
    )*};
}

arguments! {
    /// `stop_db`: Zed and later send nothing.
    StopDb {
        /// Keep the database down when the guest boots.
        #[serde(default)] do_not_start_on_reboot: bool,
    }
    /// `start_db_with_conf_changes`.
    ConfigContents {
        /// The base configuration file.
        config_contents: String,
    }
    /// `reset_configuration`.
    ResetConfiguration {
        /// `{"config_contents": text}`.
        configuration: ConfigContents,
    }
    /// `upgrade`. Up to Victoria the same name has other arguments, which no Python guest has served: an agent that replaces itself.
    Upgrade {
        /// What `pre_upgrade` returned, with `datastore_version`.
        #[serde(default)] upgrade_info: Option<UpgradeInfo>,
    }
    /// `post_upgrade`.
    PostUpgrade {
        /// What `pre_upgrade` returned, with `device`.
        upgrade_info: UpgradeInfo,
    }
    /// What goes from one step of an upgrade to the next.
    UpgradeInfo {
        /// The volume's device; none without a volume.
        #[serde(default)] device: Option<Utf8PathBuf>,
        /// The version to upgrade to.
        #[serde(default)] datastore_version: Option<String>,
    }
    /// `rebuild`.
    Rebuild {
        /// The base configuration file.
        #[serde(default)] config_contents: Option<String>,
        /// The user's configuration group.
        #[serde(default)] config_overrides: Option<Overrides>,
    }
    /// `mount_volume`, `unmount_volume`, `resize_fs`.
    VolumeArgs {
        /// Block device; the configured one when null.
        #[serde(default)] device_path: Option<Utf8PathBuf>,
        /// Mount point; the datastore's when null.
        #[serde(default)] mount_point: Option<Utf8PathBuf>,
        /// `resize_fs` 1.1: the file system stays mounted.
        #[serde(default)] online: bool,
    }
    /// `update_overrides`.
    UpdateOverrides {
        /// Text (Kilo) or dictionary.
        overrides: Overrides,
        /// Remove the group first.
        #[serde(default)] remove: bool,
    }
    /// `apply_overrides`.
    ApplyOverrides {
        /// Values to set in the running server.
        overrides: Overrides,
    }
    /// `create_backup`.
    CreateBackup {
        /// What to back up, and to where.
        backup_info: BackupRequest,
    }
    /// `create_database`.
    CreateDatabase {
        /// What to create.
        databases: Vec<DatabaseSpec>,
    }
    /// `delete_database`.
    DeleteDatabase {
        /// What to drop.
        database: DatabaseSpec,
    }
    /// `list_databases`, `list_users`.
    ListArgs {
        /// At most so many.
        #[serde(default)] limit: Option<usize>,
        /// After this one.
        #[serde(default)] marker: Option<String>,
        /// The marker too.
        #[serde(default)] include_marker: bool,
    }
    /// `create_user`.
    CreateUser {
        /// What to create.
        users: Vec<UserSpec>,
    }
    /// `delete_user`.
    DeleteUser {
        /// What to drop.
        user: UserSpec,
    }
    /// `get_user`, `list_access`.
    UserRef {
        /// Account name.
        username: String,
        /// Host; null means `%`.
        #[serde(default)] hostname: Option<String>,
    }
    /// `change_passwords`.
    ChangePasswords {
        /// Accounts and their new passwords.
        users: Vec<PasswordChange>,
    }
    /// `update_attributes`.
    UpdateAttributes {
        /// Account name.
        username: String,
        /// Host; null means `%`.
        #[serde(default)] hostname: Option<String>,
        /// What is to change.
        user_attrs: UserAttributes,
    }
    /// `grant_access`.
    GrantAccess {
        /// Account name.
        username: String,
        /// Host; null means `%`.
        #[serde(default)] hostname: Option<String>,
        /// Database names.
        databases: Vec<String>,
    }
    /// `revoke_access`.
    RevokeAccess {
        /// Account name.
        username: String,
        /// Host; null means `%`.
        #[serde(default)] hostname: Option<String>,
        /// Database name.
        database: String,
    }
    /// `get_replication_snapshot`.
    GetReplicationSnapshot {
        /// The backup to make, as in `create_backup`; and `replica_number`, which tells whether it is made already (Kilo).
        #[serde(default)] snapshot_info: Opaque,
        /// Configuration of a source.
        #[serde(default)] replica_source_config: Option<Overrides>,
    }
    /// `attach_replica`.
    AttachReplica {
        /// The context of the new source.
        replica_info: Box<ReplicaInfo>,
        /// Configuration of a replica.
        #[serde(default)] slave_config: Option<Overrides>,
    }
    /// `attach_replication_slave`.
    AttachReplicationSlave {
        /// The snapshot of the new source.
        snapshot: Box<ReplicaInfo>,
        /// Configuration of a replica.
        #[serde(default)] slave_config: Option<Overrides>,
    }
    /// `detach_replica`.
    DetachReplica {
        /// It is to be promoted, or to follow another source.
        #[serde(default)] for_failover: bool,
    }
    /// `make_read_only`.
    MakeReadOnly {
        /// Nobody writes, or everybody does.
        read_only: bool,
    }
    /// `enable_as_master`.
    EnableAsMaster {
        /// Configuration of a source.
        #[serde(default)] replica_source_config: Option<Overrides>,
    }
    /// `wait_for_txn`.
    WaitForTxn {
        /// What a source answered to `get_latest_txn_id`: a text, or the offset of a Redis.
        #[serde(default, deserialize_with = "text_or_number")] txn: Option<String>,
    }
    /// `cleanup_source_on_replica_detach`.
    CleanupSource {
        /// What `detach_replica` returned.
        replica_info: Opaque,
    }
    /// `remove_nodes`.
    RemoveNodes {
        /// Ids of the members that leave.
        node_ids: Vec<String>,
    }
    /// `cluster_meet`.
    ClusterMeet {
        /// Address of a member of the cluster.
        ip: String,
        /// Its port, which the task manager sends as a text.
        #[serde(deserialize_with = "text_or_number")] port: Option<String>,
    }
    /// `cluster_addslots`.
    ClusterAddslots {
        /// The first slot. Train divides in floating point.
        first_slot: f64,
        /// The last slot.
        last_slot: f64,
    }
    /// `add_members` (MongoDB).
    AddMembers {
        /// Addresses of the other members of the replica set.
        members: Vec<String>,
    }
    /// `add_config_servers`.
    AddConfigServers {
        /// Addresses of all config servers.
        config_servers: Vec<String>,
    }
    /// `add_shard`.
    AddShard {
        /// Name of a replica set.
        replica_set_name: String,
        /// Address of one of its members.
        replica_set_member: String,
    }
    /// `is_shard_active`.
    IsShardActive {
        /// Name of a replica set.
        replica_set_name: String,
    }
    /// `create_admin_user`, `store_admin_password`.
    AdminPassword {
        /// The password of the cluster's administrator.
        password: SecretString,
    }
    /// `ssl_action`.
    SslAction {
        /// `basic`, `enforced` or `mtls`.
        #[serde(default)] mode: Option<String>,
        /// Key and certificates.
        #[serde(default)] container: Option<Container>,
        /// Switch on, or change. A controller sends what its user has sent, or null.
        #[serde(default, deserialize_with = "truth")] enable: bool,
        /// Switch off.
        #[serde(default, deserialize_with = "truth")] disable: bool,
    }
    /// `module_list`.
    ModuleList {
        /// In Base64, as far as the caller may see them.
        #[serde(default)] include_contents: bool,
    }
    /// `module_apply`.
    ModuleApply {
        /// What to apply.
        modules: Vec<ModuleEnvelope>,
    }
    /// `module_remove`.
    ModuleRemove {
        /// What to remove.
        module: ModuleEnvelope,
    }
    /// `enable_root_with_password`.
    RootPassword {
        /// The password; a random one when null.
        #[serde(default)] root_password: Option<SecretString>,
    }
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        _ => Err(serde::de::Error::custom("expected a text or a number")),
    }
}

fn truth<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<bool>::deserialize(deserializer)?.unwrap_or_default())
}

impl From<ListArgs> for PageRequest {
    fn from(args: ListArgs) -> Self {
        PageRequest { limit: args.limit, marker: args.marker, include_marker: args.include_marker }
    }
}
