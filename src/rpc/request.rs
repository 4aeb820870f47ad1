//! The whole RPC surface: every method a controller of any era can send, with its arguments and its lane.
//!
//! The variants are Trove's method names (trove/guestagent/api.py and
//! trove/common/strategies/cluster/experimental/*/guestagent.py). Adding one fails to compile here and in the dispatcher.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use strum::{IntoStaticStr, VariantNames};

use super::args::*;
use super::failure::without_values;
use crate::error::{Error, Result};
use crate::model::PrepareRequest;

/// A request, decoded.
#[derive(Debug, Clone, Deserialize, IntoStaticStr, VariantNames)]
#[serde(tag = "method", content = "args", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are the names of Trove's methods")]
pub enum Request {
    // Life cycle.
    RpcPing(NoArgs),
    OsloRpcServerPing(NoArgs),
    Prepare(Box<PrepareRequest>),
    Restart(NoArgs),
    StopDb(StopDb),
    StartDbWithConfChanges(ConfigContents),
    ResetConfiguration(ResetConfiguration),
    PreUpgrade(NoArgs),
    Upgrade(Anything),
    PostUpgrade(Anything),
    Rebuild(Anything),
    // The guest and its volume.
    GetFilesystemStats(Anything),
    MountVolume(VolumeArgs),
    UnmountVolume(VolumeArgs),
    ResizeFs(VolumeArgs),
    GetHwinfo(NoArgs),
    GetDiagnostics(NoArgs),
    UpdateGuest(NoArgs),
    // Configuration groups.
    UpdateOverrides(UpdateOverrides),
    ApplyOverrides(ApplyOverrides),
    // Databases and users.
    CreateDatabase(CreateDatabase),
    ListDatabases(ListArgs),
    DeleteDatabase(DeleteDatabase),
    CreateUser(CreateUser),
    ListUsers(ListArgs),
    GetUser(UserRef),
    DeleteUser(DeleteUser),
    ChangePasswords(ChangePasswords),
    UpdateAttributes(UpdateAttributes),
    ListAccess(UserRef),
    GrantAccess(GrantAccess),
    RevokeAccess(RevokeAccess),
    // Root.
    EnableRoot(NoArgs),
    EnableRootWithPassword(RootPassword),
    DisableRoot(NoArgs),
    IsRootEnabled(NoArgs),
    GetRootPassword(NoArgs),
    // Backup.
    CreateBackup(CreateBackup),
    PreCreateBackup(Anything),
    PostCreateBackup(Anything),
    // Replication.
    BackupRequiredForReplication(NoArgs),
    GetReplicationSnapshot(Anything),
    AttachReplicationSlave(Anything),
    AttachReplica(Anything),
    DetachReplica(Anything),
    GetReplicaContext(NoArgs),
    MakeReadOnly(Anything),
    EnableAsMaster(Anything),
    GetLastTxn(NoArgs),
    GetLatestTxnId(NoArgs),
    GetTxnCount(NoArgs),
    WaitForTxn(Anything),
    CleanupSourceOnReplicaDetach(Anything),
    DemoteReplicationMaster(NoArgs),
    // Guest logs, modules, TLS.
    GuestLogList(NoArgs),
    GuestLogAction(Anything),
    ModuleList(Anything),
    ModuleApply(Anything),
    ModuleRemove(Anything),
    SslShow(NoArgs),
    SslAction(Anything),
    SslRollback(NoArgs),
    // Clusters.
    ClusterComplete(NoArgs),
    AddShard(Anything),
    AddMembers(Anything),
    AddConfigServers(Anything),
    GetKey(NoArgs),
    PrepPrimary(NoArgs),
    CreateAdminUser(Anything),
    StoreAdminPassword(Anything),
    GetReplicaSetName(NoArgs),
    GetAdminPassword(NoArgs),
    IsShardActive(Anything),
    GetPublicKeys(Anything),
    AuthorizePublicKeys(Anything),
    InstallCluster(Anything),
    GrowCluster(Anything),
    ShrinkCluster(Anything),
    MarkDesignKsafe(Anything),
    GetNodeIp(NoArgs),
    GetNodeIdForRemoval(NoArgs),
    RemoveNodes(Anything),
    ClusterMeet(Anything),
    ClusterAddslots(Anything),
    GetDataCenter(NoArgs),
    GetRack(NoArgs),
    SetSeeds(Anything),
    GetSeeds(NoArgs),
    SetAutoBootstrap(Anything),
    NodeCleanupBegin(NoArgs),
    NodeCleanup(NoArgs),
    NodeDecommission(NoArgs),
    ClusterSecure(Anything),
    GetAdminCredentials(NoArgs),
    StoreAdminCredentials(Anything),
    ResetAdminPassword(Anything),
    GetClusterContext(NoArgs),
    WriteClusterConfigurationOverrides(Anything),
}

