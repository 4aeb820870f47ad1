//! Debian and Ubuntu: apt-get, with nothing that could ask a question.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::manager::{INSTALL_TIMEOUT, PackageManager};
use super::package::Package;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandRunner, CommandSpec};

/// How long to wait for somebody else's apt (`apt-daily` runs when a guest boots).
const LOCK_WAIT: Duration = Duration::from_secs(300);
/// How often to try for the lock of the package lists, for which apt has no option.
const LOCK_RETRY: Duration = Duration::from_secs(2);
/// What `apt-get` and `apt-cache` end with when they fail.
const FAILED: i32 = 100;

/// apt-get.
#[derive(Debug)]
pub struct Apt {
    commands: Arc<dyn CommandRunner>,
}

/// Nothing may ask: neither debconf, nor apt-listchanges, nor Ubuntu's needrestart.
fn quiet(program: &str) -> CommandSpec {
    CommandSpec::new(program)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .env("APT_LISTCHANGES_FRONTEND", "none")
        .env("NEEDRESTART_SUSPEND", "1")
        .timeout(INSTALL_TIMEOUT)
        .outside_to_its_end()
}

impl Apt {
    /// apt-get by way of `commands`.
    pub fn new(commands: Arc<dyn CommandRunner>) -> Self {
        Apt { commands }
    }

    /// Version of an installed package.
    async fn installed(&self, op: &Op, name: &str) -> Result<Option<String>> {
        let query = CommandSpec::new("dpkg-query").args(["-W", "-f", "${db:Status-Status} ${Version}\\n", "--", name]).accept(&[1]);
        let output = self.commands.run(op, query).await?;
        Ok(output.stdout.lines().find_map(|line| line.strip_prefix("installed ")).map(str::to_owned))
    }

    async fn update(&self, op: &Op) -> Result<()> {
        let deadline = Instant::now() + LOCK_WAIT;
        let mut attempts = tokio::time::interval(LOCK_RETRY);
        loop {
            op.until_cancelled("update the package lists", attempts.tick()).await?;
            match self.commands.run(op, quiet("apt-get").args(["update", "-q"])).await {
                Ok(_) => return Ok(()),
                // The path of the lock, which no translation changes.
                Err(Error::Command { stderr, .. }) if stderr.contains("/lists/lock") && Instant::now() < deadline => {}
                // What is in the lists of old may do; if not, the installation says which package is not.
                Err(error @ Error::Command { .. }) => {
                    tracing::warn!(%error, "the package lists could not be updated");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What `apt-cache` says of a version that would be installed.
    async fn show(&self, op: &Op, package: &str) -> Result<Option<String>> {
        let show = CommandSpec::new("apt-cache").args(["show", "--no-all-versions", package]).accept(&[FAILED]);
        let output = self.commands.run(op, show).await?;
        Ok(Some(output.stdout).filter(|text| output.code == 0 && !text.trim().is_empty()))
    }

    /// Finishes what an earlier run, ended with the guest, left half done: until then apt-get refuses to work.
    async fn repair(&self, op: &Op) -> Result<()> {
        let audit = self.commands.run(op, CommandSpec::new("dpkg").arg("--audit").accept(&[1])).await?;
        if audit.stdout.trim().is_empty() {
            return Ok(());
        }
        tracing::warn!("finishing an interrupted installation of packages");
        let configure = quiet("dpkg").args(["--force-confold", "--force-confdef", "--configure", "-a"]);
        self.commands.run(op, configure).await.action("finish an interrupted installation of packages")?;
        Ok(())
    }

    /// Answers every question for a root password with the empty one (trove/guestagent/pkg.py: `config_opts`):
    /// `prepare` sets accounts itself, over the socket. Only packages whose templates are known already have such questions.
    async fn preseed(&self, op: &Op, packages: &[Package<'_>]) -> Result<()> {
        let mut selections = String::new();
        for package in packages {
            let show = CommandSpec::new("debconf-show").arg(package.name).accept(&[1]);
            let Ok(CommandOutput { stdout, .. }) = self.commands.run(op, show).await else {
                // No debconf, no questions.
                return Ok(());
            };
            for question in stdout.lines().filter_map(root_password_question) {
                selections.push_str(&format!("{} {question} password \n", package.name));
            }
        }
        if selections.is_empty() {
            return Ok(());
        }
        let set = CommandSpec::new("debconf-set-selections").stdin_secret(selections.into());
        self.commands.run(op, set).await.action("answer the packages' questions")?;
        Ok(())
    }
}

/// The question on a line of `debconf-show`, such as `* mysql-server/root_password: (password omitted)`.
fn root_password_question(line: &str) -> Option<&str> {
    let (question, _) = line.trim_start_matches(['*', ' ']).split_once(':')?;
    let (_, name) = question.rsplit_once('/')?;
    matches!(name, "root_password" | "root_password_again").then_some(question)
}

#[async_trait]
impl PackageManager for Apt {
    async fn install(&self, op: &Op, packages: &[String]) -> Result<()> {
        let mut missing = Vec::new();
        for text in packages {
            let package = Package::parse(text)?;
            let installed = self.installed(op, package.name).await?;
            if !installed.is_some_and(|version| package.accepts(&version)) {
                missing.push((text.as_str(), package));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let (texts, parsed): (Vec<&str>, Vec<Package<'_>>) = missing.into_iter().unzip();
        for text in &texts {
            if self.show(op, text).await?.is_none() {
                self.update(op).await?;
                break;
            }
        }
        self.repair(op).await?;
        self.preseed(op, &parsed).await?;
        self.apt_install(op, &texts).await?;
        tracing::info!(packages = texts.join(", "), "installed packages");
        Ok(())
    }

    async fn upgrade(&self, op: &Op, packages: &[String]) -> Result<()> {
        packages.iter().try_for_each(|text| Package::parse(text).map(drop))?;
        self.update(op).await?;
        self.repair(op).await?;
        let texts: Vec<&str> = packages.iter().map(String::as_str).collect();
        self.apt_install(op, &texts).await
    }

    async fn candidate(&self, op: &Op, package: &str) -> Result<Option<String>> {
        Package::parse(package)?;
        self.update(op).await?;
        let shown = self.show(op, package).await?;
        Ok(shown.and_then(|text| text.lines().find_map(|line| line.strip_prefix("Version: ")).map(|version| version.trim().to_owned())))
    }
}

impl Apt {
    async fn apt_install(&self, op: &Op, texts: &[&str]) -> Result<()> {
        let install = quiet("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(["-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Options::=--force-confdef"])
            .args(["-o", &format!("DPkg::Lock::Timeout={}", LOCK_WAIT.as_secs())])
            .args(texts);
        self.commands.run(op, install).await.map(drop).action(format!("install {}", texts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_password_questions_are_answered() {
        assert_eq!(root_password_question("* mysql-server/root_password: (password omitted)"), Some("mysql-server/root_password"));
        assert_eq!(
            root_password_question("  percona-server-server/root_password_again:"),
            Some("percona-server-server/root_password_again")
        );
        assert_eq!(root_password_question("  mysql-server/remove-data-dir: false"), None);
        assert_eq!(root_password_question(""), None);
    }
}
