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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::Group;
    use super::*;
    use crate::codec::{OptionFile, RedisConf};

    fn store(directory: &tempfile::TempDir, style: Style) -> Store {
        let root = Utf8PathBuf::from_path_buf(directory.path().to_owned()).unwrap();
        Store { main_file: root.join("main.conf"), directory: root.join("changes"), extension: "conf", style, mode: 0o640, owner: None }
    }

    #[test]
    fn one_file_is_made_of_all_layers_and_the_base_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory, Style::Merge);
        let base = "# base \u{e9}\nport 6379\nsave 900 1\nsave 300 10";
        fs::write(&store.main_file, base).unwrap();
        fs::set_permissions(&store.main_file, fs::Permissions::from_mode(0o600)).unwrap();
        let before = store.read::<RedisConf>().unwrap();
        let mut after = before.clone();
        after.set_change(Group::User, "common", RedisConf::parse("maxmemory 5\nport 1\n"));
        after.set_change(Group::System, "common", RedisConf::parse("port 7000\n"));
        store.write(&before, &after).unwrap();
        let main = || fs::read_to_string(&store.main_file).unwrap();
        assert_eq!(main(), "# base \u{e9}\nport 7000\nsave 900 1\nsave 300 10\nmaxmemory 5\n");
        assert_eq!(fs::metadata(&store.main_file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(store.read::<RedisConf>().unwrap(), after);
        // Cut short after any of its files, the same change made again completes.
        fs::write(&store.main_file, base).unwrap();
        store.write(&store.read::<RedisConf>().unwrap(), &after).unwrap();
        assert!(main().contains("port 7000"));
        store.write(&after, &before).unwrap();
        assert_eq!(main(), base);
        assert_eq!(fs::read_dir(&store.directory).unwrap().count(), 0);
    }

    #[test]
    fn included_files_are_written_where_they_differ() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory, Style::Include);
        let before = store.read::<OptionFile>().unwrap();
        let mut after = before.clone();
        after.base = OptionFile::parse("[mysqld]\na = 1\n");
        after.set_change(Group::User, "common", OptionFile::parse("[mysqld]\na = 2\n"));
        store.write(&before, &after).unwrap();
        let user = store.directory.join("20-user-001-common.conf");
        assert_eq!(fs::metadata(&user).unwrap().permissions().mode() & 0o777, 0o640);
        // What is not the agent's stays, and is read.
        fs::write(store.directory.join("zz.conf"), b"[mysqld]\n# \xff\n").unwrap();
        fs::write(store.directory.join("zz.txt"), b"x").unwrap();
        let now = store.read::<OptionFile>().unwrap();
        assert_eq!(now.changes().map(|(stem, _)| stem).collect::<Vec<_>>(), ["20-user-001-common", "zz"]);
        let mut without = now.clone();
        without.remove_change(Group::User, "common");
        store.write(&now, &without).unwrap();
        assert!(!user.exists());
        assert_eq!(fs::read(store.directory.join("zz.conf")).unwrap(), b"[mysqld]\n# \xff\n");
        assert_eq!(fs::read_to_string(&store.main_file).unwrap(), "[mysqld]\na = 1\n");
    }
}
