//! [`RunningCommand`]: a program whose standard input and output belong to its caller while it runs.

use std::any::Any;
use std::fmt;
use std::process::ExitStatus;

use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use super::command::{CommandOutput, CommandSpec, Group, spawn};
use super::output::{check, tail};
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;

/// A program at work, in a process group of its own. Dropping it kills the group; the runtime reaps the child.
pub struct RunningCommand {
    // Dropped first: while the child is not reaped, the group's number is nobody else's.
    group: Group,
    child: Child,
    command: CommandSpec,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: JoinHandle<Vec<u8>>,
    guards: Vec<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for RunningCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "running {:?}", self.command)
    }
}

impl RunningCommand {
    /// Starts a program. Its standard error is drained, and its end kept for messages.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub fn start(command: CommandSpec) -> Result<Self> {
        tracing::debug!(?command, "starting");
        let mut child = spawn(&command, true)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(RunningCommand {
            group: Group::of(&child),
            child,
            command,
            stdin,
            stdout,
            stderr: tokio::spawn(tail(stderr)),
            guards: Vec::new(),
        })
    }

    /// Keeps something until the program has ended: a mark, a file it reads.
    #[must_use]
    pub fn guarded_by(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guards.push(Box::new(guard));
        self
    }

    /// Its standard input; dropping it is the end of the input. `None` the second time.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Its standard output. `None` the second time.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// How it has ended; none while it runs.
    ///
    /// # Errors
    /// The operating system refused to tell.
    pub fn end_so_far(&mut self) -> Result<Option<ExitStatus>> {
        let action = format!("look at {}", self.command.name());
        self.child.try_wait().action(action)
    }

    /// Closes its input and waits for its end: to be called after the end of its output, or when nobody reads that.
    ///
    /// # Errors
    /// [`Error::Command`] for an exit code that is not accepted or a signal, [`Error::Timeout`] when it does not end in the command's time,
    /// [`Error::Cancelled`] with the operation. In each case the whole group is gone.
    pub async fn finish(mut self, op: &Op) -> Result<CommandOutput> {
        drop((self.stdin.take(), self.stdout.take()));
        let action = format!("run {}", self.command.name());
        let waited = tokio::select! {
            // Cancel-safe: whichever arm loses, the group is ended below.
            status = self.child.wait() => Some(status),
            () = tokio::time::sleep(self.command.time_limit()) => None,
            () = op.cancel.cancelled() => {
                self.end().await;
                return Err(Error::Cancelled { action });
            }
        };
        let Some(status) = waited else {
            let after = self.command.time_limit();
            let stderr = self.end().await;
            return Err(Error::Timeout { action, after, detail: String::from_utf8_lossy(&stderr).into_owned() });
        };
        let status = status.action(action)?;
        // Whatever the program left behind in its group goes with it, and so lets go of standard error.
        self.group.kill();
        let stderr = self.stderr.await.unwrap_or_default();
        check(&self.command, status, Vec::new(), stderr)
    }

    /// Asks a server to end, and waits for it as [`Self::finish`] does.
    ///
    /// # Errors
    /// Those of [`Self::finish`].
    pub async fn stop(self, op: &Op) -> Result<CommandOutput> {
        self.group.terminate();
        self.finish(op).await
    }

    /// Ends it: TERM, a grace period, KILL. Returns the end of its standard error.
    pub async fn end(self) -> Vec<u8> {
        let RunningCommand { group, mut child, stdin, stdout, stderr, guards, .. } = self;
        drop((stdin, stdout));
        group.end(&mut child).await;
        drop(guards);
        stderr.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::system::command::{CommandRunner, SystemCommands};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::sync::CancellationToken;

    fn op() -> Op {
        Op::internal(CancellationToken::new())
    }

    #[tokio::test]
    async fn input_and_output_stream_and_the_exit_status_is_known() {
        let mut running = RunningCommand::start(CommandSpec::new("cat")).unwrap();
        let (mut input, mut output) = (running.take_stdin().unwrap(), running.take_stdout().unwrap());
        input.write_all(b"once").await.unwrap();
        let mut some = [0; 4];
        output.read_exact(&mut some).await.unwrap();
        assert_eq!(&some, b"once");
        drop(input);
        assert_eq!(running.finish(&op()).await.unwrap().code, 0);
        let failed = RunningCommand::start(CommandSpec::new("ls").arg("/no/such")).unwrap().finish(&op()).await.unwrap_err();
        assert!(failed.to_string().contains("exit status: 2"), "{failed}");
    }

    #[tokio::test]
    async fn dropping_it_ends_the_whole_group() {
        let op = op();
        let mut running = RunningCommand::start(CommandSpec::new("timeout").args(["--foreground", "1000", "sleep", "997.25"])).unwrap();
        assert_eq!(running.end_so_far().unwrap(), None);
        drop(running);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let looking = || SystemCommands.run(&op, CommandSpec::new("pgrep").args(["-f", "sleep 997.2[5]"]).accept(&[1]));
        while looking().await.unwrap().code == 0 {
            assert!(tokio::time::Instant::now() < deadline, "it still runs");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn cancellation_ends_it() {
        let op = op();
        op.cancel.cancel();
        let error = RunningCommand::start(CommandSpec::new("sleep").arg("1000")).unwrap().finish(&op).await.unwrap_err();
        assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    }
}
