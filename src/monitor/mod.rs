//! What the agent is doing now: a register of operations, the socket that shows it to `trove-guestctl status`, and metrics.

mod exporter;
mod gauges;
mod metrics;
mod operations;
mod roles;
mod snapshot;
mod socket;
mod told;

pub use exporter::Exporter;
pub use metrics::Metrics;
pub use operations::{Operations, Running};
pub use snapshot::{BackupView, HeartbeatView, OperationView, ProgressView, Snapshot};
pub use socket::{Monitor, ask, socket_path};
pub use told::Told;
