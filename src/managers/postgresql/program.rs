//! The server's programs: which version they are, what the server makes of a configuration, a new data directory, and statements without a running server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};

use super::layout::Layout;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::postgresql::SqlText;
use crate::system::service::ServiceControl;

/// A fresh data directory, or the recovery of one.
const DEADLINE: Duration = Duration::from_secs(600);

/// The first version that has checksums unless it is told not to.
const CHECKSUMS_UNASKED: u16 = 18;

/// Version of a server: major and minor number since PostgreSQL 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {}.{}", self.0, self.1)
    }
}

impl Version {
    /// Reads what a program says with `--version`: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    fn parse(said: &str) -> Option<Version> {
        let word = said.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
        let mut numbers = word.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u16>);
        let mut next = || numbers.next().and_then(Result::ok);
        Some(Version(next()?, next().unwrap_or_default()))
    }
}

/// The server's programs on this guest, or in its container.
#[derive(Debug)]
pub(super) struct ServerProgram {
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) owner: Owner,
}

/// What a server says against a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// It does not know these parameters.
    Unknown(Vec<String>),
    /// It refuses a value, or cannot read a line: its words.
    Refused(String),
}

impl ServerProgram {
    /// Path and version. Looked for each time: another one may be installed now.
    async fn find(&self, op: &Op) -> Result<(Utf8PathBuf, Version)> {
        let in_container = self.service.brings_its_own_programs();
        let candidates = Layout::programs();
        for path in candidates.iter().filter(|path| in_container || path.is_file()) {
            let output = self.service.exec(op, CommandSpec::new(path.as_str()).arg("--version")).await;
            if let Some(version) = output.ok().and_then(|output| Version::parse(&output.stdout)) {
                return Ok((path.clone(), version));
            }
        }
        Err(Error::guest(
            "no database server is installed: there is no program 'postgres' below /usr/lib/postgresql, /usr/pgsql-* or /usr/bin",
        ))
    }

    /// Version of the installed server.
    pub(super) async fn version(&self, op: &Op) -> Result<Version> {
        self.find(op).await.map(|(_, version)| version)
    }

    /// Path of a program beside the server's.
    pub(super) async fn path(&self, op: &Op, name: &str) -> Result<Utf8PathBuf> {
        let (server, _) = self.find(op).await?;
        Ok(server.parent().unwrap_or(Utf8Path::new("/usr/bin")).join(name))
    }

    /// A program beside the server's, run as its account.
    pub(super) async fn command(&self, op: &Op, name: &str) -> Result<CommandSpec> {
        Ok(CommandSpec::new(self.path(op, name).await?.as_str()).as_user(self.owner.name()))
    }

    /// Lets the server read a configuration without starting; `None` when it takes it.
    ///
    /// # Errors
    /// The program cannot be run.
    pub(super) async fn objection(&self, op: &Op, file: &Utf8Path) -> Result<Option<Objection>> {
        let command = self.command(op, "postgres").await?.args(["-C", "max_connections", "-c"]).arg(format!("config_file={file}"));
        match self.service.exec(op, command).await {
            Ok(_) => Ok(None),
            Err(Error::Command { stderr, .. }) => Ok(Some(objection(&stderr))),
            Err(error) => Err(error).action("have the server read the configuration"),
        }
    }

    /// Fills an empty data directory, with checksums of its pages.
    ///
    /// # Errors
    /// `initdb` failed.
    pub(super) async fn initialize(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        self.initialize_like(op, directory, true).await
    }