/// Where a request runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Changes nothing: runs at once, beside everything else.
    Read,
    /// Changes the instance: one at a time, in the order of arrival; journalled before it is acknowledged.
    Write,
    /// A backup: one at a time, beside the changes; journalled likewise.
    Backup,
}

impl Request {
    /// Decodes a (decrypted) request. Keyword arguments no era of the method has are ignored: a newer controller may send them.
    ///
    /// # Errors
    /// [`Error::NoSuchMethod`], or [`Error::BadArguments`] without any value in its text.
    pub fn decode(method: &str, args: Map<String, Value>) -> Result<Self> {
        if !Self::VARIANTS.contains(&method) {
            return Err(Error::NoSuchMethod { method: method.chars().take(100).collect() });
        }
        serde_json::from_value(json!({"method": method, "args": args}))
            .map_err(|error| Error::BadArguments { method: method.to_owned(), reason: without_values(&error.to_string()) })
    }

    /// The method's name on the wire.
    pub fn method(&self) -> &'static str {
        self.into()
    }

    /// Where it runs.
    #[expect(clippy::too_many_lines, reason = "every method, once: no wildcard may decide for a new one")]
    pub fn lane(&self) -> Lane {
        use Request::*;
        match self {
            CreateBackup(_) => Lane::Backup,
            RpcPing(_)
            | OsloRpcServerPing(_)
            | GetFilesystemStats(_)
            | GetHwinfo(_)
            | GetDiagnostics(_)
            | UpdateGuest(_)
            | ListDatabases(_)
            | ListUsers(_)
            | GetUser(_)
            | ListAccess(_)
            | IsRootEnabled(_)
            | GetRootPassword(_)
            | PreUpgrade(_)
            | BackupRequiredForReplication(_)
            | GetReplicaContext(_)
            | GetLastTxn(_)
            | GetLatestTxnId(_)
            | GetTxnCount(_)
            | WaitForTxn(_)
            | GuestLogList(_)
            | ModuleList(_)
            | SslShow(_)
            | GetKey(_)
            | GetReplicaSetName(_)
            | GetAdminPassword(_)
            | IsShardActive(_)
            | GetPublicKeys(_)
            | GetNodeIp(_)
            | GetNodeIdForRemoval(_)
            | GetDataCenter(_)
            | GetRack(_)
            | GetSeeds(_)
            | GetAdminCredentials(_)
            | GetClusterContext(_) => Lane::Read,
            Prepare(_)
            | Restart(_)
            | StopDb(_)
            | StartDbWithConfChanges(_)
            | ResetConfiguration(_)
            | Upgrade(_)
            | PostUpgrade(_)
            | Rebuild(_)
            | MountVolume(_)
            | UnmountVolume(_)
            | ResizeFs(_)
            | UpdateOverrides(_)
            | ApplyOverrides(_)
            | CreateDatabase(_)
            | DeleteDatabase(_)
            | CreateUser(_)
            | DeleteUser(_)
            | ChangePasswords(_)
            | UpdateAttributes(_)
            | GrantAccess(_)
            | RevokeAccess(_)
            | EnableRoot(_)
            | EnableRootWithPassword(_)
            | DisableRoot(_)
            | PreCreateBackup(_)
            | PostCreateBackup(_)
            | GetReplicationSnapshot(_)
            | AttachReplicationSlave(_)
            | AttachReplica(_)
            | DetachReplica(_)
            | MakeReadOnly(_)
            | EnableAsMaster(_)
            | CleanupSourceOnReplicaDetach(_)
            | DemoteReplicationMaster(_)
            | GuestLogAction(_)
            | ModuleApply(_)
            | ModuleRemove(_)
            | SslAction(_)
            | SslRollback(_)
            | ClusterComplete(_)
            | AddShard(_)
            | AddMembers(_)
            | AddConfigServers(_)
            | PrepPrimary(_)
            | CreateAdminUser(_)
            | StoreAdminPassword(_)
            | AuthorizePublicKeys(_)
            | InstallCluster(_)
            | GrowCluster(_)
            | ShrinkCluster(_)
            | MarkDesignKsafe(_)
            | RemoveNodes(_)
            | ClusterMeet(_)
            | ClusterAddslots(_)
            | SetSeeds(_)
            | SetAutoBootstrap(_)
            | NodeCleanupBegin(_)
            | NodeCleanup(_)
            | NodeDecommission(_)
            | ClusterSecure(_)
            | StoreAdminCredentials(_)
            | ResetAdminPassword(_)
            | WriteClusterConfigurationOverrides(_) => Lane::Write,
        }
    }

    /// True when the Python agent tells the conductor of its end (`EndNotification`, trove/common/notification.py).
    pub fn notifies_its_end(&self) -> bool {
        use Request::*;
        matches!(
            self,
            Prepare(_)
                | CreateDatabase(_)
                | DeleteDatabase(_)
                | CreateUser(_)
                | DeleteUser(_)
                | ChangePasswords(_)
                | UpdateAttributes(_)
                | CreateBackup(_)
        )
    }

    /// True for changes inside a running database, which right after the guest's boot may not be up yet.
    pub fn works_in_the_database(&self) -> bool {
        use Request::*;
        let elsewhere = matches!(
            self,
            Prepare(_) | Restart(_) | StopDb(_) | StartDbWithConfChanges(_) | ResetConfiguration(_) | MountVolume(_) | UnmountVolume(_)
        );
        !elsewhere && self.lane() == Lane::Write
    }

    /// What to do with it when the agent ended in the middle.
    pub fn after_interruption(&self) -> Resume {
        use Request::*;
        match self {
            // Half done they leave the database down. Running them again ends with a running one, as running them once would have.
            Restart(_) | StartDbWithConfChanges(_) => Resume::Repeat,
            CreateBackup(_) => Resume::Undo,
            CreateDatabase(_) | DeleteDatabase(_) | CreateUser(_) | DeleteUser(_) | ChangePasswords(_) | GrantAccess(_) | RevokeAccess(_)
            // A late stop would surprise: its caller has gone on.
            | StopDb(_) => Resume::RepeatInTime,
            _ => Resume::Report,
        }
    }
}

/// What to do with a request that the agent's end cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Run it again, whatever its caller thinks of it by now.
    Repeat,
    /// Run it again if it is a cast, or a call whose caller still waits.
    RepeatInTime,
    /// Tell that it was cut short.
    Report,
    /// Remove what it left, then tell that it was cut short.
    Undo,
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
        let other = decode("store_admin_password", json!({"password": "planted"})).unwrap();
        assert!(!format!("{other:?}").contains("planted"));
    }

    #[test]
    fn every_method_without_arguments_accepts_an_empty_object() {
        for method in ["rpc_ping", "restart", "stop_db", "list_users", "enable_root_with_password", "mount_volume"] {
            decode(method, json!({})).unwrap();
        }
    }
}
