//! The journal: what was accepted and is not finished yet, on disk before its message is acknowledged.
//!
//! One file an operation, named by arrival; it holds the message as it was received (encrypted if it was), so that no
//! secret is written that was not in the open already. `accepted` becomes `started` by a rename, and `ended` when all that
//! is left is to tell of it: that file holds the messages still to be sent. A finished one becomes `done` by a rename, and
//! is cut off behind its first line, which has the message's id: the broker may not have got the acknowledgement, and then
//! delivers the message once more, perhaps to the agent's next life.

mod look;

use std::collections::VecDeque;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::system::files;

pub use look::Look;

/// How many finished operations are remembered. A broker can only deliver again what it holds unacknowledged, and that is
/// never more than the prefetch count.
const REMEMBERED: usize = 256;

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

/// The first line of every file, and all that is left of a finished operation.
#[derive(Serialize, Deserialize)]
struct Head {
    unique_id: Option<String>,
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
    done: Done,
}

/// Names of finished operations' files, oldest first.
type Done = Arc<Mutex<VecDeque<String>>>;

/// An open entry. Forgotten without [`Ticket::finish`], it is found at the next start.
#[derive(Debug)]
pub struct Ticket {
    directory: Utf8PathBuf,
    name: String,
    state: State,
    unique_id: Option<String>,
    done: Done,
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
    /// Ids of the last operations that ended, oldest first.
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
        let journal = Journal { directory, sequence: AtomicU64::new(1), done: Done::default() };
        let mut left = Left::default();
        for name in &names {
            let Some((stem, extension)) = name.rsplit_once('.') else { continue };
            let Ok(number) = stem.parse::<u64>() else { continue };
            journal.sequence.fetch_max(number + 1, Ordering::Relaxed);
            let path = journal.directory.join(name);
            // The agent ended between writing this file's successor and removing it.
            let superseded = || ["ended", "done"].iter().any(|successor| names.contains(&format!("{stem}.{successor}")));
            let read = match extension {
                "accepted" | "started" if superseded() => files::remove(&path),
                "accepted" => left.find(journal.ticket(stem, State::Accepted), Stage::Accepted),
                "started" => left.find(journal.ticket(stem, State::Started), Stage::Started),
                "ended" => left.end(journal.ticket(stem, State::Ended)),
                "done" => left.remember(&path).map(|()| journal.ticket(stem, State::Ended).remember()),
                _ => Ok(()),
            };
            if let Err(error) = read {
                set_aside(&path, &error)?;
            }
        }
        Ok((journal, left))
    }

    /// Writes an operation down. When this returns, it survives a crash.
    ///
    /// # Errors
    /// The disk refused; the message must not be acknowledged then.
    pub fn accept(&self, entry: &Entry) -> Result<Ticket> {
        let name = format!("{:016}", self.sequence.fetch_add(1, Ordering::Relaxed));
        let mut ticket = self.ticket(&name, State::Accepted);
        ticket.unique_id.clone_from(&entry.unique_id);
        ticket.write(State::Accepted, entry)?;
        Ok(ticket)
    }

    fn ticket(&self, stem: &str, state: State) -> Ticket {
        Ticket { directory: self.directory.clone(), name: stem.to_owned(), state, unique_id: None, done: self.done.clone() }
    }
}

impl Left {
    fn find(&mut self, mut ticket: Ticket, stage: Stage) -> Result<()> {
        let entry: Entry = read(&ticket.path())?.1;
        ticket.unique_id.clone_from(&entry.unique_id);
        self.open.push(Found { entry, stage, ticket });
        Ok(())
    }

    fn end(&mut self, mut ticket: Ticket) -> Result<()> {
        let (head, letters) = read(&ticket.path())?;
        ticket.unique_id.clone_from(&head.unique_id);
        self.finished.extend(head.unique_id);
        self.untold.push((letters, ticket));
        Ok(())
    }

    fn remember(&mut self, path: &Utf8Path) -> Result<()> {
        let text = fs::read(path).action(format!("read {path}"))?;
        let line = text.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        let head: Head = parse(path, line)?;
        if line.len() < text.len() {
            cut(path, line.len())?;
        }
        self.finished.extend(head.unique_id);
        Ok(())
    }
}

impl Ticket {
    fn path_in(&self, extension: &str) -> Utf8PathBuf {
        self.directory.join(format!("{}.{extension}", self.name))
    }

    fn path(&self) -> Utf8PathBuf {
        self.path_in(self.state.into())
    }

    fn head(&self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        json(&mut line, &Head { unique_id: self.unique_id.clone() })?;
        line.push(b'\n');
        Ok(line)
    }

    /// Makes the file of a state: the head, then `content`.
    fn write(&self, state: State, content: &impl Serialize) -> Result<()> {
        let mut text = self.head()?;
        json(&mut text, content)?;
        files::write_atomic(&self.path_in(state.into()), &text, 0o600, None)
    }

