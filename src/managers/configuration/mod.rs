//! Layers of configuration: what a template, the user and the agent say, in files of their own that never overwrite one another.

mod layers;
mod name;
mod pending;
mod store;

pub use layers::Layers;
pub use name::{COMMON, ChangeName, Group};
pub use pending::Pending;
pub use store::{Store, Style};
