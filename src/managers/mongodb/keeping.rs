//! What of an instance is not in its data, and would be lost with the root disk: its configuration, the key its servers know each other by, and the password of
//! the agent's user. No controller sends the last two again.

use camino::{Utf8Path, Utf8PathBuf};

use super::configuration::{Conf, Configuration, store};
use crate::error::Result;
use crate::managers::configuration::Store;
use crate::op::Op;
use crate::system::files;

/// On the volume: a copy for the agent of the next root disk.
const KEPT: &str = ".trove-kept";
const LAYERS: &str = "etc";
const SECRETS: &str = "state";

impl Configuration {
    fn kept(&self) -> Utf8PathBuf {
        self.layout.data_dir.join(KEPT)
    }

    /// The files beside the layers, and their names in a copy.
    fn secrets(&self) -> [(Utf8PathBuf, &'static str); 2] {
        [(self.layout.key_file(), "mongo_key"), (self.layout.credentials(), "os_mongo_admin_creds.json")]
    }

    /// Copies them to a directory of the volume.
    ///
    /// # Errors
    /// They cannot be read, or the volume is full.
    pub(super) fn copy_to(&self, directory: &Utf8Path) -> Result<()> {
        files::ensure_directory(directory, 0o700, None)?;
        files::copy_tree(&self.layout.override_dir(), &directory.join(LAYERS))?;
        files::ensure_directory(&directory.join(SECRETS), 0o700, None)?;
        self.secrets().into_iter().try_for_each(|(file, name)| files::copy_file(&file, &directory.join(SECRETS).join(name)))
    }

    /// Takes the key and the password back from a copy.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) async fn take_secrets_from(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        files::ensure_directory(&self.layout.state_dir, 0o700, None)?;
        files::ensure_directory_exists(self.layout.config_dir(), 0o755, None)?;
        for (file, name) in self.secrets() {
            files::copy_file(&directory.join(SECRETS).join(name), &file)?;
        }
        let key = self.layout.key_file();
        if key.exists() { self.owner.take(op, &key).await } else { Ok(()) }
    }

    /// Takes all of it back from a copy.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) async fn copy_from(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        self.take_secrets_from(op, directory).await?;
        files::copy_tree(&directory.join(LAYERS), &self.layout.override_dir())
    }

    /// Copies it to where the next root disk finds it; a guest without a directory for data has nowhere.
    ///
    /// # Errors
    /// Those of [`Self::copy_to`].
    pub(super) fn keep(&self) -> Result<()> {
        if self.layout.data_dir.is_dir() { self.copy_to(&self.kept()) } else { Ok(()) }
    }

    /// What an earlier instance has kept there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn forget_kept(&self) -> Result<()> {
        files::remove_tree(&self.kept())
    }

    /// Where the volume has what was kept, and the layers of it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn kept_by_volume(&self) -> Result<Option<(Utf8PathBuf, Conf)>> {
        let kept = self.kept();
        if !kept.is_dir() {
            return Ok(None);
        }
        let files = Store { directory: kept.join(LAYERS), ..store(&self.layout, None, self.layout.main_file()) };
        Ok(Some((kept, files.read()?)))
    }
}
