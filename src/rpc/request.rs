//! The whole RPC surface: every method a controller of any era can send, with its arguments and its properties.
//!
//! The names are Trove's (trove/guestagent/api.py and trove/common/strategies/cluster/experimental/*/guestagent.py). This is the only table of
//! them: `docs/rpc.md` is made from it. A method that is added to [`Request`] does not compile until the dispatcher runs it.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use strum::{IntoStaticStr, VariantNames};

use super::args::*;
use super::failure::without_values;
use super::method::{Method, Resume};
use crate::error::{Error, Result};
use crate::managers::logs::LogAction;
use crate::managers::{DatastoreManager, Facet};
use crate::model::PrepareRequest;

/// One line a method: arguments and properties.
macro_rules! requests {
    ($($variant:ident($arguments:ty) = $method:expr,)*) => {
        /// A request, decoded.
        #[derive(Debug, Clone, Deserialize, IntoStaticStr, VariantNames)]
        #[serde(tag = "method", content = "args", rename_all = "snake_case")]
        #[strum(serialize_all = "snake_case")]
        #[expect(missing_docs, reason = "the variants are the names of Trove's methods")]
        pub enum Request {
            $($variant($arguments),)*
        }

        /// In the order of [`Request::VARIANTS`].
        const PROPERTIES: &[Method] = &[$($method,)*];

        impl Request {
            /// What is fixed about its method.
            pub fn properties(&self) -> Method {
                match self {
                    $(Request::$variant(_) => $method,)*
                }
            }
        }
    };
}

