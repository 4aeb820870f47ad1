//! The journal: what was accepted and is not finished yet, on disk before its message is acknowledged.
//!
//! One file an operation, named by arrival; it holds the message as it was received (encrypted if it was), so that no
//! secret is written that was not in the open already. `accepted` becomes `started` by a rename. Finished ones are removed.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::system::files;

/// How long the ids of finished recovered operations are remembered: a broker may deliver their messages once more.
const REMEMBER_SECONDS: f64 = 86_400.0;

/// An operation as written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// RPC method, for messages.
    pub method: String,
    /// The message's `_unique_id`.
    pub unique_id: Option<String>,
    /// When it was received, in seconds since 1970.
    pub received: f64,
    /// Seconds after which its caller has given up; none for a cast.
    pub expires_after: Option<f64>,
    /// The message body as received.
    pub body: String,
}

/// How far an operation had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Accepted, not begun.
    Accepted,
    /// Begun.
    Started,
}

/// The journal of this guest.
#[derive(Debug)]
pub struct Journal {
    directory: Utf8PathBuf,
    sequence: AtomicU64,
}

/// An open entry. Forgotten without [`Ticket::finish`], it is found at the next start.
#[derive(Debug)]
pub struct Ticket {
    directory: Utf8PathBuf,
    name: String,
    started: bool,
    recovered: bool,
}

/// An entry the agent's last life left open.
#[derive(Debug)]
pub struct Found {
    /// What it says.
    pub entry: Entry,
    /// How far it had come.
    pub stage: Stage,
    /// To finish it with.
    pub ticket: Ticket,
}

impl Journal {
    /// Opens (or makes) the journal in `state_dir/journal`, and returns what was left open there, oldest first, and the ids of
    /// operations that were recovered and finished lately.
    ///
    /// # Errors
    /// The directory cannot be made or read. A damaged entry is an error too: it stays on disk and is named.
    pub fn open(state_dir: &Utf8Path) -> Result<(Self, Vec<Found>, Vec<String>)> {
        let directory = state_dir.join("journal");
        files::ensure_directory(&directory, 0o700, None)?;
        let mut names: Vec<String> = directory
            .read_dir_utf8()
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect())
            .action(format!("read {directory}"))?;
        names.sort();
        let mut found = Vec::new();
        let mut finished = Vec::new();
        let mut sequence = 0;
        for name in names {
            let Some((stem, extension)) = name.rsplit_once('.') else { continue };
            sequence = sequence.max(stem.parse::<u64>().unwrap_or(0));
            match extension {
                "accepted" => found.push(read(&directory, stem, &name, Stage::Accepted)?),
                "started" => found.push(read(&directory, stem, &name, Stage::Started)?),
                "done" => finished.extend(remembered(&directory.join(&name))?),
                _ => {}
            }
        }
        Ok((Journal { directory, sequence: AtomicU64::new(sequence + 1) }, found, finished))
    }

    /// Writes an operation down. When this returns, it survives a crash.
    ///
    /// # Errors
    /// The disk refused; the message must not be acknowledged then.
    pub fn accept(&self, entry: &Entry) -> Result<Ticket> {
        let name = format!("{:016}", self.sequence.fetch_add(1, Ordering::Relaxed));
        let text = serde_json::to_vec(entry).map_err(|error| Error::guest(format!("cannot write a journal entry: {error}")))?;
        files::write_atomic(&self.directory.join(format!("{name}.accepted")), &text, 0o600, None)?;
        Ok(Ticket { directory: self.directory.clone(), name, started: false, recovered: false })
    }
}

impl Ticket {
    fn path(&self, extension: &str) -> Utf8PathBuf {
        self.directory.join(format!("{}.{extension}", self.name))
    }

    /// Notes that the operation begins.
    ///
    /// # Errors
    /// The disk refused; the operation must not begin.
    pub fn start(&mut self) -> Result<()> {
        if !self.started {
            let to = self.path("started");
            fs::rename(self.path("accepted"), &to)
                .and_then(|()| fs::File::open(&self.directory)?.sync_all())
                .action(format!("rename a journal entry to {to}"))?;
            self.started = true;
        }
        Ok(())
    }

    /// Notes that the operation has ended and its outcome was told.
    ///
    /// # Errors
    /// The disk refused; the entry will be found again.
    pub fn finish(self) -> Result<()> {
        let path = self.path(if self.started { "started" } else { "accepted" });
        if self.recovered {
            // Its message may be delivered once more: the id stays for a while, without the body.
            if let Ok(entry) = read_entry(&path) {
                let text = serde_json::to_vec(&Entry { body: String::new(), ..entry }).unwrap_or_default();
                files::write_atomic(&self.path("done"), &text, 0o600, None)?;
            }
        }
        files::remove(&path)
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

fn read(directory: &Utf8Path, stem: &str, name: &str, stage: Stage) -> Result<Found> {
    let entry = read_entry(&directory.join(name))?;
    let ticket = Ticket { directory: directory.to_owned(), name: stem.to_owned(), started: stage == Stage::Started, recovered: true };
    Ok(Found { entry, stage, ticket })
}

fn read_entry(path: &Utf8Path) -> Result<Entry> {
    let text = fs::read(path).action(format!("read {path}"))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::guest(format!("the journal entry {path} is damaged ({error}); move it away after looking at it")))
}

fn remembered(path: &Utf8Path) -> Result<Option<String>> {
    let entry = read_entry(path)?;
    if now() - entry.received > REMEMBER_SECONDS {
        files::remove(path)?;
        return Ok(None);
    }
    Ok(entry.unique_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry { method: "prepare".into(), unique_id: Some(id.into()), received: now(), expires_after: None, body: "{}".into() }
    }

    #[test]
    fn what_is_not_finished_is_found_in_order_and_with_its_stage() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let (journal, found, _) = Journal::open(state).unwrap();
        assert!(found.is_empty());
        let _accepted = journal.accept(&entry("a")).unwrap();
        journal.accept(&entry("b")).unwrap().start().unwrap();
        journal.accept(&entry("c")).unwrap().finish().unwrap();
        let (journal, found, _) = Journal::open(state).unwrap();
        let seen: Vec<_> = found.iter().map(|found| (found.entry.unique_id.clone().unwrap(), found.stage)).collect();
        assert_eq!(seen, [("a".to_owned(), Stage::Accepted), ("b".to_owned(), Stage::Started)]);
        let _later = journal.accept(&entry("d")).unwrap();
        let (_, again, _) = Journal::open(state).unwrap();
        assert_eq!(again.last().unwrap().entry.unique_id.as_deref(), Some("d"));
    }

    #[test]
    fn recovered_ones_are_remembered_after_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let _open = Journal::open(state).unwrap().0.accept(&entry("a")).unwrap();
        let (_, mut found, _) = Journal::open(state).unwrap();
        found.pop().unwrap().ticket.finish().unwrap();
        let (_, found, finished) = Journal::open(state).unwrap();
        assert!(found.is_empty());
        assert_eq!(finished, ["a"]);
    }
}
