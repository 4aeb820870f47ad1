//! The journal: what was accepted and is not finished yet, on disk before its message is acknowledged.
//!
//! One file an operation, named by arrival; it holds the message as it was received (encrypted if it was), so that no
//! secret is written that was not in the open already. `accepted` becomes `started` by a rename, and `ended` when all that
//! is left is to tell of it: that file holds the messages still to be sent. Finished ones are removed.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::system::files;

/// How long the ids of finished recovered operations are remembered: a broker may deliver their messages once more.
const REMEMBER_SECONDS: f64 = 86_400.0;

/// An operation as written down.
#[derive(Clone, Serialize, Deserialize)]
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

impl std::fmt::Debug for Entry {
    // The body holds passwords and tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("method", &self.method).field("unique_id", &self.unique_id).finish_non_exhaustive()
    }
}

/// A message that tells of an operation's end, as it goes to the broker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Exchange; empty for the default one, which routes to the queue of that name.
    pub exchange: String,
    /// Routing key.
    pub key: String,
    /// A reply: the broker hands it back if there is no such queue. False for a cast.
    pub mandatory: bool,
    /// The message's body.
    pub body: String,
}

impl std::fmt::Debug for Letter {
    // Results hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("exchange", &self.exchange).field("key", &self.key).finish_non_exhaustive()
    }
}

/// What is left of an operation that has ended.
#[derive(Serialize, Deserialize)]
struct Ended {
    unique_id: Option<String>,
    received: f64,
    letters: Vec<Letter>,
}

/// What is left of a recovered operation that is finished.
#[derive(Serialize, Deserialize)]
struct Done {
    unique_id: Option<String>,
    received: f64,
}

/// How far an operation had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Accepted, not begun.
    Accepted,
    /// Begun.
    Started,
}

/// Where a ticket's file is in its life; the names are the files' extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
enum State {
    Accepted,
    Started,
    Ended,
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
    state: State,
    recovered: bool,
    unique_id: Option<String>,
    received: f64,
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

/// What the agent's last life left behind.
#[derive(Debug, Default)]
pub struct Left {
    /// Operations that had not ended, oldest first.
    pub open: Vec<Found>,
    /// Operations that had ended and whose end was not told to everybody yet.
    pub untold: Vec<(Vec<Letter>, Ticket)>,
    /// Ids of operations that were recovered and finished lately.
    pub finished: Vec<String>,
}

impl Journal {
    /// Opens (or makes) the journal in `state_dir/journal`, and returns what was left there. A damaged entry is moved aside
    /// (`.damaged`) and logged: one must not keep the guest from serving.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(state_dir: &Utf8Path) -> Result<(Self, Left)> {
        let directory = state_dir.join("journal");
        files::ensure_directory(&directory, 0o700, None)?;
        let mut names: Vec<String> = directory
            .read_dir_utf8()
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect())
            .action(format!("read {directory}"))?;
        names.sort();
        let mut left = Left::default();
        let mut sequence = 0;
        for name in &names {
            let Some((stem, extension)) = name.rsplit_once('.') else { continue };
            let Ok(number) = stem.parse::<u64>() else { continue };
            sequence = sequence.max(number);
            let path = directory.join(name);
            // The agent ended between writing this file's successor and removing it.
            let superseded = extension == "started" && names.contains(&format!("{stem}.ended"));
            let read = match extension {
                "started" if superseded => files::remove(&path),
                "accepted" => left.find(&directory, stem, Stage::Accepted),
                "started" => left.find(&directory, stem, Stage::Started),
                "ended" => left.end(&directory, stem),
                "done" => left.remember(&path),
                _ => Ok(()),
            };
            if let Err(error) = read {
                set_aside(&path, &error)?;
            }
        }
        Ok((Journal { directory, sequence: AtomicU64::new(sequence + 1) }, left))
    }

    /// Writes an operation down. When this returns, it survives a crash.
    ///
    /// # Errors
    /// The disk refused; the message must not be acknowledged then.
    pub fn accept(&self, entry: &Entry) -> Result<Ticket> {
        let name = format!("{:016}", self.sequence.fetch_add(1, Ordering::Relaxed));
        let ticket = Ticket {
            directory: self.directory.clone(),
            name,
            state: State::Accepted,
            recovered: false,
            unique_id: entry.unique_id.clone(),
            received: entry.received,
        };
        write(&ticket.path(), entry)?;
        Ok(ticket)
    }
}

