//! The contract of a package manager, and the choice of its implementation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::Utf8Path;

use super::apt::Apt;
use super::rpm::{Rpm, RpmInstaller};
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::command::CommandRunner;

/// How long an installation may take (trove/guestagent/datastore: `INSTALL_TIMEOUT`, 1000 s).
pub(super) const INSTALL_TIMEOUT: Duration = Duration::from_secs(1000);

/// The guest's package manager. Packages that are there already are not an error and cost nothing.
#[async_trait]
pub trait PackageManager: Send + Sync + fmt::Debug {
    /// Installs `packages` (`name` or `name=version`) without any question asked.
    ///
    /// # Errors
    /// The package manager's own words, and what to do.
    async fn install(&self, op: &Op, packages: &[String]) -> Result<()>;

    /// Brings installed packages to the newest version the package sources have. Configuration files stay as they are.
    ///
    /// # Errors
    /// The package manager's own words.
    async fn upgrade(&self, op: &Op, packages: &[String]) -> Result<()>;

    /// The version of a package that [`Self::upgrade`] would bring, as the sources have it by now; `None` when they do not have it, or this package manager is not
    /// asked.
    ///
    /// # Errors
    /// The package manager cannot be run.
    async fn candidate(&self, _op: &Op, _package: &str) -> Result<Option<String>> {
        Ok(None)
    }
}

/// Where a guest keeps its programs.
const DIRECTORIES: &[&str] = &["/usr/bin", "/bin"];

fn has(program: &str) -> bool {
    DIRECTORIES.iter().any(|directory| Utf8Path::new(directory).join(program).exists())
}

/// The package manager of this guest. Debian's comes first: it may have `dnf` as a package, but no Red Hat has `apt-get`.
pub fn detect(commands: Arc<dyn CommandRunner>) -> Arc<dyn PackageManager> {
    if has("apt-get") && has("dpkg-query") {
        Arc::new(Apt::new(commands))
    } else if has("dnf") {
        Arc::new(Rpm::new(RpmInstaller::Dnf, commands))
    } else if has("yum") {
        Arc::new(Rpm::new(RpmInstaller::Yum, commands))
    } else {
        Arc::new(NoPackageManager)
    }
}

/// A guest whose image has everything.
#[derive(Debug)]
struct NoPackageManager;

#[async_trait]
impl PackageManager for NoPackageManager {
    async fn install(&self, _op: &Op, packages: &[String]) -> Result<()> {
        if packages.is_empty() {
            return Ok(());
        }
        Err(Error::guest(format!(
            "cannot install {}: this guest has neither apt-get, dnf nor yum; build the image with the datastore in it",
            packages.join(", ")
        )))
    }

    async fn upgrade(&self, op: &Op, packages: &[String]) -> Result<()> {
        self.install(op, packages).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn without_a_package_manager_only_nothing_can_be_installed() {
        let op = Op::internal(CancellationToken::new());
        NoPackageManager.install(&op, &[]).await.unwrap();
        let error = NoPackageManager.install(&op, &["redis".to_owned()]).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot install redis: this guest has neither"), "{error}");
    }
}
