//! What is fixed about a datastore, as data.

use std::fmt;

use super::Facet;

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
    /// Accounts the server may run as, best first; a family's packages have several.
    pub owners: &'static [&'static str],
    /// Default `mount_point`.
    pub mount_point: &'static str,
    /// Accounts that are never listed, created or deleted.
    pub ignore_users: &'static [&'static str],
    /// Databases that are never listed, created or deleted.
    pub ignore_dbs: &'static [&'static str],
    /// Logs that users see, where `guest_log_exposed_logs` does not say.
    pub exposed_logs: &'static [&'static str],
    /// Parts of the guest API no Python manager of this datastore ever had: their methods are unknown to the guest, rather than unsupported by it.
    pub absent: &'static [&'static [Facet]],
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({})", self.name)
    }
}
