//! Red Hat's family: dnf or yum, asked about with rpm.

use std::sync::Arc;

use async_trait::async_trait;

use super::manager::{INSTALL_TIMEOUT, PackageManager};
use super::package::Package;
use crate::error::{Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandRunner, CommandSpec};

/// Which program installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpmInstaller {
    /// `dnf`.
    Dnf,
    /// `yum`, where there is no dnf yet.
    Yum,
}

impl RpmInstaller {
    fn program(self) -> &'static str {
        match self {
            RpmInstaller::Dnf => "dnf",
            RpmInstaller::Yum => "yum",
        }
    }
}

/// dnf or yum.
#[derive(Debug)]
pub struct Rpm {
    installer: RpmInstaller,
    commands: Arc<dyn CommandRunner>,
}

impl Rpm {
    /// The installer by way of `commands`.
    pub fn new(installer: RpmInstaller, commands: Arc<dyn CommandRunner>) -> Self {
        Rpm { installer, commands }
    }

    /// Ways to write the version of each installed package of that name: with and without release, with epoch.
    async fn installed(&self, op: &Op, name: &str) -> Result<Vec<String>> {
        let format = "%{VERSION}\\n%{VERSION}-%{RELEASE}\\n%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n";
        let query = CommandSpec::new("rpm").args(["-q", "--qf", format, "--", name]).accept(&[1]);
        let output = self.commands.run(op, query).await?;
        Ok(if output.code == 0 { output.stdout.lines().map(str::to_owned).collect() } else { Vec::new() })
    }
}

#[async_trait]
impl PackageManager for Rpm {
    async fn install(&self, op: &Op, packages: &[String]) -> Result<()> {
        let mut missing = Vec::new();
        for text in packages {
            let package = Package::parse(text)?;
            if !self.installed(op, package.name).await?.iter().any(|version| package.accepts(version)) {
                missing.push(package.version.map_or_else(|| package.name.to_owned(), |version| format!("{}-{version}", package.name)));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let install =
            CommandSpec::new(self.installer.program()).args(["-y", "install"]).args(&missing).timeout(INSTALL_TIMEOUT).outside_to_its_end();
        self.commands.run(op, install).await.action(format!("install {}", missing.join(", ")))?;
        tracing::info!(packages = missing.join(", "), "installed packages");
        Ok(())
    }

    async fn upgrade(&self, op: &Op, packages: &[String]) -> Result<()> {
        let names = packages.iter().map(|text| Package::parse(text).map(|package| package.name));
        let names: Vec<&str> = names.collect::<Result<_>>()?;
        let upgrade =
            CommandSpec::new(self.installer.program()).args(["-y", "upgrade"]).args(&names).timeout(INSTALL_TIMEOUT).outside_to_its_end();
        self.commands.run(op, upgrade).await.map(drop).action(format!("upgrade {}", names.join(", ")))
    }
}
