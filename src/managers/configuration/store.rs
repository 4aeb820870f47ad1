//! [`Store`]: the files of a configuration.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use super::layers::Layers;
use crate::codec::{Document, text};
use crate::error::{Result, ResultExt};
use crate::system::files;

/// How the server comes to the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// It includes their directory (Trove's `ImportOverrideStrategy`).
    Include,
    /// It reads one file, which the agent makes of all layers (Trove's `OneFileOverrideStrategy`); the untouched base is `base` beside the changes.
    Merge,
}

/// Name of the untouched base with [`Style::Merge`].
const BASE: &str = "base";

/// Where a configuration is kept.
#[derive(Debug, Clone)]
pub struct Store {
    /// What the server starts from.
    pub main_file: Utf8PathBuf,
    /// Directory of the changes.
    pub directory: Utf8PathBuf,
    /// Extension of their files, without the dot.
    pub extension: &'static str,
    /// How the server comes to them.
    pub style: Style,
    /// Mode of a file that is new; one that exists keeps its own, and its owner.
    pub mode: u32,
    /// Account that a new file belongs to; the agent's own when absent.
    pub owner: Option<&'static str>,
}

impl Store {
    fn change_file(&self, stem: &str) -> Utf8PathBuf {
        self.directory.join(format!("{stem}.{}", self.extension))
    }

    /// Reads all of it; what is not there is empty.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read<D: Document>(&self) -> Result<Layers<D>> {
        let mut changes = BTreeMap::new();
        if self.directory.is_dir() {
            for entry in self.directory.read_dir_utf8().action(format!("read {}", self.directory))? {
                let entry = entry.action(format!("read {}", self.directory))?;
                let path = entry.path();
                let (Some(stem), true) = (path.file_stem(), path.extension() == Some(self.extension)) else { continue };
                if let Some(bytes) = files::read_bytes(path)? {
                    changes.insert(stem.to_owned(), D::parse(&text::decode(&bytes)));
                }
            }
        }
        let kept = changes.remove(BASE).filter(|_| self.style == Style::Merge);
        let base = match kept {
            Some(base) => base,
            None => D::parse(&text::decode(&files::read_bytes(&self.main_file)?.unwrap_or_default())),
        };
        Ok(Layers { base, changes })
    }

    /// Writes what differs between `from`, which is in the files, and `to`. Each file is replaced as a whole, the main file last: a crash in between leaves
    /// files that a server reads, and the same change made again finds what is left to do.
    ///
    /// # Errors
    /// A file cannot be written, or the layers cannot be merged (then nothing has changed).
    pub fn write<D: Document>(&self, from: &Layers<D>, to: &Layers<D>) -> Result<()> {
        let main = if self.style == Style::Merge { to.merged()? } else { to.base.clone() };
        files::ensure_directory_exists(&self.directory, 0o755, self.owner)?;
        if self.style == Style::Merge && !to.changes.is_empty() {
            self.replace(&self.change_file(BASE), &to.base)?;
        }
        for (stem, document) in &to.changes {
            if from.changes.get(stem) != Some(document) {
                self.replace(&self.change_file(stem), document)?;
            }
        }
        for stem in from.changes.keys().filter(|stem| !to.changes.contains_key(*stem)) {
            files::remove(&self.change_file(stem))?;
        }
        self.replace(&self.main_file, &main)?;
        if self.style == Style::Merge && to.changes.is_empty() { files::remove(&self.change_file(BASE)) } else { Ok(()) }
    }

    /// Writes the layers elsewhere, for a server to look at before it gets them.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_copy<D: Document>(&self, layers: &Layers<D>, main_file: Utf8PathBuf, directory: Utf8PathBuf) -> Result<()> {
        let copy = Store { main_file, directory, ..self.clone() };
        copy.write(&Layers::new(D::parse("")), layers)
    }

    fn replace<D: Document>(&self, path: &camino::Utf8Path, document: &D) -> Result<()> {
        let bytes = text::encode(&document.render());
        if files::read_bytes(path)?.as_deref() == Some(&bytes) && !path.is_symlink() {
            return Ok(());
        }
        files::replace(path, &bytes, self.mode, self.owner)
    }
}
