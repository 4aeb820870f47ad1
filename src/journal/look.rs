//! A look at the journal from outside: for a person, while the agent that writes it runs or not.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Entry, Journal, read};
use crate::error::{Result, ResultExt};

/// What is open.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Look {
    /// Operations that wait.
    pub accepted: usize,
    /// Operations that have begun.
    pub started: usize,
    /// Operations whose end is not told to everybody yet.
    pub ended: usize,
    /// When the oldest of those that have not ended was received, in seconds since 1970.
    pub oldest: Option<f64>,
    /// Entries that were set aside because they could not be read.
    pub damaged: Vec<Utf8PathBuf>,
}

impl Journal {
    /// Counts what is in `state_dir/journal`, and changes nothing. No journal is an empty one.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn look(state_dir: &Utf8Path) -> Result<Look> {
        let directory = state_dir.join("journal");
        let mut look = Look::default();
        let entries = match directory.read_dir_utf8() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(look),
            other => other.action(format!("read {directory}"))?,
        };
        for entry in entries {
            let path = entry.action(format!("read {directory}"))?.into_path();
            match path.extension() {
                Some("accepted") => {
                    look.accepted += 1;
                    look.see(&path);
                }
                Some("started") => {
                    look.started += 1;
                    look.see(&path);
                }
                Some("ended") => look.ended += 1,
                Some("damaged") => look.damaged.push(path),
                _ => {}
            }
        }
        Ok(look)
    }
}

impl Look {
    /// One that has just ended is not there any more, and no older than the others.
    fn see(&mut self, path: &Utf8Path) {
        if let Ok((_, entry)) = read::<Entry>(path) {
            self.oldest = Some(self.oldest.map_or(entry.received, |oldest| oldest.min(entry.received)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted_and_what_is_damaged_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        assert_eq!(Journal::look(state).unwrap(), Look::default());
        let (journal, _) = Journal::open(state).unwrap();
        let entry = |received| Entry { method: "m".into(), unique_id: None, received, expires_after: None, body: String::new() };
        let first = journal.accept(&entry(20.0)).unwrap();
        let mut second = journal.accept(&entry(10.0)).unwrap();
        second.start().unwrap();
        let mut third = journal.accept(&entry(5.0)).unwrap();
        third.end(&[]).unwrap();
        let damaged = state.join("journal/0000000000000009.accepted.damaged");
        std::fs::write(&damaged, "").unwrap();
        let look = Journal::look(state).unwrap();
        assert_eq!(look, Look { accepted: 1, started: 1, ended: 1, oldest: Some(10.0), damaged: vec![damaged] });
        drop((first, second, third));
    }
}
