//! systemd's journal by its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), with the fields of oslo.log's `OSJournalHandler` (oslo_log/handlers.py).

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use super::record::Record;
use crate::error::{Result, ResultExt};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// What a datagram takes at most: the kernel's default for a socket's buffer is 208 KiB.
const LONGEST: usize = 64 * 1024;

/// An open connection.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    pub(super) fn connect(path: &str) -> Result<Self> {
        let action = || format!("write to systemd's journal (use_journal) at {path}");
        let socket = UnixDatagram::unbound().action(action())?;
        socket.connect(path).action(action())?;
        Ok(Journal(socket))
    }

    /// Best effort: there is nobody to tell.
    pub(super) fn write(&self, record: &Record) {
        self.0.send(&datagram(record)).ok();
    }
}

/// Each field `NAME=value` in a line, or, where the value has lines of its own, with its length in front.
fn datagram(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            out.push(b'=');
        }
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    };
    let mut words = record.words();
    words.truncate(words.floor_char_boundary(LONGEST));
    put("MESSAGE", &words);
    put("PRIORITY", &record.priority().to_string());
    put("SYSLOG_IDENTIFIER", "trove-guestagent");
    put("LOGGER_NAME", &record.logger);
    put("LOGGER_LEVEL", record.level_name());
    if let (Some(file), Some(line)) = (record.file, record.line) {
        put("CODE_FILE", file);
        put("CODE_LINE", &line.to_string());
    }
    if let Some(request) = &record.request {
        let ids =
            [("REQUEST_ID", &request.request_id), ("GLOBAL_REQUEST_ID", &request.global_request_id), ("PROJECT_ID", &request.project)];
        for (name, value) in ids.into_iter().chain([("METHOD", &request.method)]).filter(|(_, value)| !value.is_empty()) {
            put(name, value);
        }
    }
    out
}

/// Whether standard error ends in the journal, which then takes `<priority>` off each line (systemd.exec(5), `$JOURNAL_STREAM`; sd-daemon(3)).
pub(super) fn reads_standard_error() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(about) = nix::sys::stat::fstat(std::io::stderr().as_fd()) else { return false };
    stream == format!("{}:{}", about.st_dev, about.st_ino)
}