impl Left {
    fn find(&mut self, directory: &Utf8Path, stem: &str, stage: Stage) -> Result<()> {
        let state = if stage == Stage::Accepted { State::Accepted } else { State::Started };
        let mut ticket = Ticket::recovered(directory, stem, state);
        let entry: Entry = read(&ticket.path())?;
        (ticket.unique_id, ticket.received) = (entry.unique_id.clone(), entry.received);
        self.open.push(Found { entry, stage, ticket });
        Ok(())
    }

    fn end(&mut self, directory: &Utf8Path, stem: &str) -> Result<()> {
        let mut ticket = Ticket::recovered(directory, stem, State::Ended);
        let ended: Ended = read(&ticket.path())?;
        (ticket.unique_id, ticket.received) = (ended.unique_id.clone(), ended.received);
        self.finished.extend(ended.unique_id);
        self.untold.push((ended.letters, ticket));
        Ok(())
    }

    fn remember(&mut self, path: &Utf8Path) -> Result<()> {
        let done: Done = read(path)?;
        if now() - done.received > REMEMBER_SECONDS {
            return files::remove(path);
        }
        self.finished.extend(done.unique_id);
        Ok(())
    }
}

impl Ticket {
    fn recovered(directory: &Utf8Path, stem: &str, state: State) -> Self {
        Ticket { directory: directory.to_owned(), name: stem.to_owned(), state, recovered: true, unique_id: None, received: 0.0 }
    }

    fn path_in(&self, extension: &str) -> Utf8PathBuf {
        self.directory.join(format!("{}.{extension}", self.name))
    }

    fn path(&self) -> Utf8PathBuf {
        self.path_in(self.state.into())
    }

    /// Notes that the operation begins.
    ///
    /// # Errors
    /// The disk refused; the operation must not begin.
    pub fn start(&mut self) -> Result<()> {
        if self.state == State::Accepted {
            let to = self.path_in(State::Started.into());
            fs::rename(self.path(), &to)
                .and_then(|()| fs::File::open(&self.directory)?.sync_all())
                .action(format!("rename a journal entry to {to}"))?;
            self.state = State::Started;
        }
        Ok(())
    }

    /// Notes that the operation has ended, and what is to be sent because of it. From here on it is not run again.
    ///
    /// # Errors
    /// The disk refused; the next start would take the operation for one that was cut short.
    pub fn end(&mut self, letters: &[Letter]) -> Result<()> {
        let before = self.path();
        let ended = Ended { unique_id: self.unique_id.clone(), received: self.received, letters: letters.to_vec() };
        write(&self.path_in(State::Ended.into()), &ended)?;
        self.state = State::Ended;
        files::remove(&before)
    }

