//! Service control of a database that is a container on the local engine.

mod container;
mod engine;

pub(super) use container::DEFAULT_CONTAINER;
pub use container::{Docker, DockerContainer};
