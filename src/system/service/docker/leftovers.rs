//! Ending what a program left behind in a container.
//!
//! Ending `docker exec` does not end the program it started (the engine has no call for that). So each gets a random variable in
//! its environment, and what still carries it when the operation is over is killed from here: the agent is root on the engine's
//! host, and the container's processes are the host's.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

/// Name of the variable.
const VARIABLE: &str = "TROVE_GUESTAGENT_OPERATION";

/// Kills, when dropped, every process that carries its mark.
#[derive(Debug)]
pub(super) struct Mark(String);

impl Mark {
    pub(super) fn new() -> Self {
        Mark(format!("{VARIABLE}={}", Uuid::new_v4()))
    }

    /// `NAME=VALUE`, for `--env`.
    pub(super) fn assignment(&self) -> &str {
        &self.0
    }

    fn marks(&self, pid: i32) -> bool {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == self.0.as_bytes())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids.filter(|pid| self.marks(*pid)) {
            // It may have ended in the meantime: that is what is wanted.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}
