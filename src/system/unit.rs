//! [`Unit`]: a program in a unit of its own, started by systemd at the agent's request.
//!
//! The unit of the agent confines it and its children: file systems that they mount are seen by nobody else, devices can be read only, and most of the guest is
//! read-only. The few programs that change the guest itself are run by systemd (systemd-run(1)), outside of all that. Where the agent is no service of systemd
//! nothing confines it, and they are its children like all others.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::command::{CommandOutput, CommandSpec, finished};
use super::leftovers;
use super::output::check;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;

/// Of the one unit that comes to its end: whoever finds it running waits.
const LASTING: &str = "trove-guestagent-packages.service";
/// Begins the names of the others.
const PREFIX: &str = "trove-guestagent-run-";
/// Between SIGTERM and SIGKILL to what is in a unit.
const STOP_SECONDS: u64 = 5;
/// How much longer than the program's deadline systemd may take to start it and to tell of its end.
const SLACK: Duration = Duration::from_secs(30);
/// How often to look whether the earlier unit has ended.
const LOOK: Duration = Duration::from_millis(250);
/// How long systemctl may fail to tell whether it has.
const BLIND: Duration = Duration::from_secs(300);
/// Where a program without a slash in its name is looked up, as systemd does it.
const PATH: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// With the agent, as confined as it is.
    Inside,
    /// In a unit that ends with the operation.
    Outside,
    /// In [`LASTING`].
    OutsideToItsEnd,
}

/// The unit of one program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unit {
    name: String,
    lasting: bool,
}

/// True for a service that tells systemd how it is (`Type=notify`), as the shipped unit is.
fn is_service() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| std::env::var_os("NOTIFY_SOCKET").is_some() && Path::new("/run/systemd/system").is_dir())
}

fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    PATH.iter().any(|directory| Path::new(directory).join(program).exists())
}

impl Unit {
    /// The unit that `command` needs; `None` for a child of the agent.
    pub(super) fn of(command: &CommandSpec) -> Option<Self> {
        if !is_service() {
            return None;
        }
        match command.place() {
            Place::Inside => None,
            Place::Outside => Some(Unit { name: format!("{PREFIX}{}.service", Uuid::new_v4().simple()), lasting: false }),
            Place::OutsideToItsEnd => Some(Unit { name: LASTING.to_owned(), lasting: true }),
        }
    }

    /// As [`super::command::CommandRunner::run`].
    pub(super) async fn run(&self, op: &Op, command: &CommandSpec) -> Result<CommandOutput> {
        let program = command.argv()[0].to_owned();
        if !is_there(&program) {
            return Err(std::io::Error::from(std::io::ErrorKind::NotFound)).action(format!("start {}", command.name()));
        }
        if self.lasting {
            self.wait_for_earlier(op, command).await?;
        }
        match finished(op, &self.client(command), command.name()).await {
            Ok((status, stdout, stderr)) => self.judge(command, status, stdout, &stderr),
            Err(error @ Error::Cancelled { .. }) if self.lasting => {
                tracing::warn!(unit = self.name, "cut short, but systemd brings it to its end");
                Err(error)
            }
            Err(error) => {
                self.stop().await;
                Err(error)
            }
        }
    }

    /// `systemd-run` with everything that the program is to have.
    fn client(&self, command: &CommandSpec) -> CommandSpec {
        let mut client = CommandSpec::new("systemd-run")
            .args(["--wait", "--pipe", "--collect", &format!("--unit={}", self.name)])
            .arg(format!("--description={} for the Trove guest agent", command.name()))
            .arg(format!("--property=TimeoutStopSec={STOP_SECONDS}"))
            // The deadline holds without the agent, too.
            .arg(format!("--property=RuntimeMaxSec={}", command.time_limit().as_secs().max(1)))
            .arg("--setenv=LC_ALL=C.UTF-8")
            .args(command.env_vars().map(|(name, value)| format!("--setenv={name}={value}")));
        if !self.lasting {
            // An agent that finds it after another was killed ends it.
            let (name, value) = leftovers::of_this_agent();
            client = client.arg(format!("--setenv={name}={value}"));
        }
        if let Some(user) = command.user() {
            client = client.arg(format!("--uid={user}"));
        }
        if let Some(input) = command.input() {
            client = client.stdin_secret(input.clone());
        }
        let said = [("SYSTEMD_LOG_LEVEL", "info"), ("SYSTEMD_LOG_TARGET", "console"), ("SYSTEMD_LOG_COLOR", "0")];
        let client = said.into_iter().fold(client, |client, (name, value)| client.env(name, value));
        client.timeout(command.time_limit() + SLACK).arg("--").args(command.argv())
    }

    /// The program's end, or why it never began: systemd-run ends with the program's status, or with one of its own.
    fn judge(&self, command: &CommandSpec, status: ExitStatus, stdout: Vec<u8>, stderr: &[u8]) -> Result<CommandOutput> {
        match self.without_client(&String::from_utf8_lossy(stderr)) {
            Some(said) => check(command, status, stdout, said.into_bytes()),
            None => Err(Error::Command {
                program: command.name().to_owned(),
                status: status.signal().map_or_else(|| status.to_string(), |signal| format!("signal: {signal}")),
                stderr: format!("systemd did not run it (is dbus installed?): {}", String::from_utf8_lossy(stderr).trim()),
            }),
        }
    }