    /// [`Self::initialize`], with checksums or without.
    ///
    /// # Errors
    /// `initdb` failed.
    pub(super) async fn initialize_like(&self, op: &Op, directory: &Utf8Path, checksums: bool) -> Result<()> {
        let option = if checksums {
            Some("--data-checksums")
        } else {
            (self.version(op).await?.0 >= CHECKSUMS_UNASKED).then_some("--no-data-checksums")
        };
        let command = self
            .command(op, "initdb")
            .await?
            .arg(format!("--pgdata={directory}"))
            .args(["--username=postgres", "--auth-local=peer", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(option)
            .arg("--no-instructions")
            .timeout(DEADLINE);
        self.service.exec(op, command).await.map(drop).action(format!("initialize the data directory {directory}"))
    }

    /// Runs statements in single-user mode, with all rights, while no server runs: the way in that is always open. It exits well although one of them fails.
    ///
    /// # Errors
    /// The program ended badly: another server runs on the data, or they are damaged.
    pub(super) async fn run_alone(&self, op: &Op, main_file: &Utf8Path, statements: &[SqlText]) -> Result<()> {
        let mut text = String::new();
        for statement in statements {
            text.push_str(statement.render().expose_secret());
            // Ends a statement with `-j`, whatever lines it has.
            text.push_str(";\n\n");
        }
        let command = self.command(op, "postgres").await?.args(["--single", "-j", "-c"]).arg(format!("config_file={main_file}"));
        let command = command.arg("postgres").stdin_secret(SecretString::from(text)).timeout(DEADLINE);
        // What it prints may have a statement in it.
        match self.service.exec(op, command).await {
            Ok(_) => Ok(()),
            Err(Error::Command { program, status, stderr }) => {
                let words = fatal(&stderr);
                Err(Error::Command { program, status, stderr: words })
            }
            Err(error) => Err(error),
        }
    }
}

/// The text of a message, without time and process: `2026-11-25 16:48:37.682 GMT [1594] LOG:  words`.
fn words<'a>(line: &'a str, levels: &[&str]) -> Option<&'a str> {
    levels.iter().find_map(|level| line.split_once(level)).map(|(_, text)| text.trim())
}

fn fatal(stderr: &str) -> String {
    stderr.lines().filter_map(|line| words(line, &["FATAL:", "PANIC:"])).collect::<Vec<_>>().join("; ")
}

fn objection(stderr: &str) -> Objection {
    let said: Vec<&str> = stderr.split(['\n', ';']).filter_map(|line| words(line, &["LOG:", "ERROR:", "FATAL:"])).collect();
    let name = |text: &&str| Some(text.strip_prefix("unrecognized configuration parameter \"")?.split_once('"')?.0.to_owned());
    let unknown: Vec<String> = said.iter().filter_map(name).collect();
    if !unknown.is_empty() {
        return Objection::Unknown(unknown);
    }
    let telling = said.iter().filter(|text| !text.starts_with("skipping missing configuration file") && !text.ends_with("contains errors"));
    let reasons: Vec<&str> = telling.take(4).copied().collect();
    Objection::Refused(if reasons.is_empty() { stderr.trim().to_owned() } else { reasons.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_understood() {
        assert_eq!(Version::parse("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(Version(15, 18)));
        assert_eq!(Version::parse("postgres (PostgreSQL) 18beta1"), Some(Version(18, 0)));
        assert_eq!(Version::parse("mysqld  Ver 9.7"), None);
    }

    #[test]
    fn objections_are_told_apart() {
        let stderr = "2026-11-25 16:48:37.682 GMT [1594] LOG:  skipping missing configuration file \"/d/postgresql.auto.conf\"\n\
            2026-11-25 16:48:37.682 GMT [1594] LOG:  unrecognized configuration parameter \"nonsense_one\" in file \"/e/postgresql.conf\" line 3\n\
            2026-11-25 16:48:37.682 GMT [1594] FATAL:  configuration file \"/e/postgresql.conf\" contains errors\n";
        assert_eq!(objection(stderr), Objection::Unknown(vec!["nonsense_one".into()]));
        let refused = "x GMT [1] LOG:  invalid value for parameter \"work_mem\": \"banana\"\nx GMT [1] FATAL:  configuration file \"/e\" contains errors\n";
        assert_eq!(objection(refused), Objection::Refused("invalid value for parameter \"work_mem\": \"banana\"".into()));
    }
}
