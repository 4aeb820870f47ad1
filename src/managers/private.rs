//! A server that nobody else can reach, started by the agent for a while: to load a backup into, to look at one, to have a configuration read.

use std::time::Duration;

use camino::Utf8Path;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, MissedTickBehavior};

use super::lifecycle::{Answer, Ask};
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::files;
use crate::system::running::RunningCommand;

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);
/// Until one that was killed is gone.
const GONE: Duration = Duration::from_secs(30);

/// The end of its log, for an error.
pub fn log_end(log: &Utf8Path) -> String {
    let lines = files::last_lines(log, 0);
    if lines.is_empty() { lines } else { format!("; the end of its log: {lines}") }
}

/// Waits until it serves.
///
/// # Errors
/// It ended, refused, or did not serve in time; the end of its log is in the error.
pub async fn wait_until_up(op: &Op, running: &mut RunningCommand, server: &dyn Ask, wait: Duration, log: &Utf8Path) -> Result<()> {
    let deadline = Instant::now() + wait;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        op.until_cancelled("wait for a private database server", look.tick()).await?;
        let silence = match server.ask(op).await {
            Answer::Good => return Ok(()),
            Answer::Refused(error) => return Err(error),
            Answer::Busy(error) | Answer::None(error) => error,
        };
        if let Some(status) = running.end_so_far()? {
            return Err(Error::guest(format!("the private database server ended while it was starting ({status}){}", log_end(log))));
        }
        if Instant::now() >= deadline {
            let detail = format!("{silence}{}", log_end(log));
            return Err(Error::Timeout { action: "wait for a private database server".into(), after: wait, detail });
        }
    }
}

/// Ends every process that works in this directory: a server whose children outlive it, and look for its end when they next wait for something only.
///
/// # Errors
/// One cannot be ended.
pub async fn end_all_in(op: &Op, directory: &Utf8Path) -> Result<()> {
    let mut look = tokio::time::interval(LOOK);
    let gone = async {
        loop {
            look.tick().await;
            let left = working_in(directory);
            if left.is_empty() {
                return;
            }
            tracing::warn!(?left, %directory, "ending what an earlier private database server has left");
            for pid in left {
                // It may have ended in the meantime: that is what is wanted.
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
    };
    let ended = op.until_cancelled("end a private database server", tokio::time::timeout(GONE, gone)).await?;
    ended.map_err(|_| Error::guest(format!("the processes of a private database server in {directory} cannot be ended")))
}

/// Processes with this working directory.
fn working_in(directory: &Utf8Path) -> Vec<i32> {
    let Ok(processes) = Utf8Path::new("/proc").read_dir_utf8() else { return Vec::new() };
    let works_there = |entry: &camino::Utf8DirEntry| entry.path().join("cwd").read_link_utf8().is_ok_and(|cwd| cwd == *directory);
    processes.flatten().filter(works_there).filter_map(|entry| entry.file_name().parse().ok()).collect()
}

/// Ends one that an agent which was killed has left: the process in `pid_file`, if `sign` is in its command line.
///
/// # Errors
/// It cannot be ended.
pub async fn end_left_over(op: &Op, pid_file: &Utf8Path, sign: &Utf8Path) -> Result<()> {
    let pid = files::read_optional(pid_file)?.and_then(|text| text.trim().parse::<i32>().ok());
    let Some(pid) = pid.filter(|pid| *pid > 1) else { return Ok(()) };
    let is_ours = || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(sign.as_str()));
    if !is_ours() {
        return Ok(());
    }
    tracing::warn!(pid, "ending a private database server that an earlier agent has left");
    // It may have ended in the meantime: that is what is wanted.
    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    let mut look = tokio::time::interval(LOOK);
    let gone = async {
        while is_ours() {
            look.tick().await;
        }
    };
    let ended = op.until_cancelled("end a private database server", tokio::time::timeout(GONE, gone)).await?;
    ended.map_err(|_| Error::guest(format!("process {pid}, a private database server, cannot be ended")))
}