requests! {
    // Life cycle.
    RpcPing(NoArgs) = Method::read(Facet::Core),
    OsloRpcServerPing(NoArgs) = Method::read(Facet::Core),
    // Its controller sends it once and waits. Every step of it is found done, or begun anew.
    Prepare(Box<PrepareRequest>) = Method::change(Facet::Core).notified().resumed(Resume::Repeat),
    // Half done they leave the database down. Running them again ends with a running one, as running them once would have.
    Restart(NoArgs) = Method::change(Facet::Core).resumed(Resume::Repeat),
    StartDbWithConfChanges(ConfigContents) = Method::change(Facet::Core).resumed(Resume::Repeat),
    // A late stop would surprise: its caller has gone on.
    StopDb(StopDb) = Method::change(Facet::Core).resumed(Resume::RepeatInTime),
    ResetConfiguration(ResetConfiguration) = Method::change(Facet::Core).resumed(Resume::RepeatInTime),
    // Late, it would surprise: it takes the instance down.
    PreUpgrade(NoArgs) = Method::change(Facet::Core).resumed(Resume::RepeatInTime),
    // Half done they leave the database down, and every step is found done.
    Upgrade(Upgrade) = Method::change(Facet::Upgrade).resumed(Resume::Repeat),
    PostUpgrade(PostUpgrade) = Method::change(Facet::Upgrade).resumed(Resume::Repeat),
    Rebuild(Rebuild) = Method::change(Facet::Upgrade).resumed(Resume::Repeat),
    ClusterComplete(NoArgs) = Method::change(Facet::Core).resumed(Resume::Repeat),
    // The guest and its volume. Late, it would surprise: its caller has gone on.
    GetFilesystemStats(Anything) = Method::read(Facet::Core),
    MountVolume(VolumeArgs) = Method::change(Facet::Core).resumed(Resume::RepeatInTime),
    UnmountVolume(VolumeArgs) = Method::change(Facet::Core).resumed(Resume::RepeatInTime),
    ResizeFs(VolumeArgs) = Method::change(Facet::Core).resumed(Resume::RepeatInTime),
    GetHwinfo(NoArgs) = Method::read(Facet::Core),
    GetDiagnostics(NoArgs) = Method::read(Facet::Core),
    // Configuration groups.
    UpdateOverrides(UpdateOverrides) = Method::change(Facet::Config).resumed(Resume::RepeatInTime),
    ApplyOverrides(ApplyOverrides) = Method::change(Facet::Config).resumed(Resume::RepeatInTime),
    // Databases and users.
    CreateDatabase(CreateDatabase) = Method::change(Facet::Databases).notified().resumed(Resume::RepeatInTime),
    ListDatabases(ListArgs) = Method::read(Facet::Databases),
    DeleteDatabase(DeleteDatabase) = Method::change(Facet::Databases).notified().resumed(Resume::RepeatInTime),
    CreateUser(CreateUser) = Method::change(Facet::Users).notified().resumed(Resume::RepeatInTime),
    ListUsers(ListArgs) = Method::read(Facet::Users),
    GetUser(UserRef) = Method::read(Facet::Users),
    DeleteUser(DeleteUser) = Method::change(Facet::Users).notified().resumed(Resume::RepeatInTime),
    ChangePasswords(ChangePasswords) = Method::change(Facet::Users).notified().resumed(Resume::RepeatInTime),
    UpdateAttributes(UpdateAttributes) = Method::change(Facet::Users).notified(),
    ListAccess(UserRef) = Method::read(Facet::Users),
    GrantAccess(GrantAccess) = Method::change(Facet::Users).resumed(Resume::RepeatInTime),
    RevokeAccess(RevokeAccess) = Method::change(Facet::Users).resumed(Resume::RepeatInTime),
    // Root.
    EnableRoot(NoArgs) = Method::change(Facet::Root),
    EnableRootWithPassword(RootPassword) = Method::change(Facet::Root),
    DisableRoot(NoArgs) = Method::change(Facet::Root).resumed(Resume::RepeatInTime),
    IsRootEnabled(NoArgs) = Method::read(Facet::Root),
    GetRootPassword(NoArgs) = Method::read(Facet::RootPassword),
    // Backup.
    CreateBackup(CreateBackup) = Method::backup(Facet::Backup).notified(),
    // Snapshots of the volume: held and let go beside changes, which may wait for the tables. What was cut short is let go by the next agent.
    PreCreateBackup(Anything) = Method::backup(Facet::Snapshots).resumed(Resume::Report),
    PostCreateBackup(Anything) = Method::backup(Facet::Snapshots).resumed(Resume::Report),
    // Logs. Published again, nothing is there twice.
    GuestLogList(NoArgs) = Method::read(Facet::Logs),
    GuestLogAction(LogAction) = Method::logs(Facet::Logs).resumed(Resume::RepeatInTime),
    // Modules. Applied again, a module is as it was.
    ModuleList(ModuleList) = Method::read(Facet::Modules),
    ModuleApply(ModuleApply) = Method::change(Facet::Modules).resumed(Resume::RepeatInTime),
    ModuleRemove(ModuleRemove) = Method::change(Facet::Modules).resumed(Resume::RepeatInTime),
    // TLS for clients. Made again, a change is found made.
    SslShow(NoArgs) = Method::read(Facet::Tls),
    SslAction(SslAction) = Method::change(Facet::Tls).resumed(Resume::RepeatInTime),
    SslRollback(NoArgs) = Method::change(Facet::Tls).resumed(Resume::RepeatInTime),
    // Replication. Every step of a change is found done when it is done again.
    BackupRequiredForReplication(NoArgs) = Method::read(Facet::Replication),
    GetReplicationSnapshot(GetReplicationSnapshot) = Method::backup(Facet::Replication),
    AttachReplica(AttachReplica) = Method::change(Facet::Replication).resumed(Resume::Repeat),
    AttachReplicationSlave(AttachReplicationSlave) = Method::change(Facet::Replication).resumed(Resume::Repeat),
    DetachReplica(DetachReplica) = Method::change(Facet::Replication).resumed(Resume::Repeat),
    // It makes an account.
    GetReplicaContext(NoArgs) = Method::change(Facet::Replication).resumed(Resume::RepeatInTime),
    // Late, it would surprise.
    MakeReadOnly(MakeReadOnly) = Method::change(Facet::Replication).resumed(Resume::RepeatInTime),
    EnableAsMaster(EnableAsMaster) = Method::change(Facet::Replication).resumed(Resume::Repeat),
    GetLastTxn(NoArgs) = Method::read(Facet::Replication),
    GetLatestTxnId(NoArgs) = Method::read(Facet::Replication),
    GetTxnCount(NoArgs) = Method::read(Facet::Replication),
    WaitForTxn(WaitForTxn) = Method::read(Facet::Replication),
    CleanupSourceOnReplicaDetach(CleanupSource) = Method::change(Facet::Replication).resumed(Resume::RepeatInTime),
    DemoteReplicationMaster(NoArgs) = Method::change(Facet::Replication).resumed(Resume::Repeat),
    // Redis Cluster.
    GetNodeIp(NoArgs) = Method::read(Facet::RedisCluster),
    GetNodeIdForRemoval(NoArgs) = Method::read(Facet::RedisCluster),
    RemoveNodes(RemoveNodes) = Method::change(Facet::RedisCluster).resumed(Resume::RepeatInTime),
    ClusterMeet(ClusterMeet) = Method::change(Facet::RedisCluster).resumed(Resume::RepeatInTime),
    ClusterAddslots(ClusterAddslots) = Method::change(Facet::RedisCluster).resumed(Resume::RepeatInTime),
    // A sharded MongoDB cluster.
    AddMembers(AddMembers) = Method::change(Facet::MongoDbCluster).resumed(Resume::RepeatInTime),
    // Half done it leaves the router down.
    AddConfigServers(AddConfigServers) = Method::change(Facet::MongoDbCluster).resumed(Resume::Repeat),
    AddShard(AddShard) = Method::change(Facet::MongoDbCluster).resumed(Resume::RepeatInTime),
    IsShardActive(IsShardActive) = Method::read(Facet::MongoDbCluster),
    PrepPrimary(NoArgs) = Method::change(Facet::MongoDbCluster).resumed(Resume::RepeatInTime),
    CreateAdminUser(AdminPassword) = Method::change(Facet::MongoDbCluster).resumed(Resume::RepeatInTime),
    StoreAdminPassword(AdminPassword) = Method::change(Facet::MongoDbCluster).resumed(Resume::RepeatInTime),
    GetAdminPassword(NoArgs) = Method::read(Facet::MongoDbCluster),
    GetKey(NoArgs) = Method::read(Facet::MongoDbCluster),
    GetReplicaSetName(NoArgs) = Method::read(Facet::MongoDbCluster),
}

