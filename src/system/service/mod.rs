//! Starting and stopping the database server: systemd, docker, or the agent itself.

mod control;
mod docker;
mod process;
mod systemd;

pub use control::{ServerCommand, ServiceControl, StopSignal, UnitNames, UnitState, build};
pub use docker::{Docker, DockerContainer};
pub use process::Supervisor;
pub(in crate::system) use process::identity;
pub use systemd::Systemd;
