//! The server's program: its version, the options it knows, whether it takes a configuration, and a new data directory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::sync::Mutex;

use super::flavor::Flavor;
use crate::codec::my_cnf::normalize;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::{CommandOutput, CommandSpec};
use crate::system::service::ServiceControl;

/// A fresh data directory: some servers make their keys and 100 MB of logs.
const INITIALIZE_DEADLINE: Duration = Duration::from_secs(600);

/// The server's program on this guest, or in its container.
#[derive(Debug)]
pub(super) struct ServerProgram {
    service: Arc<dyn ServiceControl>,
    owner: &'static str,
    candidates: Vec<Utf8PathBuf>,
    found: Mutex<Option<(String, Flavor)>>,
}

impl ServerProgram {
    pub(super) fn new(service: Arc<dyn ServiceControl>, owner: &'static str, candidates: Vec<Utf8PathBuf>) -> ServerProgram {
        ServerProgram { service, owner, candidates, found: Mutex::default() }
    }

    /// Path and version; looked for until it is found.
    async fn program(&self, op: &Op) -> Result<(String, Flavor)> {
        let mut found = self.found.lock().await;
        if let Some(known) = &*found {
            return Ok(known.clone());
        }
        for name in self.candidates.iter().map(|path| path.as_str()) {
            let output = self.service.exec(op, CommandSpec::new(name).arg("--version")).await;
            if let Some(flavor) = output.ok().and_then(|output| Flavor::parse_program_version(&output.stdout)) {
                return Ok(found.insert((name.to_owned(), flavor)).clone());
            }
        }
        Err(Error::guest(format!(
            "no database server is installed: none of {} runs",
            self.candidates.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(", ")
        )))
    }

    /// Looks again: another one may be installed now.
    pub(super) async fn forget(&self) {
        *self.found.lock().await = None;
    }

    /// Kind and version of the installed program.
    pub(super) async fn flavor(&self, op: &Op) -> Result<Flavor> {
        self.program(op).await.map(|(_, flavor)| flavor)
    }

    /// A command of the server's program; `first` must come before every other option.
    pub(super) async fn command(&self, op: &Op, first: &str) -> Result<CommandSpec> {
        let (program, _) = self.program(op).await?;
        Ok(CommandSpec::new(program).arg(first).arg(format!("--user={}", self.owner)))
    }

    /// The options the program knows.
    pub(super) async fn known_options(&self, op: &Op) -> Result<KnownOptions> {
        let (_, flavor) = self.program(op).await?;
        let command = self.command(op, "--no-defaults").await?.args(["--verbose", "--help"]);
        let output = self.service.exec(op, command).await.action("list the server's options")?;
        // MySQL has given up shortened names.
        Ok(KnownOptions { numeric: parse_help(&output.stdout), shortened: flavor.is_mariadb() || flavor.version < (5, 7, 0) })
    }

    /// Lets the server read a configuration without starting, and say what it makes of it.
    ///
    /// # Errors
    /// It refuses something; its words are in the error.
    pub(super) async fn read(&self, op: &Op, file: &Utf8Path) -> Result<Reading> {
        let directory = file.parent().unwrap_or(file);
        if !self.service.shares(op, directory).await? {
            return Err(Error::guest(format!(
                "the container of the database does not have {directory}, so its configuration cannot be changed from here: make it \
                 again with config_dir, mount_point and the directory of the socket as volumes at the same paths, or let the agent make one"
            )));
        }
        let (_, flavor) = self.program(op).await?;
        let mut heard = String::new();
        if !flavor.is_mariadb() && flavor.version >= (8, 0, 16) {
            // Its `--help` lets wrong values pass.
            let command =
                self.command(op, &format!("--defaults-file={file}")).await?.args(["--validate-config", "--log-error-verbosity=2"]);
            heard = self.ask(op, command).await?.stderr;
        }
        let output = self.ask(op, self.command(op, &format!("--defaults-file={file}")).await?.args(["--verbose", "--help"])).await?;
        heard.push_str(&output.stderr);
        Ok(Reading { values: parse_values(&output.stdout), adjusted: heard.lines().filter_map(parse_adjusted).collect() })
    }

    async fn ask(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        let output = self.service.exec(op, command).await.map_err(|error| match error {
            Error::Command { stderr, .. } => Error::bad_request(format!("the server refuses the configuration: {}", reasons(&stderr))),
            other => other,
        })?;
        match refusal(&output) {
            Some(reason) => Err(Error::bad_request(format!("the server refuses the configuration: {reason}"))),
            None => Ok(output),
        }
    }