/// Methods that no datastore of this build has, by what they would be served by. One that is built moves up, into [`Request`].
const UNBUILT: &[(Facet, &[&str])] = &[
    (Facet::SelfUpdate, &["update_guest"]),
    (Facet::GaleraCluster, &["install_cluster", "reset_admin_password", "get_cluster_context", "write_cluster_configuration_overrides"]),
    (Facet::VerticaCluster, &["get_public_keys", "authorize_public_keys", "grow_cluster", "shrink_cluster", "mark_design_ksafe"]),
    (
        Facet::CassandraCluster,
        &[
            "get_data_center",
            "get_rack",
            "set_seeds",
            "get_seeds",
            "set_auto_bootstrap",
            "node_cleanup_begin",
            "node_cleanup",
            "node_decommission",
            "cluster_secure",
            "get_admin_credentials",
            "store_admin_credentials",
        ],
    ),
];

/// What a guest does with a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// Runs it.
    Answered,
    /// `DatastoreOperationNotSupported`.
    NotSupported,
    /// `NoSuchMethod`: unknown, or nothing that a Python guest with this datastore ever had.
    Absent,
}

/// What a guest with this manager does with a method.
pub(super) fn support(manager: &dyn DatastoreManager, method: &str) -> Support {
    let unbuilt = || UNBUILT.iter().find(|(_, names)| names.contains(&method)).map(|(facet, _)| *facet);
    let built = properties_of(method).map(|properties| properties.facet);
    let Some(facet) = built.or_else(unbuilt) else { return Support::Absent };
    if manager.descriptor().absent.iter().any(|facets| facets.contains(&facet)) {
        Support::Absent
    } else if built.is_some() && manager.has(facet) {
        Support::Answered
    } else {
        Support::NotSupported
    }
}

