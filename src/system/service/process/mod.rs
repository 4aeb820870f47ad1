//! Service control without a service manager: the agent supervises the server itself.

mod launch;
mod record;
mod supervisor;

pub(in crate::system) use record::identity;
pub use supervisor::Supervisor;
