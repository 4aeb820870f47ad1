//! What is kept of applied modules: contents and results, below the agent's state directory.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ResultExt};
use crate::system::files;

const CONTENTS: &str = "contents.dat";
const RESULT: &str = "result.json";

/// What came of applying a module, as the API shows it (trove/guestagent/module/module_manager.py: `build_default_result`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleResult {
    /// Which driver it is for.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// For which datastore, or `all`.
    pub datastore: String,
    /// For which version of it, or `all`.
    pub datastore_version: String,
    /// Whose it is, or `all`.
    pub tenant: String,
    /// Its id in the controller.
    pub id: String,
    /// MD5 of its contents as the controller keeps them.
    pub md5: Option<String>,
    /// `OK` or `ERROR`.
    pub status: String,
    /// The driver's words.
    pub message: Option<String>,
    /// When it was applied first: `YYYY-MM-DD hh:mm:ss.cc`.
    pub created: String,
    /// And last.
    pub updated: String,
    /// When it was removed.
    pub removed: Option<String>,
    /// It is applied to every new instance.
    pub auto_apply: bool,
    /// Users see it.
    pub visible: bool,
    /// An administrator made it.
    pub is_admin: bool,
    /// In Base64, where they were asked for.
    pub contents: Option<String>,
}

/// The directory of modules: `<type>/<id>/contents.dat` and `result.json`, as Trove's agent has it in its home.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: Utf8PathBuf,
}

impl Store {
    pub(super) fn new(state_dir: &Utf8Path) -> Self {
        Store { folder: state_dir.join("modules") }
    }

    /// The directory of one module.
    ///
    /// # Errors
    /// Type or id are no plain names.
    pub(super) fn module(&self, kind: &str, id: &str) -> Result<Module> {
        let plain = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if plain(kind) && plain(id) {
            return Ok(Module { folder: self.folder.join(kind).join(id) });
        }
        Err(Error::invalid(format!("'{}' and '{}' cannot be type and id of a module", kind.escape_debug(), id.escape_debug())))
    }

    /// Every module that was ever applied.
    pub(super) fn modules(&self) -> Result<Vec<Module>> {
        let mut found = Vec::new();
        for kind in folders(&self.folder)? {
            found.extend(folders(&kind)?.into_iter().map(|folder| Module { folder }));
        }
        Ok(found)
    }
}

fn folders(parent: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
    let entries = match parent.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).action(format!("list {parent}")),
    };
    let paths: std::io::Result<Vec<Utf8PathBuf>> = entries.map(|entry| entry.map(camino::Utf8DirEntry::into_path)).collect();
    let mut paths = paths.action(format!("list {parent}"))?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}

/// One module's directory.
#[derive(Debug)]
pub(super) struct Module {
    folder: Utf8PathBuf,
}

impl Module {
    pub(super) fn contents_file(&self) -> Utf8PathBuf {
        self.folder.join(CONTENTS)
    }

    /// What came of it; `None` for one that was never applied.
    pub(super) fn result(&self) -> Result<Option<ModuleResult>> {
        let path = self.folder.join(RESULT);
        let Some(text) = files::read_optional(&path)? else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Error::guest(format!("{path} is damaged: {error}; remove it, and apply the module again")))
    }

    pub(super) fn contents(&self) -> Result<Vec<u8>> {
        let path = self.contents_file();
        std::fs::read(&path).action(format!("read {path}"))
    }

    pub(super) fn write_contents(&self, contents: &[u8]) -> Result<()> {
        for directory in [self.folder.parent().and_then(Utf8Path::parent), self.folder.parent(), Some(&*self.folder)].into_iter().flatten()
        {
            files::ensure_directory(directory, 0o700, None)?;
        }
        files::write_atomic(&self.contents_file(), contents, 0o600, None)
    }

    pub(super) fn write_result(&self, result: &ModuleResult) -> Result<()> {
        let text = serde_json::to_vec(result).map_err(|error| Error::guest(format!("cannot write the result of a module: {error}")))?;
        files::write_atomic(&self.folder.join(RESULT), &text, 0o600, None)
    }

    pub(super) fn remove_contents(&self) -> Result<()> {
        files::remove(&self.contents_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_module_is_outside() {
        let store = Store::new(Utf8Path::new("/state"));
        assert_eq!(store.module("ping", "m-1").unwrap().contents_file(), "/state/modules/ping/m-1/contents.dat");
        for bad in ["", "..", "a/b", ".x", "/etc", "a\0"] {
            assert!(store.module("ping", bad).is_err() && store.module(bad, "m").is_err(), "{bad:?}");
        }
    }
}