    /// Renames its file, for good.
    fn rename(&self, extension: &str) -> Result<Utf8PathBuf> {
        let to = self.path_in(extension);
        fs::rename(self.path(), &to)
            .and_then(|()| fs::File::open(&self.directory)?.sync_all())
            .action(format!("rename a journal entry to {to}"))?;
        Ok(to)
    }

    /// Notes that the operation begins.
    ///
    /// # Errors
    /// The disk refused; the operation must not begin.
    pub fn start(&mut self) -> Result<()> {
        if self.state == State::Accepted {
            self.rename(State::Started.into())?;
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
        self.write(State::Ended, &letters)?;
        self.state = State::Ended;
        // Not synced: should it come back after a power cut, its successor says that it is superseded.
        fs::remove_file(&before).action(format!("remove {before}"))
    }

    /// Notes that the operation has ended and its outcome was told. Its message may be delivered once more, even after a
    /// crash: the id stays, without the message and the answers.
    ///
    /// # Errors
    /// The disk refused; the entry will be found again.
    pub fn finish(self) -> Result<()> {
        if self.unique_id.is_none() {
            return files::remove(&self.path());
        }
        let head = self.head()?;
        let path = self.rename("done")?;
        self.remember();
        cut(&path, head.len())
    }

    /// The oldest ones go when there are too many.
    fn remember(self) {
        let mut done = self.done.lock().expect("never poisoned: no panics while held");
        done.push_back(self.name);
        while done.len() > REMEMBERED {
            let oldest = done.pop_front().unwrap_or_default();
            let path = self.directory.join(format!("{oldest}.done"));
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, %path, "failed to remove the note of a finished operation; remove it");
            }
        }
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}

/// Appends to `text`.
fn json(text: &mut Vec<u8>, content: &impl Serialize) -> Result<()> {
    serde_json::to_writer(text, content).map_err(|error| Error::guest(format!("cannot write a journal entry: {error}")))
}

/// The head of a file and what follows it.
fn read<T: DeserializeOwned>(path: &Utf8Path) -> Result<(Head, T)> {
    let text = fs::read(path).action(format!("read {path}"))?;
    let mut parts = text.splitn(2, |byte| *byte == b'\n');
    let head = parse(path, parts.next().unwrap_or_default())?;
    Ok((head, parse(path, parts.next().unwrap_or_default())?))
}

fn parse<T: DeserializeOwned>(path: &Utf8Path, text: &[u8]) -> Result<T> {
    // serde's own words may quote the content.
    serde_json::from_slice(text)
        .map_err(|error| Error::guest(format!("the journal entry {path} is damaged ({:?} at byte {})", error.classify(), error.column())))
}

/// Takes away what follows the first `length` bytes.
fn cut(path: &Utf8Path, length: usize) -> Result<()> {
    fs::File::options().write(true).open(path).and_then(|file| file.set_len(length as u64)).action(format!("truncate {path}"))
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
    fn finished_ones_are_remembered_by_their_ids_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let (journal, _) = Journal::open(state).unwrap();
        let planted = |id| Entry { body: "planted".into(), ..entry(id) };
        journal.accept(&planted("never begun")).unwrap().finish().unwrap();
        let mut told = journal.accept(&planted("told")).unwrap();
        told.start().unwrap();
        told.end(&[letter()]).unwrap();
        let ended = fs::read(told.path()).unwrap();
        let done = told.path_in("done");
        told.finish().unwrap();
        journal.accept(&Entry { unique_id: None, ..entry("") }).unwrap().finish().unwrap();
        let shown = || -> Vec<_> {
            state.join("journal").read_dir_utf8().unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
        };
        assert!(shown().len() == 2 && !shown().concat().contains("planted"), "{:?}", shown());
        // As if the agent had ended before the rest was cut off, and the disk had brought an older file back.
        fs::write(&done, ended).unwrap();
        fs::write(done.with_extension("started"), "{}").unwrap();
        let (journal, left) = Journal::open(state).unwrap();
        assert!(left.open.is_empty() && left.untold.is_empty());
        assert_eq!(left.finished, ["never begun", "told"]);
        assert!(shown().len() == 2 && !shown().concat().contains("planted"), "{:?}", shown());
        assert!(!journal.accept(&entry("next")).unwrap().path().as_str().contains(done.file_stem().unwrap()));
    }

    #[test]
    fn only_the_last_finished_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = Utf8Path::from_path(dir.path()).unwrap();
        let (journal, _) = Journal::open(state).unwrap();
        for number in 0..REMEMBERED {
            journal.accept(&entry(&number.to_string())).unwrap().finish().unwrap();
        }
        let (journal, left) = Journal::open(state).unwrap();
        assert_eq!(left.finished.len(), REMEMBERED);
        journal.accept(&entry("one more")).unwrap().finish().unwrap();
        let (_, left) = Journal::open(state).unwrap();
        assert_eq!((left.finished.len(), left.finished[0].as_str(), left.finished.last().unwrap().as_str()), (REMEMBERED, "1", "one more"));
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
