//! Which process is the server, across restarts of the agent: `server.pid` in the state folder.

use camino::{Utf8Path, Utf8PathBuf};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::system::service::StopSignal;
use crate::system::{files, leftovers};

/// One process, not only its number: numbers are used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerProcess {
    /// Process id.
    pub(super) pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks between boot and its start.
    start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`: start times begin anew with the guest.
    boot_id: String,
    /// True once it was told to end.
    pub(super) stopping: bool,
}

/// What the agent reads in `/proc/PID/stat` (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Field 3.
    state: char,
    /// Field 20.
    threads: u32,
    /// Field 22.
    start_time: u64,
}

impl Stat {
    /// The name before the fields may hold blanks and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        // The first of these is field 3.
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let state = fields.first()?.chars().next()?;
        Some(Stat { state, threads: fields.get(17)?.parse().ok()?, start_time: fields.get(19)?.parse().ok()? })
    }

    /// False for one that only waits to be reaped. While other threads are still ending, its files are open and locked.
    fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X') || self.threads > 1
    }
}

/// Whether a process that is told to end will do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    /// It takes SIGTERM, or waits for it while its main thread waits for clients.
    Good,
    /// It waits for SIGTERM, but its main thread does something else.
    Unclear,
    /// It blocks SIGTERM and does not wait for it yet.
    Deaf,
}

/// What the main thread of a server is in while it waits for clients.
const IDLE_CALLS: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    nix::libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    nix::libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    nix::libc::SYS_epoll_wait,
    nix::libc::SYS_ppoll,
    nix::libc::SYS_pselect6,
    nix::libc::SYS_epoll_pwait,
    nix::libc::SYS_accept,
    nix::libc::SYS_accept4,
];

/// The system call a thread waits in: the first word of its `syscall` file.
fn system_call(file: impl AsRef<std::path::Path>) -> Option<i64> {
    std::fs::read_to_string(file).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// True when `/proc/PID/status` says that the main thread does not take SIGTERM.
fn blocks_terminate(status: &str) -> bool {
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // Signal 1 is bit 0.
    mask & (1 << (Signal::SIGTERM as i32 - 1)) != 0
}

fn boot_id() -> Result<String> {
    let path = Utf8Path::new("/proc/sys/kernel/random/boot_id");
    Ok(files::read_optional(path)?.unwrap_or_default().trim().to_owned())
}

/// What tells the process with this number from every other one, over reboots too.
pub(in crate::system) fn identity(pid: i32) -> Option<String> {
    let ServerProcess { start_time, boot_id, .. } = ServerProcess::of(pid).ok()?;
    Some(format!("{pid}-{start_time}-{boot_id}"))
}

/// What tells one life of the guest from the next: its first process. A container that is started again has another one in the same boot of its host.
fn guest_life() -> Result<String> {
    identity(1).ok_or_else(|| Error::guest("the guest's first process cannot be looked at in /proc"))
}

impl ServerProcess {
    /// The process that has number `pid` now.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).action(format!("read /proc/{pid}/stat"))?;
        let stat = Stat::parse(&stat).ok_or_else(|| Error::guest(format!("/proc/{pid}/stat is not as expected: {stat}")))?;
        Ok(ServerProcess { pid, start_time: stat.start_time, boot_id: boot_id()?, stopping: false })
    }

    /// True while it runs; one that only waits to be reaped does not.
    pub(super) fn is_alive(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        Stat::parse(&stat).is_some_and(|stat| stat.start_time == self.start_time && stat.is_alive()) && self.is_of_this_boot()
    }

    /// False when the guest was rebooted since.
    pub(super) fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|now| now == self.boot_id)
    }

    /// Whether it can be asked to end. MariaDB and MySQL block SIGTERM and have a thread that waits for it; told to end before they
    /// serve, they hang for ever, half started (seen with MariaDB 10.11). MongoDB has such a thread, too, and ends whenever it is told.
    pub(super) fn hearing(&self, signal: StopSignal) -> Hearing {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let call = system_call(format!("/proc/{}/syscall", self.pid));
        match call {
            _ if !blocks_terminate(&status) => Hearing::Good,
            Some(call) if IDLE_CALLS.contains(&call) && self.waits_for_signals() => Hearing::Good,
            _ if self.waits_for_signals() && signal == StopSignal::TerminateAnyTime => Hearing::Good,
            _ if self.waits_for_signals() => Hearing::Unclear,
            _ => Hearing::Deaf,
        }
    }

    /// True when a thread is in sigwait(3) or one of its kin.
    fn waits_for_signals(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        threads.map(|thread| system_call(thread.path().join("syscall"))).any(|call| call == Some(nix::libc::SYS_rt_sigtimedwait))
    }

    /// Asks it to end. One that is gone has ended.
    pub(super) fn terminate(&self, signal: StopSignal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal.number()) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).action(format!("end the database server (pid {})", self.pid)),
        }
    }
}

/// The files the supervisor keeps.
#[derive(Debug)]
pub(super) struct Records {
    state_dir: Utf8PathBuf,
    /// Where the server's own messages go.
    log_file: Utf8PathBuf,
}

impl Records {
    pub(super) fn new(state_dir: Utf8PathBuf, log_file: Utf8PathBuf) -> Self {
        Records { state_dir, log_file }
    }

    /// `NAME=VALUE` in the environment of the server that belongs to these records.
    pub(super) fn mark(&self) -> (&'static str, String) {
        ("TROVE_GUESTAGENT_SERVER", format!("{} {}", self.state_dir, leftovers::namespace()))
    }

    /// A server of ours that runs without a record: the agent ended between starting it and writing that down.
    fn unrecorded(&self) -> Option<ServerProcess> {
        let (name, value) = self.mark();
        let mut found = leftovers::marked(&format!("{name}={value}"));
        found.extend(leftovers::writing_to(&self.log_file));
        // Of a server and what it has forked, the server is the oldest.
        found.into_iter().filter_map(|pid| ServerProcess::of(pid).ok()).min_by_key(|process| process.start_time)
    }

    fn process_file(&self) -> Utf8PathBuf {
        self.state_dir.join("server.pid")
    }

    fn enabled_file(&self) -> Utf8PathBuf {
        self.state_dir.join("server.enabled")
    }

    fn stopped_file(&self) -> Utf8PathBuf {
        self.state_dir.join("server.stopped")
    }

    /// Notes that the server stays down while the guest, or the container the agent is in, lives.
    pub(super) fn keep_stopped(&self) -> Result<()> {
        files::ensure_directory(&self.state_dir, 0o700, None)?;
        files::write_atomic(&self.stopped_file(), guest_life()?.as_bytes(), 0o600, None)
    }

    /// Takes the note away.
    pub(super) fn let_start(&self) -> Result<()> {
        files::remove(&self.stopped_file())
    }

    /// True while the note holds.
    pub(super) fn is_kept_stopped(&self) -> Result<bool> {
        let Some(noted) = files::read_optional(&self.stopped_file())? else { return Ok(false) };
        Ok(noted == guest_life()?)
    }

    /// The process written last. Something unreadable is nobody's process.
    pub(super) fn load(&self) -> Result<Option<ServerProcess>> {
        let Some(text) = files::read_optional(&self.process_file())? else { return Ok(self.unrecorded()) };
        Ok(Some(text).and_then(|text| match serde_json::from_str(&text) {
            Ok(process) => Some(process),
            Err(error) => {
                tracing::warn!(%error, file = %self.process_file(), "ignoring an unreadable record of the server's process");
                None
            }
        }))
    }

    pub(super) fn save(&self, process: &ServerProcess) -> Result<()> {
        files::ensure_directory(&self.state_dir, 0o700, None)?;
        let text = serde_json::to_vec(process).map_err(std::io::Error::from).action("describe the server's process")?;
        files::write_atomic(&self.process_file(), &text, 0o600, None)
    }

    pub(super) fn forget(&self) -> Result<()> {
        files::remove(&self.process_file())
    }

    pub(super) fn is_enabled(&self) -> Result<bool> {
        Ok(files::read_optional(&self.enabled_file())?.is_some())
    }

    pub(super) fn set_enabled(&self, enabled: bool) -> Result<()> {
        if !enabled {
            return files::remove(&self.enabled_file());
        }
        files::ensure_directory(&self.state_dir, 0o700, None)?;
        files::write_atomic(&self.enabled_file(), b"", 0o600, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_shift_the_fields() {
        let stat = Stat::parse("7 (a) S 1 (b) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 9 0 987654 1 2 3").unwrap();
        assert_eq!(stat, Stat { state: 'Z', threads: 9, start_time: 987_654 });
        assert!(stat.is_alive() && !Stat { threads: 1, ..stat }.is_alive());
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_blocked_signal() {
        assert!(blocks_terminate("SigQ:\t0/1\nSigBlk:\t0000000000087007\n"));
        assert!(!blocks_terminate("SigBlk:\t0000000000083007\n"));
        assert!(!blocks_terminate(""));
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let pid = std::process::id().cast_signed();
        let mut me = ServerProcess::of(pid).unwrap();
        assert!(me.is_alive() && identity(pid) == identity(pid) && identity(pid) != identity(1));
        me.start_time += 1;
        assert!(!me.is_alive());
    }

    #[test]
    fn records_survive_and_rubbish_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("state")).unwrap();
        let records = Records::new(path.clone(), path.join("server.log"));
        assert_eq!(records.load().unwrap(), None);
        let me = ServerProcess::of(std::process::id().cast_signed()).unwrap();
        records.save(&me).unwrap();
        assert_eq!(records.load().unwrap(), Some(me));
        std::fs::write(path.join("server.pid"), "{").unwrap();
        assert_eq!(records.load().unwrap(), None);
        assert!(!records.is_kept_stopped().unwrap());
        records.keep_stopped().unwrap();
        assert!(records.is_kept_stopped().unwrap());
        std::fs::write(path.join("server.stopped"), "1-2-of another boot").unwrap();
        assert!(!records.is_kept_stopped().unwrap());
        records.let_start().unwrap();
        records.set_enabled(true).unwrap();
        assert!(records.is_enabled().unwrap());
        records.set_enabled(false).unwrap();
        assert!(!records.is_enabled().unwrap());
    }
}