    /// Notes that the operation has ended and its outcome was told.
    ///
    /// # Errors
    /// The disk refused; the entry will be found again.
    pub fn finish(self) -> Result<()> {
        if self.recovered {
            // Its message may be delivered once more: the id stays for a while, without the body.
            write(&self.path_in("done"), &Done { unique_id: self.unique_id.clone(), received: self.received })?;
        }
        files::remove(&self.path())
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

fn write(path: &Utf8Path, content: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(content).map_err(|error| Error::guest(format!("cannot write a journal entry: {error}")))?;
    files::write_atomic(path, &text, 0o600, None)
}

fn read<T: DeserializeOwned>(path: &Utf8Path) -> Result<T> {
    let text = fs::read(path).action(format!("read {path}"))?;
    // serde's own words may quote the content.
    serde_json::from_slice(&text)
        .map_err(|error| Error::guest(format!("the journal entry {path} is damaged ({:?} at byte {})", error.classify(), error.column())))
}

fn set_aside(path: &Utf8Path, error: &Error) -> Result<()> {
    tracing::error!(%error, "a journal entry cannot be used and is set aside; look at what its operation may have left");
    let aside = Utf8PathBuf::from(format!("{path}.damaged"));
    fs::rename(path, &aside).action(format!("rename {path} to {aside}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry { method: "prepare".into(), unique_id: Some(id.into()), received: now(), expires_after: None, body: "{}".into() }
    }

    fn letter() -> Letter {
        Letter { exchange: String::new(), key: "q".into(), mandatory: true, body: "planted".into() }
    }

    #[test]
    fn what_is_not_finished_is_found_in_order_and_with_its_stage() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let (journal, left) = Journal::open(state).unwrap();
        assert!(left.open.is_empty());
        let _accepted = journal.accept(&entry("a")).unwrap();
        journal.accept(&entry("b")).unwrap().start().unwrap();
        journal.accept(&entry("c")).unwrap().finish().unwrap();
        let (journal, left) = Journal::open(state).unwrap();
        let seen: Vec<_> = left.open.iter().map(|found| (found.entry.unique_id.clone().unwrap(), found.stage)).collect();
        assert_eq!(seen, [("a".to_owned(), Stage::Accepted), ("b".to_owned(), Stage::Started)]);
        let _later = journal.accept(&entry("d")).unwrap();
        let (_, again) = Journal::open(state).unwrap();
        assert_eq!(again.open.last().unwrap().entry.unique_id.as_deref(), Some("d"));
    }

    #[test]
    fn recovered_ones_are_remembered_after_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let _open = Journal::open(state).unwrap().0.accept(&entry("a")).unwrap();
        let (_, mut left) = Journal::open(state).unwrap();
        left.open.pop().unwrap().ticket.finish().unwrap();
        let (_, left) = Journal::open(state).unwrap();
        assert!(left.open.is_empty());
        assert_eq!(left.finished, ["a"]);
    }

    #[test]
    fn an_operation_that_ended_is_told_of_and_not_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let (journal, _) = Journal::open(state).unwrap();
        let mut ticket = journal.accept(&entry("a")).unwrap();
        ticket.start().unwrap();
        let started = fs::read(ticket.path()).unwrap();
        ticket.end(&[letter()]).unwrap();
        // As if the agent had ended between the two steps.
        fs::write(ticket.path_in("started"), started).unwrap();
        let (_, mut left) = Journal::open(state).unwrap();
        assert!(left.open.is_empty());
        assert_eq!(left.finished, ["a"]);
        let (letters, ticket) = left.untold.pop().unwrap();
        assert_eq!(letters, [letter()]);
        ticket.finish().unwrap();
        let (_, left) = Journal::open(state).unwrap();
        assert!(left.untold.is_empty() && left.finished == ["a"]);
    }

    #[test]
    fn a_damaged_entry_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let (journal, _) = Journal::open(state).unwrap();
        let ticket = journal.accept(&entry("a")).unwrap();
        fs::write(ticket.path(), "{").unwrap();
        let _next = journal.accept(&entry("b")).unwrap();
        let (_, left) = Journal::open(state).unwrap();
        assert_eq!(left.open.len(), 1);
        assert!(Utf8PathBuf::from(format!("{}.damaged", ticket.path())).exists());
    }

    #[test]
    fn nothing_printed_shows_a_message() {
        assert!(!format!("{:?} {:?}", letter(), Entry { body: "planted".into(), ..entry("a") }).contains("planted"));
    }
}
