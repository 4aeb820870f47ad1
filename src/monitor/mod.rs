//! What the agent is doing now: a register of operations, and the socket that shows it to `trove-guestctl status`.

mod operations;
mod snapshot;
mod socket;
mod told;

pub use operations::{Operations, Running};
pub use snapshot::{BackupView, HeartbeatView, OperationView, ProgressView, Snapshot};
pub use socket::{Monitor, ask, socket_path};
pub use told::Told;
