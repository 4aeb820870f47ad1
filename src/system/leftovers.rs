//! Ending what an operation left behind: in a container, or after the agent was killed.
//!
//! Ending `docker exec` does not end the program it started (the engine has no call for that), and a killed agent ends nothing. So such a
//! program gets a variable in its environment, and what still carries it when the operation is over is killed: the agent is root, and a container's
//! processes are the host's.

use std::sync::OnceLock;
use std::time::Duration;

use camino::Utf8Path;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use uuid::Uuid;

use super::service::identity;

/// Name of the variable of a [`Mark`]. Its value begins with the identity of the agent.
const OPERATION: &str = "TROVE_GUESTAGENT_OPERATION";
/// Between the identity and the rest.
const REST: char = '/';
/// How long what was killed may take to go.
const GONE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// The namespace in which this process has its number, and its identity there: a guest that is a container is seen from its host, too, and its agent is
/// none of the host's.
fn own() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| format!("{}{REST}{}", namespace(), identity(std::process::id().cast_signed()).unwrap_or_default()))
}

/// `/proc/self/ns/pid`, such as `pid:[4026531836]`.
pub(in crate::system) fn namespace() -> String {
    std::fs::read_link("/proc/self/ns/pid").unwrap_or_default().to_string_lossy().into_owned()
}

/// The variable that a child of this agent gets: one that outlives it is found by that.
pub(in crate::system) fn of_this_agent() -> (&'static str, String) {
    (OPERATION, format!("{}{REST}", own()))
}

/// Kills, when dropped, every process that carries its mark.
#[derive(Debug)]
pub(in crate::system) struct Mark(String);

impl Mark {
    pub(in crate::system) fn new() -> Self {
        Mark(format!("{OPERATION}={}{REST}{}", own(), Uuid::new_v4()))
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

/// Variables of a process.
fn environment(pid: i32) -> Vec<Vec<u8>> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

fn all_processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
}

fn processes(wanted: impl Fn(&[u8]) -> bool) -> Vec<i32> {
    all_processes().filter(|pid| environment(*pid).iter().any(|variable| wanted(variable))).collect()
}

/// Processes of this namespace whose standard output and standard error are this file. (A program that writes its title over its environment, as Redis does,
/// carries no variable that could be seen.)
pub(in crate::system) fn writing_to(file: &Utf8Path) -> Vec<i32> {
    let file = file.canonicalize_utf8().unwrap_or_else(|_| file.to_owned());
    let own = namespace();
    let is = |pid: i32, name: &str, wanted: &str| {
        std::fs::read_link(format!("/proc/{pid}/{name}")).is_ok_and(|target| target.to_string_lossy() == wanted)
    };
    all_processes().filter(|pid| is(*pid, "fd/1", file.as_str()) && is(*pid, "fd/2", file.as_str()) && is(*pid, "ns/pid", &own)).collect()
}

/// Processes that have this `NAME=VALUE` in their environment.
pub(in crate::system) fn marked(assignment: &str) -> Vec<i32> {
    processes(|variable| variable == assignment.as_bytes())
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        // It may have ended in the meantime: that is what is wanted.
        kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
    }
}

/// Kills every process that has this `NAME=VALUE` in its environment.
pub fn kill_marked(assignment: &str) {
    kill_all(&marked(assignment));
}

/// True for the variable of a child whose agent has ended.
fn is_orphaned(variable: &[u8]) -> bool {
    let mark = std::str::from_utf8(variable).ok().and_then(|text| text.strip_prefix(OPERATION)?.strip_prefix('='));
    let Some((space, rest)) = mark.and_then(|mark| mark.split_once(REST)) else { return false };
    let Some((agent, _)) = rest.split_once(REST).filter(|_| space == namespace()) else { return false };
    let pid = agent.split('-').next().and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid| identity(pid).as_deref() != Some(agent))
}

/// Kills the programs that agents which were killed have left running, and waits until they are gone: the operation they belong to may begin anew.
/// The database server is none of them.
pub async fn kill_orphans() {
    let deadline = Instant::now() + GONE;
    loop {
        let orphans = processes(is_orphaned);
        if orphans.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            tracing::error!(pids = ?orphans, "programs that an earlier agent started cannot be ended");
            return;
        }
        kill_all(&orphans);
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_children_of_agents_that_have_ended_are_orphans() {
        let alive = format!("{OPERATION}={}{REST}", own());
        assert!(!is_orphaned(alive.as_bytes()));
        let (space, pid) = (namespace(), std::process::id());
        for orphan in [format!("{OPERATION}={space}{REST}{pid}-1-b{REST}x"), format!("{OPERATION}={space}{REST}4194304-1-b{REST}")] {
            assert!(is_orphaned(orphan.as_bytes()), "{orphan}");
        }
        // Of an agent in a container, whose process has this number there.
        let elsewhere = format!("{OPERATION}=pid:[1]{REST}{pid}-1-b{REST}");
        assert!(!is_orphaned(elsewhere.as_bytes()));
        for other in ["PATH=/bin", "TROVE_GUESTAGENT_OPERATION=", "TROVE_GUESTAGENT_OPERATION=x/y"] {
            assert!(!is_orphaned(other.as_bytes()), "{other}");
        }
    }
}