    /// What the program wrote, between the words of systemd-run; `None` when that never ran it.
    fn without_client(&self, stderr: &str) -> Option<String> {
        let (before, rest) = stderr.split_once(&format!("Running as unit: {}", self.name))?;
        let rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        // The statistics come last.
        let rest = rest.rfind("Finished with result: ").and_then(|at| rest.get(..at)).unwrap_or(rest);
        Some(format!("{before}{rest}"))
    }

    /// Waits until what a cancelled operation or an earlier agent began has come to its end.
    async fn wait_for_earlier(&self, op: &Op, command: &CommandSpec) -> Result<()> {
        let deadline = Instant::now() + command.time_limit();
        let mut looks = tokio::time::interval(LOOK);
        let action = format!("wait for {}", self.name);
        let (mut waited, mut blind_since) = (false, None::<Instant>);
        loop {
            op.until_cancelled(&action, looks.tick()).await?;
            let show = CommandSpec::new("systemctl").args(["show", "--property=ActiveState", "--value", "--", &self.name]);
            let (status, state, said) = finished(op, &show, show.name()).await?;
            if status.success() && matches!(String::from_utf8_lossy(&state).trim(), "inactive" | "failed") {
                return Ok(());
            }
            // While its libraries are being replaced, systemctl does not run at all: that is no answer.
            blind_since = if status.success() { None } else { blind_since.or(Some(Instant::now())) };
            let is_blind = blind_since.is_some_and(|since| since.elapsed() >= BLIND);
            if is_blind || Instant::now() >= deadline {
                let detail = match blind_since {
                    Some(_) => format!("systemctl ({status}): {}", String::from_utf8_lossy(&said).trim()),
                    None => "packages are still being installed".to_owned(),
                };
                return Err(Error::Timeout { action, after: if is_blind { BLIND } else { command.time_limit() }, detail });
            }
            if !std::mem::replace(&mut waited, true) {
                tracing::info!(unit = self.name, "waiting for an earlier installation of packages to end");
            }
        }
    }

    /// Ends what is in the unit.
    async fn stop(&self) {
        let stop = CommandSpec::new("systemctl").args(["stop", "--", &self.name]).timeout(Duration::from_secs(STOP_SECONDS) + SLACK);
        if let Err(error) = finished(&Op::internal(CancellationToken::new()), &stop, stop.name()).await {
            tracing::error!(unit = self.name, %error, "a program that was cut short may still run");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Unit {
        Unit { name: format!("{PREFIX}x.service"), lasting: false }
    }

    #[test]
    fn the_program_keeps_its_arguments_variables_input_and_account() {
        let command = CommandSpec::new("mkfs.ext4")
            .args(["-m", "5", "/dev/vdb"])
            .env("A", "b c")
            .as_user("mysql")
            .stdin_secret("planted".into())
            .outside();
        let client = unit().client(&command.timeout(Duration::from_secs(7)));
        let argv = client.argv();
        assert_eq!(argv[0], "systemd-run");
        let end = argv.iter().position(|arg| *arg == "--").unwrap();
        assert_eq!(argv[end + 1..], ["mkfs.ext4", "-m", "5", "/dev/vdb"]);
        for option in ["--setenv=A=b c", "--uid=mysql", "--property=RuntimeMaxSec=7", "--wait", "--pipe", "--collect"] {
            assert!(argv[..end].contains(&option), "{option}: {argv:?}");
        }
        assert!(client.has_stdin() && !argv.iter().any(|arg| arg.contains("planted")));
    }

    #[test]
    fn only_what_ends_with_the_agent_is_marked_as_its_own() {
        let mark = |lasting| {
            let client = Unit { lasting, ..unit() }.client(&CommandSpec::new("true"));
            client.argv().iter().any(|arg| arg.contains(leftovers::of_this_agent().0))
        };
        assert_eq!((mark(false), mark(true)), (true, false));
    }

    #[test]
    fn the_words_of_the_client_are_left_out() {
        let ran = "umount: /x: not mounted.\nRunning as unit: trove-guestagent-run-x.service; invocation ID: 1\nmore\n\
                   Finished with result: exit-code\nMain processes terminated with: code=exited/status=32\nService runtime: 3ms\n";
        assert_eq!(unit().without_client(ran).unwrap(), "umount: /x: not mounted.\nmore\n");
        assert_eq!(unit().without_client("Running as unit: trove-guestagent-run-x.service").unwrap(), "");
        assert_eq!(unit().without_client("Failed to connect to bus: No such file or directory\n"), None);
    }

    #[test]
    fn nothing_is_run_outside_of_what_does_not_confine_it() {
        // Tests are no service.
        assert_eq!(Unit::of(&CommandSpec::new("mount").outside()), None);
    }
}