    /// Fills an empty data directory. `tmp_dir` is for when another server may be running: one that starts removes the temporary tables it finds.
    pub(super) async fn initialize(&self, op: &Op, file: &Utf8Path, data_dir: &Utf8Path, tmp_dir: Option<&Utf8Path>) -> Result<()> {
        let (_, flavor) = self.program(op).await?;
        let defaults = format!("--defaults-file={file}");
        let command = if flavor.is_mariadb() || flavor.version < (5, 7, 6) {
            let modern = flavor.is_mariadb() && flavor.version >= (10, 4, 6);
            let tool = CommandSpec::new(if modern { "mariadb-install-db" } else { "mysql_install_db" });
            // A guest's host name need not resolve; accounts of that name are dropped later anyway.
            let tool = tool.arg(&defaults).arg(format!("--user={}", self.owner)).arg("--force");
            if modern { tool.arg("--skip-test-db") } else { tool }
        } else {
            self.command(op, &defaults).await?.arg("--initialize-insecure")
        };
        let tmp_dir = tmp_dir.map(|directory| format!("--tmpdir={directory}"));
        let command = command.arg(format!("--datadir={data_dir}")).args(tmp_dir).timeout(INITIALIZE_DEADLINE);
        self.service.exec(op, command).await.map(drop).action(format!("initialize the data directory {data_dir}"))
    }
}

/// MariaDB's `--help` ends well after some refusals it only prints.
fn refusal(output: &CommandOutput) -> Option<String> {
    let refused = |line: &&str| line.contains("[ERROR]");
    output.stderr.lines().any(|line| refused(&line)).then(|| reasons(&output.stderr))
}

/// The lines that say why, without their time stamps.
fn reasons(stderr: &str) -> String {
    let all: Vec<&str> = stderr.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors: Vec<&str> = all.iter().filter_map(|line| line.split_once("[ERROR]").map(|(_, text)| text.trim())).collect();
    let lines = if errors.is_empty() { &all } else { &errors };
    lines.iter().take(4).copied().collect::<Vec<_>>().join("; ")
}

/// What a server makes of a configuration.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The value of every option, as `--help` shows it.
    pub(super) values: HashMap<String, String>,
    /// Values out of range, which the server replaces by the nearest that is not.
    pub(super) adjusted: Vec<Adjusted>,
}

/// A value the server does not take as it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Adjusted {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// `option 'max_connections': unsigned value 99999999 adjusted to 100000`.
fn parse_adjusted(line: &str) -> Option<Adjusted> {
    let (name, rest) = line.split_once("option '")?.1.split_once("': ")?;
    let (from, to) = rest.split_once("value ")?.1.split_once(" adjusted to ")?;
    let plain = |text: &str| text.trim().trim_end_matches('.').trim_matches('\'').to_owned();
    Some(Adjusted { name: normalize(name), from: plain(from), to: plain(to) })
}

/// The table at the end of the help: names, blanks, values.
fn parse_values(help: &str) -> HashMap<String, String> {
    let table =
        help.lines().skip_while(|line| !line.starts_with("Variables (--")).skip(1).skip_while(|line| !line.starts_with("---")).skip(1);
    let rows = table.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(' '));
    rows.map(|(name, value)| (normalize(name), value.trim_start().to_owned())).collect()
}

/// The options of a server, in the form of [`normalize`].
#[derive(Debug, Default)]
pub(super) struct KnownOptions {
    /// Whether an option takes a number.
    numeric: HashMap<String, bool>,
    /// Whether the beginning of a name that only one option has will do.
    shortened: bool,
}

impl KnownOptions {
    /// The option `name` stands for, however it is written: in full, negated or qualified, or shortened; and whether it takes a number.
    fn find(&self, name: &str) -> Option<(&str, bool)> {
        let name = normalize(name);
        let name = name.strip_prefix("loose_").unwrap_or(&name);
        let exactly = |name: &str| self.numeric.get_key_value(name).map(|(name, numeric)| (name.as_str(), *numeric));
        if let Some(found) = exactly(name) {
            return Some(found);
        }
        if let Some((found, _)) = ["skip_", "disable_", "enable_"].iter().find_map(|prefix| exactly(name.strip_prefix(prefix)?)) {
            return Some((found, false));
        }
        if let Some(rest) = name.strip_prefix("maximum_") {
            return exactly(rest);
        }
        let mut longer = self.numeric.iter().filter(|(option, _)| self.shortened && option.starts_with(name));
        longer.next().filter(|_| longer.next().is_none()).map(|(name, numeric)| (name.as_str(), *numeric))
    }

