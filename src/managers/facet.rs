//! The parts of Trove's guest API that a datastore has or has not.

/// A part of the guest API. Every RPC method belongs to one (`rpc/request.rs`); [`super::DatastoreManager::has`] tells which of them a manager has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facet {
    /// What every guest does: life cycle, volume, facts about the host.
    Core,
    /// Accounts.
    Users,
    /// Databases.
    Databases,
    /// The user's root account.
    Root,
    /// The password of the user's root account, told again (Redis of Train).
    RootPassword,
    /// Configuration groups.
    Config,
    /// Backups.
    Backup,
    /// Snapshots of the volume, taken by the controller.
    Snapshots,
    /// Replication.
    Replication,
    /// Another version of the datastore on the same data.
    Upgrade,
    /// Logs published to the object store.
    Logs,
    /// Modules.
    Modules,
    /// TLS between clients and the database.
    Tls,
    /// `update_guest`: in every API, and in no Python guest.
    SelfUpdate,
    /// trove/common/strategies/cluster/experimental/galera_common/guestagent.py.
    GaleraCluster,
    /// trove/common/strategies/cluster/experimental/mongodb/guestagent.py.
    MongoDbCluster,
    /// trove/common/strategies/cluster/experimental/redis/guestagent.py.
    RedisCluster,
    /// trove/common/strategies/cluster/experimental/cassandra/guestagent.py.
    CassandraCluster,
    /// trove/common/strategies/cluster/experimental/vertica/guestagent.py, apart from `install_cluster`, which Galera's has too.
    VerticaCluster,
}
