//! What is fixed about a datastore, as data.

use std::fmt;

/// Names, paths and lists of one datastore.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// `datastore_manager` values served, best known first.
    pub name: &'static str,
    /// TCP port.
    pub port: u16,
    /// Service names, best first (trove/guestagent/common/operating_system.py: service_discovery).
    pub services: &'static [&'static str],
    /// Packages installed when `prepare` names none and the server is not there.
    pub packages: &'static [&'static str],
    /// Account the server runs as.
    pub owner: &'static str,
    /// Default `mount_point`.
    pub mount_point: &'static str,
    /// Accounts that are never listed, created or deleted.
    pub ignore_users: &'static [&'static str],
    /// Databases that are never listed, created or deleted.
    pub ignore_dbs: &'static [&'static str],
    /// RPC methods no Python manager of this datastore ever had: unknown to the guest, rather than unsupported by it.
    pub absent_methods: &'static [&'static [&'static str]],
}

/// What only the Galera strategy calls (trove/common/strategies/cluster/experimental/galera_common/guestagent.py).
pub(super) const GALERA_METHODS: &[&str] =
    &["install_cluster", "reset_admin_password", "get_cluster_context", "write_cluster_configuration_overrides"];

/// What the cluster strategies of MongoDB, Vertica, Redis and Cassandra call, apart from what Galera's calls too.
pub(super) const OTHER_CLUSTER_METHODS: &[&str] = &[
    "add_shard",
    "add_members",
    "add_config_servers",
    "get_key",
    "prep_primary",
    "create_admin_user",
    "store_admin_password",
    "get_replica_set_name",
    "get_admin_password",
    "is_shard_active",
    "get_public_keys",
    "authorize_public_keys",
    "grow_cluster",
    "shrink_cluster",
    "mark_design_ksafe",
    "get_node_ip",
    "get_node_id_for_removal",
    "remove_nodes",
    "cluster_meet",
    "cluster_addslots",
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
];

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({})", self.name)
    }
}