    /// The server's own name of an option.
    pub(super) fn canonical(&self, name: &str) -> Option<String> {
        self.find(name).map(|(name, _)| name.to_owned())
    }

    /// True when the server understands `name`. A `loose-` one is never an error.
    pub(super) fn contains(&self, name: &str) -> bool {
        normalize(name).starts_with("loose_") || self.find(name).is_some()
    }

    /// False for text where a number must stand: servers take that for zero, and go on.
    pub(super) fn accepts(&self, name: &str, value: &str) -> bool {
        let number = value.strip_suffix(['K', 'M', 'G', 'T', 'P', 'E', 'k', 'm', 'g', 't', 'p', 'e']).unwrap_or(value);
        !self.find(name).is_some_and(|(_, numeric)| numeric) || number.trim().parse::<f64>().is_ok_and(f64::is_finite)
    }
}

/// Options are listed as `  --name`, `  --name=type` (`#` for a number) or `  -x, --name`.
fn parse_help(help: &str) -> HashMap<String, bool> {
    help.lines()
        .filter_map(|line| {
            let line = line.strip_prefix("  ")?;
            let long = match line.split_once(", ") {
                Some((short, long)) if short.len() == 2 && short.starts_with('-') => long,
                _ => line,
            };
            let text = long.strip_prefix("--")?;
            let name = text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).next()?;
            (!name.is_empty()).then(|| (normalize(name), text.strip_prefix(name).is_some_and(|rest| rest.starts_with("=#"))))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "mysqld  Ver 1\n  -b, --basedir=name  Path to --other\n  --big-tables        Text\n                      (use --skip-x)\n\
        \x20 --max-connections=# \n  --skip-name-resolve \n  --validate-password.length=#\nVariables (--variable-name=value)\nzzz 1\n";

    #[test]
    fn help_gives_the_names() {
        let mut known = KnownOptions { numeric: parse_help(HELP), shortened: true };
        let mut names: Vec<_> = known.numeric.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["basedir", "big_tables", "max_connections", "skip_name_resolve", "validate_password.length"]);
        for good in
            ["max_connections", "max-connections", "skip-big-tables", "skip-name-resolve", "max_conn", "loose-x", "maximum-max-connections"]
        {
            assert!(known.contains(good), "{good}");
        }
        for bad in ["query_cache_size", "b", "skip-query-cache"] {
            assert!(!known.contains(bad), "{bad}");
        }
        assert!(known.accepts("max-connections", "16M") && known.accepts("basedir", "many") && known.accepts("max_connections", "0.5"));
        assert!(!known.accepts("max_connections", "many") && !known.accepts("max_conn", "1x") && !known.accepts("max_connections", "inf"));
        known.shortened = false;
        assert!(!known.contains("max_conn"));
    }

    #[test]
    fn what_the_server_says_of_a_configuration_is_understood() {
        let table = "x y\nVariables (--variable-name=value)\nand boolean options {FALSE|TRUE}  Value (after reading options)\n------- -----\n\
            general-log                  TRUE\ninit-connect                 SET x = 'a b'\ninit-file (No default value)\n\nTo see\n";
        let values = parse_values(table);
        assert_eq!((values["general_log"].as_str(), values["init_connect"].as_str(), values.len()), ("TRUE", "SET x = 'a b'", 3));
        let adjusted = |from: &str, to: &str| Some(Adjusted { name: "max_connections".into(), from: from.into(), to: to.into() });
        assert_eq!(
            parse_adjusted(
                "2026-11-25T13:29:21Z 0 [Warning] [MY-000081] [Server] option 'max_connections': unsigned value 99999999 adjusted to 100000."
            ),
            adjusted("99999999", "100000")
        );
        assert_eq!(
            parse_adjusted("0 [Warning] Buffered warning: option 'max-connections': signed value -1 adjusted to 10"),
            adjusted("-1", "10")
        );
        assert_eq!(parse_adjusted("Changed limits: max_connections: 16770 (was 100000)"), None);
    }

    #[test]
    fn reasons_are_the_errors() {
        let text = "2026-01-01T00:00:00Z 0 [Warning] x\n2026-01-01T00:00:00Z 0 [ERROR] [MY-000067] [Server] unknown variable 'a=1'.\n2026 0 [ERROR] Aborting\n";
        assert_eq!(reasons(text), "[MY-000067] [Server] unknown variable 'a=1'.; Aborting");
        assert_eq!(reasons("plain"), "plain");
    }
}
