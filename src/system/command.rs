//! Running programs: an argv vector with typed secrets, its own process group, a deadline, bounded output.
//!
//! The only place in the agent that may start a process. There is no shell and no command string anywhere.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::SecretString;
use tokio::process::Child;

use super::leftovers;
use super::output::{self, Finished};
use super::running::RunningCommand;
use super::unit::{Place, Unit};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;

/// How long a program may take unless its [`CommandSpec`] says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Between SIGTERM and SIGKILL to the group.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// Of nice(1): nobody is behind.
const LAST_PLACE: i32 = 19;

/// A program and its arguments. Secrets never belong in the arguments: they go by [`CommandSpec::stdin_secret`].
#[derive(Clone)]
pub struct CommandSpec {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Option<SecretString>,
    timeout: Duration,
    accepted: Vec<i32>,
    background: bool,
    user: Option<String>,
    place: Place,
}

impl fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg:?}"))
    }
}

impl CommandSpec {
    /// `program`, looked up on the `PATH` unless it holds a slash.
    pub fn new(program: impl Into<String>) -> Self {
        CommandSpec {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            timeout: DEFAULT_TIMEOUT,
            accepted: vec![0],
            background: false,
            user: None,
            place: Place::Inside,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<str>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable in the program's environment. Not for secrets: `/proc/PID/environ` shows them.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// What the program reads on standard input (otherwise `/dev/null`).
    #[must_use]
    pub fn stdin_secret(mut self, text: SecretString) -> Self {
        self.stdin = Some(text);
        self
    }

    /// How long the program may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The program works for nobody who waits: everything else on the machine goes first (nice 19).
    #[must_use]
    pub fn in_background(mut self) -> Self {
        self.background = true;
        self
    }

    /// The account the program runs as, its own group and no other; the agent's when this is not called.
    #[must_use]
    pub fn as_user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// Takes [`CommandSpec::as_user`] back: a wrapper sees to it.
    #[must_use]
    pub fn as_agent(mut self) -> Self {
        self.user = None;
        self
    }

    /// The account of [`CommandSpec::as_user`].
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The program does what the agent's unit forbids (it mounts, it writes to devices): where the agent is a service of systemd, the program is one, too. It
    /// ends with its operation all the same. For [`CommandRunner::run`].
    #[must_use]
    pub fn outside(mut self) -> Self {
        self.place = Place::Outside;
        self
    }

    /// Likewise, and nothing but its own deadline ends it, neither the operation nor the agent: half of an installation of packages is worse than a late
    /// one. One such program runs at a time.
    #[must_use]
    pub fn outside_to_its_end(mut self) -> Self {
        self.place = Place::OutsideToItsEnd;
        self
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The variables of [`CommandSpec::env`].
    pub(super) fn env_vars(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What [`CommandSpec::stdin_secret`] has been given.
    pub(super) fn input(&self) -> Option<&SecretString> {
        self.stdin.as_ref()
    }

    /// Exit codes that are not failures, besides 0.
    #[must_use]
    pub fn accept(mut self, codes: &[i32]) -> Self {
        self.accepted.extend_from_slice(codes);
        self
    }

    /// The deadline of [`CommandSpec::timeout`].
    pub(super) fn time_limit(&self) -> Duration {
        self.timeout
    }

    /// File name of the program, for messages.
    pub fn name(&self) -> &str {
        self.program.rsplit('/').next().unwrap_or(&self.program)
    }

    /// True when the program reads something on standard input.
    pub fn has_stdin(&self) -> bool {
        self.stdin.is_some()
    }

    /// True for an exit code that is no failure.
    pub fn accepts(&self, code: i32) -> bool {
        self.accepted.contains(&code)
    }

    /// Names of the variables set with [`CommandSpec::env`].
    pub fn env_names(&self) -> impl Iterator<Item = &str> {
        self.env.iter().map(|(name, _)| name.as_str())
    }

    /// The argument vector, program first (for tests and for wrapping in another program).
    pub fn argv(&self) -> Vec<&str> {
        std::iter::once(self.program.as_str()).chain(self.args.iter().map(String::as_str)).collect()
    }

    /// The same arguments, stdin, deadline and accepted codes for another program, `args` before them: for a wrapper that wants
    /// the program's name in an option of its own.
    #[must_use]
    pub fn replace_program(mut self, program: impl Into<String>, mut args: Vec<String>) -> Self {
        self.program = program.into();
        args.append(&mut self.args);
        self.args = args;
        self
    }

    /// The same program run by another: `wrapper` and its arguments come first. Keeps stdin, deadline and accepted codes.
    #[must_use]
    pub fn wrapped_by<I, S>(mut self, wrapper: impl Into<String>, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut all: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        all.push(std::mem::replace(&mut self.program, wrapper.into()));
        all.append(&mut self.args);
        self.args = all;
        self
    }
}

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// Exit code; one of the accepted ones.
    pub code: i32,
    /// Standard output, lossily decoded, at most 8 MiB.
    pub stdout: String,
    /// The last 64 KiB of standard error.
    pub stderr: String,
}

/// Starts programs. A trait so that tests can assert argument vectors.
#[async_trait]
pub trait CommandRunner: Send + Sync + fmt::Debug {
    /// Runs `command` to its end.
    ///
    /// # Errors
    /// [`Error::Command`] for an exit code that is not accepted or a signal, [`Error::Timeout`] after its deadline,
    /// [`Error::Cancelled`] with the operation, [`Error::Io`] when it cannot be started. In each case the whole process group is gone.
    async fn run(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput>;

    /// Starts `command` and leaves its standard input and output to the caller. Its deadline counts from the call of
    /// [`RunningCommand::finish`].
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    fn spawn(&self, command: CommandSpec) -> Result<RunningCommand> {
        RunningCommand::start(command)
    }
}

/// The real thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemCommands;

#[async_trait]
impl CommandRunner for SystemCommands {
    async fn run(&self, op: &Op, command: CommandSpec) -> Result<CommandOutput> {
        tracing::debug!(?command, "running");
        match Unit::of(&command) {
            Some(unit) => unit.run(op, &command).await,
            None => {
                let (status, stdout, stderr) = finished(op, &command, command.name()).await?;
                output::check(&command, status, stdout, stderr)
            }
        }
    }
}

/// Runs a child to its end; in errors it is called `name`. Boxed: it has the buffers of two pipes.
pub(super) fn finished<'a>(op: &'a Op, command: &'a CommandSpec, name: &'a str) -> BoxFuture<'a, Result<Finished>> {
    Box::pin(run_child(op, command, name))
}

async fn run_child(op: &Op, command: &CommandSpec, name: &str) -> Result<Finished> {
    let action = || format!("run {name}");
    let mut child = spawn(command, command.has_stdin())?;
    let group = Group::of(&child);
    let output = tokio::select! {
        // Cancel-safe: whichever arm loses, the group is ended below.
        output = output::collect(&mut child, command.stdin.as_ref()) => Some(output),
        () = tokio::time::sleep(command.timeout) => None,
        () = op.cancel.cancelled() => {
            group.end(&mut child).await;
            return Err(Error::Cancelled { action: action() });
        }
    };
    let Some(output) = output else {
        group.end(&mut child).await;
        return Err(Error::Timeout { action: action(), after: command.timeout, detail: String::new() });
    };
    let output = output.action(action())?;
    // Whatever the program left behind in its group goes with it.
    group.kill();
    Ok(output)
}

/// Supplementary groups go with the user (std's `Command::uid`, for root).
fn run_as(starting: &mut tokio::process::Command, command: &CommandSpec) -> Result<()> {
    if let Some(name) = &command.user {
        let (uid, gid) = super::files::owner_ids(name)?;
        starting.uid(uid.as_raw()).gid(gid.as_raw());
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
pub(super) fn spawn(command: &CommandSpec, input: bool) -> Result<Child> {
    let (mark, agent) = leftovers::of_this_agent();
    let mut starting = tokio::process::Command::new(&command.program);
    run_as(&mut starting, command)?;
    let child = starting
        .args(&command.args)
        .env(mark, agent)
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        // Messages are matched nowhere, but operators read them in logs: one language.
        .env("LC_ALL", "C.UTF-8")
        // The agent's own line to systemd: a database server would report itself ready, or stopping, over it.
        .env_remove("NOTIFY_SOCKET")
        .stdin(if input { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .action(format!("start {}", command.name()))?;
    share_risk(&child);
    if command.background {
        // Its threads come later and inherit this. Without it the program is no less right.
        let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        rustix::process::setpriority_process(pid, LAST_PLACE).ok();
    }
    Ok(child)
}

/// Starts a server that outlives the agent: in a process group of its own, without standard input, its output appended to
/// `output`. Nothing ends it when the child is dropped; the runtime reaps it once it has ended.
///
/// # Errors
/// [`Error::Io`] when it cannot be started.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
pub fn spawn_detached(command: &CommandSpec, output: std::fs::File) -> Result<Child> {
    let action = format!("start {}", command.name());
    let errors = output.try_clone().action(action.as_str())?;
    let mut starting = tokio::process::Command::new(&command.program);
    run_as(&mut starting, command)?;
    let child = starting
        .args(&command.args)
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .env_remove("NOTIFY_SOCKET")
        // The agent's own directory may be one that is to be unmounted.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .action(action)?;
    share_risk(&child);
    Ok(child)
}

/// When memory runs out the kernel ends other programs before the agent (`OOMScoreAdjust` of its unit). What it starts inherits that, and must
/// not: a dump or a private server takes the memory, the agent does not. Without it the program is no less right.
fn share_risk(child: &Child) {
    if let Some(pid) = child.id() {
        std::fs::write(format!("/proc/{pid}/oom_score_adj"), "0").ok();
    }
}

/// A child's process group; killed when dropped, so that no grandchild outlives the operation.
pub(super) struct Group(Option<Pid>);

impl Group {
    pub(super) fn of(child: &Child) -> Self {
        Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // The group may be gone already: that is what is wanted.
            killpg(pid, signal).ok();
        }
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    pub(super) fn kill(self) {
        drop(self);
    }

    /// TERM, a grace period, KILL, and the child reaped.
    pub(super) async fn end(self, child: &mut Child) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(KILL_GRACE, child.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            child.wait().await.ok();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;

    fn op() -> Op {
        Op::internal(CancellationToken::new())
    }

    #[tokio::test]
    async fn stdin_reaches_the_program_and_output_comes_back() {
        let spec = CommandSpec::new("cat").stdin_secret("planted".into());
        assert_eq!(SystemCommands.run(&op(), spec).await.unwrap().stdout, "planted");
    }

    #[tokio::test]
    async fn a_failure_names_program_status_and_reason() {
        let error = SystemCommands.run(&op(), CommandSpec::new("ls").arg("/no/such")).await.unwrap_err();
        assert!(error.to_string().starts_with("ls failed (exit status: 2): ls: cannot access '/no/such'"), "{error}");
    }

    #[tokio::test]
    async fn a_deadline_ends_the_whole_group() {
        // `timeout` runs `sleep` as its own child: a grandchild of ours.
        let spec = CommandSpec::new("timeout").args(["--foreground", "1000", "sleep", "998.25"]).timeout(Duration::from_millis(300));
        let error = SystemCommands.run(&op(), spec).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        let left = SystemCommands.run(&op(), CommandSpec::new("pgrep").args(["-f", "sleep 998.2[5]"]).accept(&[1])).await.unwrap();
        assert_eq!(left.stdout, "");
    }

    #[tokio::test]
    async fn cancellation_is_an_error_of_its_own() {
        let op = op();
        op.cancel.cancel();
        let error = SystemCommands.run(&op, CommandSpec::new("sleep").arg("1000")).await.unwrap_err();
        assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    }

    #[test]
    fn wrapping_puts_the_wrapper_first() {
        let spec = CommandSpec::new("mysqld").arg("--help").wrapped_by("docker", ["exec", "database"]);
        assert_eq!(spec.argv(), ["docker", "exec", "database", "mysqld", "--help"]);
    }
}
