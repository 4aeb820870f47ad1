//! Which process is the server, across restarts of the agent: `server.pid` in the state folder.

use camino::{Utf8Path, Utf8PathBuf};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::system::files;

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

/// State letter and start time in `/proc/PID/stat`. The name before them may hold blanks and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 3 was the state; 22 is the 18th after field 4.
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

fn boot_id() -> Result<String> {
    let path = Utf8Path::new("/proc/sys/kernel/random/boot_id");
    Ok(files::read_optional(path)?.unwrap_or_default().trim().to_owned())
}

impl ServerProcess {
    /// The process that has number `pid` now.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).action(format!("read /proc/{pid}/stat"))?;
        let (_, start_time) = parse_stat(&stat).ok_or_else(|| Error::guest(format!("/proc/{pid}/stat is not as expected: {stat}")))?;
        Ok(ServerProcess { pid, start_time, boot_id: boot_id()?, stopping: false })
    }

    /// True while it runs; one that only waits to be reaped does not.
    pub(super) fn is_alive(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        parse_stat(&stat).is_some_and(|(state, start_time)| start_time == self.start_time && !matches!(state, 'Z' | 'X'))
            && self.is_of_this_boot()
    }

    /// False when the guest was rebooted since.
    pub(super) fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|now| now == self.boot_id)
    }

    /// Asks it to end. One that is gone has ended.
    pub(super) fn terminate(&self) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), Signal::SIGTERM) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).action(format!("end the database server (pid {})", self.pid)),
        }
    }
}

/// The two files the supervisor keeps.
#[derive(Debug)]
pub(super) struct Records {
    state_dir: Utf8PathBuf,
}

impl Records {
    pub(super) fn new(state_dir: Utf8PathBuf) -> Self {
        Records { state_dir }
    }

    fn process_file(&self) -> Utf8PathBuf {
        self.state_dir.join("server.pid")
    }

    fn enabled_file(&self) -> Utf8PathBuf {
        self.state_dir.join("server.enabled")
    }

    /// The process written last. Something unreadable is nobody's process.
    pub(super) fn load(&self) -> Result<Option<ServerProcess>> {
        let text = files::read_optional(&self.process_file())?;
        Ok(text.and_then(|text| match serde_json::from_str(&text) {
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
        let stat = "7 (a) S 1 (b) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_stat(stat), Some(('R', 987_654)));
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_another_process() {
        let mut me = ServerProcess::of(std::process::id().cast_signed()).unwrap();
        assert!(me.is_alive());
        me.start_time += 1;
        assert!(!me.is_alive());
    }

    #[test]
    fn records_survive_and_rubbish_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("state")).unwrap();
        let records = Records::new(path.clone());
        assert_eq!(records.load().unwrap(), None);
        let me = ServerProcess::of(std::process::id().cast_signed()).unwrap();
        records.save(&me).unwrap();
        assert_eq!(records.load().unwrap(), Some(me));
        std::fs::write(path.join("server.pid"), "{").unwrap();
        assert_eq!(records.load().unwrap(), None);
        records.set_enabled(true).unwrap();
        assert!(records.is_enabled().unwrap());
        records.set_enabled(false).unwrap();
        assert!(!records.is_enabled().unwrap());
    }
}
