//! Status of the database, in the words of the conductor.

use strum::{EnumString, IntoStaticStr};

use super::Release;

/// What a heartbeat says of the database. The strings are the *descriptions* the conductor looks up
/// (trove/instance/service_status.py); an unknown one is refused there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum ServiceStatus {
    /// Alive and answering.
    Running,
    /// The process is alive but does not answer.
    Blocked,
    /// Stopped in good order, or never started.
    Shutdown,
    /// Ended by itself.
    Crashed,
    /// `prepare` failed.
    #[strum(serialize = "failed to spawn")]
    Failed,
    /// `prepare` is running.
    Building,
    /// Prepared as a member of a cluster; `cluster_complete` makes it active. Kilo calls the same code "build pending".
    #[strum(serialize = "instance ready")]
    InstanceReady,
    /// Configuration waits for a restart (Train and later).
    #[strum(serialize = "restart required")]
    RestartRequired,
    /// Not known.
    Unknown,
    /// Never prepared.
    New,
}

impl ServiceStatus {
    /// The wire string for a controller of `release`.
    pub fn wire(self, release: Release) -> &'static str {
        match self {
            ServiceStatus::Running if release >= Release::Zed => "healthy",
            ServiceStatus::InstanceReady if release == Release::Kilo => "build pending",
            ServiceStatus::RestartRequired if release == Release::Kilo => "running",
            other => other.into(),
        }
    }
}
