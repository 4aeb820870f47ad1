//! The log file. It is opened anew when it is asked for (SIGHUP), and with `watch_log_file` when another file, or none, is at its path.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Result, ResultExt};

/// Has the log file opened anew; does nothing when there is none.
#[derive(Debug, Clone, Default)]
pub struct Reopen(Option<Arc<Mutex<Open>>>);

impl Reopen {
    /// Opens the file at the log's path, which is made if it is gone.
    ///
    /// # Errors
    /// It cannot be opened; lines go where they went then.
    pub fn now(&self) -> Result<()> {
        let Some(open) = &self.0 else { return Ok(()) };
        let mut open = open.lock().expect("never poisoned: no panics while held");
        let action = format!("open the log file {} anew", open.path);
        open.again().action(action)
    }
}

#[derive(Debug)]
pub(super) struct LogFile {
    open: Arc<Mutex<Open>>,
    watch: bool,
}

#[derive(Debug)]
struct Open {
    path: Utf8PathBuf,
    file: File,
    /// Device and number of the file.
    identity: (u64, u64),
}

impl Open {
    fn at(path: &Utf8Path) -> io::Result<Self> {
        // What is in it is nobody else's business; one that is there keeps its mode.
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
        let about = file.metadata()?;
        Ok(Open { path: path.to_owned(), identity: (about.dev(), about.ino()), file })
    }

    fn again(&mut self) -> io::Result<()> {
        *self = Open::at(&self.path)?;
        Ok(())
    }

    fn is_elsewhere(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |about| (about.dev(), about.ino()) != self.identity)
    }
}

impl LogFile {
    /// Opens it; its directory is made. With `watch` it is looked at before each line.
    pub(super) fn open(path: &Utf8Path, watch: bool) -> Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).action(format!("create {directory}"))?;
        }
        let open = Open::at(path).action(format!("open the log file {path}"))?;
        Ok(LogFile { open: Arc::new(Mutex::new(open)), watch })
    }

    pub(super) fn reopen(&self) -> Reopen {
        Reopen(Some(Arc::clone(&self.open)))
    }

    /// Best effort: a full disk must not stop the agent.
    pub(super) fn write(&self, line: &str) {
        let mut open = self.open.lock().expect("never poisoned: no panics while held");
        if self.watch && open.is_elsewhere() {
            // As long as it cannot be made (its directory is gone), lines go where they went.
            open.again().ok();
        }
        // In one piece, so that two processes' lines do not mix.
        open.file.write_all(line.as_bytes()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Utf8Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_renamed_file_is_left_when_it_is_asked_for_or_watched() {
        let guard = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(guard.path()).unwrap();
        for watch in [false, true] {
            let (path, old) = (directory.join(format!("{watch}/agent.log")), directory.join(format!("{watch}/agent.log.1")));
            let log = LogFile::open(&path, watch).unwrap();
            log.write("1\n");
            std::fs::rename(&path, &old).unwrap();
            log.write("2\n");
            assert_eq!(lines(&old), if watch { "1\n" } else { "1\n2\n" });
            log.reopen().now().unwrap();
            log.write("3\n");
            assert_eq!(lines(&path), if watch { "2\n3\n" } else { "3\n" });
            // Its directory is gone: lines go where they went.
            std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
            log.write("4\n");
            let error = log.reopen().now().unwrap_err().to_string();
            assert!(error.contains("anew"), "{error}");
        }
        Reopen::default().now().unwrap();
    }
}