/// The properties of a method this build has, by its name.
pub(super) fn properties_of(method: &str) -> Option<Method> {
    Request::VARIANTS.iter().zip(PROPERTIES).find(|(name, _)| **name == method).map(|(_, properties)| *properties)
}

/// Every method of any era, those no datastore of this build has last.
#[cfg(test)]
pub(super) fn method_names() -> impl Iterator<Item = &'static str> {
    Request::VARIANTS.iter().chain(UNBUILT.iter().flat_map(|(_, names)| *names)).copied()
}

impl Request {
    /// Decodes a (decrypted) request. Keyword arguments no era of the method has are ignored: a newer controller may send them.
    ///
    /// # Errors
    /// [`Error::NoSuchMethod`], or [`Error::BadArguments`] without any value in its text.
    pub fn decode(method: &str, args: Map<String, Value>) -> Result<Self> {
        if !Self::VARIANTS.contains(&method) {
            return Err(Error::no_such_method(method));
        }
        serde_json::from_value(json!({"method": method, "args": args}))
            .map_err(|error| Error::BadArguments { method: method.to_owned(), reason: without_values(&error.to_string()) })
    }

    /// The method's name on the wire.
    pub fn method(&self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Overrides;

    fn decode(method: &str, args: Value) -> Result<Request> {
        Request::decode(method, args.as_object().unwrap().clone())
    }

    #[test]
    fn prepare_decodes_as_each_era_sends_it() {
        let kilo = json!({"packages": ["mysql"], "databases": [], "users": [], "memory_mb": 512, "device_path": "/dev/vdb",
            "mount_point": "/var/lib/mysql", "backup_info": null, "config_contents": "[mysqld]", "root_password": null,
            "overrides": "[mysqld]\nmax_connections = 5", "cluster_config": null, "snapshot": null});
        let Request::Prepare(kilo) = decode("prepare", kilo).unwrap() else { panic!() };
        assert!(matches!(kilo.overrides, Some(Overrides::Text(_))));
        let now = json!({"packages": "", "databases": null, "users": [{"_name": "u"}], "memory_mb": 2048, "device_path": null,
            "mount_point": "/mnt", "overrides": {"max_connections": 5}, "modules": null, "ds_version": "8.4"});
        let Request::Prepare(now) = decode("prepare", now).unwrap() else { panic!() };
        assert!(now.packages.is_empty() && matches!(now.overrides, Some(Overrides::Values(_))));
    }

    #[test]
    fn bad_arguments_are_named_without_their_values() {
        for args in [
            json!({"users": "planted-\"secret"}),
            json!({"users": [{"name": 4711, "password": "planted-secret"}]}),
            json!({"users": [{"name": "u", "password": 4711}]}),
            json!({}),
        ] {
            let error = decode("change_passwords", args).unwrap_err().to_string();
            assert!(error.starts_with("bad arguments for change_passwords: "), "{error}");
            assert!(!error.contains("planted") && !error.contains("4711"), "{error}");
        }
        assert!(decode("change_passwords", json!({})).unwrap_err().to_string().contains("missing field `users`"));
    }

    #[test]
    fn unknown_and_private_methods_do_not_exist() {
        for method in ["no_such", "_prepare", "", "Prepare"] {
            assert!(matches!(decode(method, json!({})), Err(Error::NoSuchMethod { .. })));
        }
    }

    #[test]
    fn a_printed_request_shows_no_password() {
        let request = decode("create_user", json!({"users": [{"_name": "u", "_password": "planted"}]})).unwrap();
        assert!(!format!("{request:?}").contains("planted"));
        let other = decode("get_filesystem_stats", json!({"fs_path": "planted"})).unwrap();
        assert!(!format!("{other:?}").contains("planted"));
    }

    #[test]
    fn every_method_without_arguments_accepts_an_empty_object() {
        for method in ["rpc_ping", "restart", "stop_db", "list_users", "enable_root_with_password", "mount_volume"] {
            decode(method, json!({})).unwrap();
        }
    }
}
