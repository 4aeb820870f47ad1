//! [`TlsStore`]: keys and certificates on the data volume, a directory for each time they were changed, and what is offered now.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::material::Material;
use crate::config::TlsMode;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::op::Op;
use crate::system::files;

/// The link to the files in use: the server is told this name alone.
const CURRENT: &str = "current";
const RECORD: &str = "record.json";
// Trove's names (trove/guestagent/datastore/mysql_common/manager.py: `_get_ssl_files`).
const PRIVATE_KEY: &str = "server-key.pem";
const CERTIFICATE: &str = "server-cert.pem";
const AUTHORITIES: &str = "ca.pem";

/// What a server offers its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offer {
    /// What it did before anybody asked; with its settings of then.
    Own(BTreeMap<String, String>),
    /// Nothing: TLS was switched off.
    Off,
    /// The files of a generation.
    Files(u32),
}

/// TLS of an instance at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What is offered.
    pub offer: Offer,
    /// What is demanded of clients.
    pub mode: Option<TlsMode>,
    /// Clients could use TLS.
    pub on: bool,
}

/// What has been done about TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// As it is.
    pub current: State,
    /// As it was before the last `ssl_action`; none after `ssl_rollback`.
    pub previous: Option<State>,
    /// The last change was `ssl_rollback`.
    pub rolled_back: bool,
}

/// Paths of the files in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate.
    pub certificate: Utf8PathBuf,
    /// Its key.
    pub private_key: Utf8PathBuf,
    /// The authorities, if there are any.
    pub authorities: Option<Utf8PathBuf>,
}

/// A directory on the data volume: what is in it stays with the data when the guest is rebuilt. It belongs to the server's account.
#[derive(Debug, Clone)]
pub struct TlsStore {
    directory: Utf8PathBuf,
    owner: Owner,
}

impl TlsStore {
    /// The one in `directory`, for the server that runs as `owner`.
    pub fn new(directory: Utf8PathBuf, owner: Owner) -> TlsStore {
        TlsStore { directory, owner }
    }

    /// The directory.
    pub fn directory(&self) -> &Utf8Path {
        &self.directory
    }

    fn generation(&self, number: u32) -> Utf8PathBuf {
        self.directory.join(number.to_string())
    }

    /// Paths a generation has once the link points at it.
    pub fn files(&self, number: u32) -> TlsFiles {
        let current = self.directory.join(CURRENT);
        let authorities = self.generation(number).join(AUTHORITIES).is_file().then(|| current.join(AUTHORITIES));
        TlsFiles { certificate: current.join(CERTIFICATE), private_key: current.join(PRIVATE_KEY), authorities }
    }

    /// What was done so far; `None` when nothing was.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Option<Record>> {
        let path = self.directory.join(RECORD);
        let Some(text) = files::read_optional(&path)? else { return Ok(None) };
        let damaged = |error: serde_json::Error| Error::guest(format!("{path} is damaged ({error}): remove it, and set TLS again"));
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// Writes down what is done, and removes what is of no use any more. From here on it counts.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn write(&self, op: &Op, record: &Record) -> Result<()> {
        self.ensure(op).await?;
        let text =
            serde_json::to_vec(record).map_err(|error| Error::guest(format!("cannot write down what was done about TLS: {error}")))?;
        files::write_atomic(&self.directory.join(RECORD), &text, 0o600, None)?;
        self.prune(record)
    }

    /// The mode that was asked for; `None` when nobody has.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn mode(&self) -> Result<Option<TlsMode>> {
        Ok(self.read()?.and_then(|record| record.current.mode))
    }

    async fn ensure(&self, op: &Op) -> Result<()> {
        if self.directory.is_dir() { Ok(()) } else { self.owner.directory(op, &self.directory, 0o700).await }
    }

    fn numbers(&self) -> Result<Vec<u32>> {
        if !self.directory.is_dir() {
            return Ok(Vec::new());
        }
        let mut numbers = Vec::new();
        for entry in self.directory.read_dir_utf8().action(format!("read {}", self.directory))? {
            let entry = entry.action(format!("read {}", self.directory))?;
            numbers.extend(entry.file_name().parse::<u32>());
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Keeps a key and certificates. What is there already is found, by its content: the same call made again adds nothing.
    ///
    /// # Errors
    /// A file cannot be written.
    pub async fn add(&self, op: &Op, material: &Material) -> Result<u32> {
        self.ensure(op).await?;
        let numbers = self.numbers()?;
        for number in numbers.iter().rev() {
            if self.holds(*number, material)? {
                return Ok(*number);
            }
        }
        let number = numbers.last().map_or(1, |last| last + 1);
        let unfinished = self.directory.join(format!("{}{number}", files::UNFINISHED));
        files::remove_tree(&unfinished)?;
        files::ensure_directory(&unfinished, 0o700, None)?;
        let write = |name: &str, text: &str, mode| files::write_atomic(&unfinished.join(name), text.as_bytes(), mode, None);
        write(PRIVATE_KEY, material.private_key.expose_secret(), 0o600)?;
        write(CERTIFICATE, &material.certificate, 0o644)?;
        if let Some(authorities) = &material.authorities {
            write(AUTHORITIES, authorities, 0o644)?;
        }
        self.owner.take(op, &unfinished).await?;
        files::rename(&unfinished, &self.generation(number))?;
        Ok(number)
    }

    fn holds(&self, number: u32, material: &Material) -> Result<bool> {
        let read = |name: &str| files::read_optional(&self.generation(number).join(name));
        Ok(read(CERTIFICATE)?.as_ref() == Some(&material.certificate)
            && read(PRIVATE_KEY)?.as_deref() == Some(material.private_key.expose_secret())
            && read(AUTHORITIES)? == material.authorities)
    }

    /// Has the link point at a generation: from one moment to the next, for whoever opens a file.
    ///
    /// # Errors
    /// The generation is gone, or the link cannot be made.
    pub fn point_at(&self, number: u32) -> Result<()> {
        if !self.generation(number).is_dir() {
            return Err(Error::guest(format!("{} is gone: set TLS again", self.generation(number))));
        }
        let unfinished = self.directory.join(format!("{}{CURRENT}", files::UNFINISHED));
        files::remove(&unfinished)?;
        std::os::unix::fs::symlink(number.to_string(), &unfinished).action(format!("make the link {unfinished}"))?;
        files::rename(&unfinished, &self.directory.join(CURRENT))
    }

    /// Removes keys and certificates that nothing leads back to.
    fn prune(&self, record: &Record) -> Result<()> {
        let states = [Some(&record.current), record.previous.as_ref()];
        let kept = |number: &u32| states.iter().flatten().any(|state| state.offer == Offer::Files(*number));
        for number in self.numbers()?.iter().filter(|number| !kept(number)) {
            files::remove_tree(&self.generation(*number))?;
        }
        // A server that waits for its restart may have the name still.
        let link = self.directory.join(CURRENT);
        if link.exists() { Ok(()) } else { files::remove(&link) }
    }

    /// The files are the server's account's again, whatever number it has on another root disk.
    ///
    /// # Errors
    /// The file system refused.
    pub async fn take(&self, op: &Op) -> Result<()> {
        if self.directory.is_dir() { self.owner.take(op, &self.directory).await } else { Ok(()) }
    }

    /// Leaves nothing.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self) -> Result<()> {
        if fs::symlink_metadata(&self.directory).is_ok() { files::remove_tree(&self.directory) } else { Ok(()) }
    }
}
