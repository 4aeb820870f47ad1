//! The driver of New Relic's server monitor: puts its licence key into its configuration, and starts it.
//!
//! Trove's driver (module/drivers/new_relic_license_driver.py) passes the key to `nrsysmond-config --set` on a command line, which everybody on the
//! guest can read. This one makes the same change of the same file by itself.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};

use super::driver::{ModuleDriver, Outcome, value};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandRunner, CommandSpec};
use crate::system::files;

/// What Trove's driver puts in place of a key that is removed: of the right length, and no key.
pub(super) const NO_KEY: &str = "bad_key_that_is_exactly_40_characters_xx";
/// As with Trove's driver.
const CONTROL_DEADLINE: Duration = Duration::from_secs(10);

/// Where the server monitor is.
#[derive(Debug, Clone)]
pub struct NewRelicPaths {
    /// Its configuration.
    pub configuration: Utf8PathBuf,
    /// What starts and stops it.
    pub control: Utf8PathBuf,
}

impl Default for NewRelicPaths {
    fn default() -> Self {
        NewRelicPaths { configuration: "/etc/newrelic/nrsysmond.cfg".into(), control: "/etc/init.d/newrelic-sysmond".into() }
    }
}

/// The driver.
#[derive(Debug)]
pub(super) struct NewRelicLicense {
    pub(super) paths: NewRelicPaths,
    pub(super) commands: Arc<dyn CommandRunner>,
}

impl NewRelicLicense {
    fn set_key(&self, key: &SecretString) -> Result<()> {
        let path = &self.paths.configuration;
        let missing = || Error::guest(format!("there is no {path}: install newrelic-sysmond"));
        let text = SecretString::from(files::read_optional(path)?.ok_or_else(missing)?);
        if key.expose_secret().chars().any(char::is_control) {
            return Err(Error::invalid("the licence key has control characters"));
        }
        let is_key = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim() == "license_key");
        let mut lines: Vec<&str> = text.expose_secret().lines().filter(|line| !is_key(line)).collect();
        let line = SecretString::from(format!("license_key={}", key.expose_secret()));
        lines.push(line.expose_secret());
        let new = SecretString::from(lines.join("\n") + "\n");
        let facts = std::fs::metadata(path).action(format!("look at {path}"))?;
        files::write_atomic(path, new.expose_secret().as_bytes(), facts.permissions().mode() & 0o777, None)?;
        std::os::unix::fs::chown(path, Some(facts.uid()), Some(facts.gid())).action(format!("set the owner of {path}"))
    }

    async fn control(&self, op: &Op, verb: &str) -> Result<()> {
        let command = CommandSpec::new(self.paths.control.as_str()).arg(verb).timeout(CONTROL_DEADLINE);
        self.commands.run(op, command).await.map(drop)
    }

    async fn carry_out(&self, op: &Op, key: &SecretString, verb: &str) -> Result<()> {
        self.set_key(key)?;
        self.control(op, verb).await
    }
}

#[async_trait]
impl ModuleDriver for NewRelicLicense {
    async fn apply(&self, op: &Op, contents: &Utf8Path) -> Outcome {
        let failed = "New Relic license key not installed";
        match value(contents, "license_key") {
            Ok(Some(key)) if !key.expose_secret().is_empty() => {
                Outcome::of(self.carry_out(op, &key, "start").await, "New Relic license key installed", failed)
            }
            Ok(_) => Outcome::failed("'license_key' not found in contents file"),
            Err(error) => Outcome::of(Err(error), "", failed),
        }
    }

    async fn remove(&self, op: &Op, _contents: &Utf8Path) -> Outcome {
        let done = self.carry_out(op, &SecretString::from(NO_KEY), "stop").await;
        Outcome::of(done, "New Relic license key removed", "New Relic license key not removed")
    }
}
