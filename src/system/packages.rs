//! Installing packages.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::op::Op;

/// The guest's package manager. Packages that are there already are not an error and cost nothing.
#[async_trait]
pub trait PackageManager: Send + Sync + fmt::Debug {
    /// Installs `packages` (`name` or `name=version`) without any question asked.
    ///
    /// # Errors
    /// The package manager's own words, and what to do.
    async fn install(&self, op: &Op, packages: &[String]) -> Result<()>;
}
