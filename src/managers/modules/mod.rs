//! Modules: what an operator or a user puts into a guest besides its database, each by a driver (trove/guestagent/module).

mod driver;
mod flow;
mod new_relic_license;
mod ping;
mod store;

pub use flow::{ModuleEnv, apply, list, remove};
pub use new_relic_license::NewRelicPaths;
pub use store::ModuleResult;
