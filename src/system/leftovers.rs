//! Ending what an operation left behind: in a container, or after the agent was killed.
//!
//! Ending `docker exec` does not end the program it started (the engine has no call for that), and a killed agent ends nothing. So such a
//! program gets a variable in its environment, and what still carries it when the operation is over is killed: the agent is root, and a container's
//! processes are the host's.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

/// Name of the variable of a [`Mark`].
const OPERATION: &str = "TROVE_GUESTAGENT_OPERATION";

/// Kills, when dropped, every process that carries its mark.
#[derive(Debug)]
pub(in crate::system) struct Mark(String);

impl Mark {
    pub(in crate::system) fn new() -> Self {
        Mark(format!("{OPERATION}={}", Uuid::new_v4()))
    }

    /// `NAME=VALUE`, for `--env`.
    pub(in crate::system) fn assignment(&self) -> &str {
        &self.0
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        kill_marked(&self.0);
    }
}

/// Kills every process that has this `NAME=VALUE` in its environment.
pub fn kill_marked(assignment: &str) {
    let marks = |pid: i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == assignment.as_bytes())
    };
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for pid in pids.filter(|pid| marks(*pid)) {
        // It may have ended in the meantime: that is what is wanted.
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
}
