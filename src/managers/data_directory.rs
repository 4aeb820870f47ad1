//! The data directory: made, or taken over from where a package made it, and owned by the server's account. The same for every datastore that
//! initializes one; what differs is a [`Filling`].

use std::fs;
use std::os::unix::fs::MetadataExt;

use async_trait::async_trait;
use camino::Utf8Path;

use super::Owner;
use super::restoring::HalfRestored;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::files;

/// Says that a directory is half made: beside it, on the same volume.
const INITIALIZING: &str = ".trove-initializing";
/// Where the entries of a package's data directory wait until all of them are moved.
const MOVING: &str = ".trove-moving";

/// What became of the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDirectory {
    /// It was made now: nobody but the server's own administrator is in it.
    New,
    /// It held data already: of a package, of a restored backup, of an earlier attempt.
    Existing,
}

/// What a datastore knows of its data directory.
#[async_trait]
pub trait Filling: Send + Sync {
    /// Mode of the directory.
    fn mode(&self) -> u32;

    /// Fills an empty directory.
    ///
    /// # Errors
    /// The server's program failed.
    async fn initialize(&self, op: &Op, directory: &Utf8Path) -> Result<()>;
}

/// Where a data directory is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Where the volume is mounted, and packages make theirs.
    pub mount_point: &'a Utf8Path,
    /// Below it.
    pub data_dir: &'a Utf8Path,
    /// True for a directory with the server's own tables in it.
    pub is_database: fn(&Utf8Path) -> bool,
}

impl Place<'_> {
    /// Makes sure that there is an initialized database that the server may use. Repeatable: an interrupted move goes on, an interrupted initialization starts
    /// again.
    ///
    /// # Errors
    /// The server's program failed, or the file system did.
    pub async fn ensure(self, op: &Op, half_restored: &HalfRestored, filling: &dyn Filling, owner: &Owner) -> Result<DataDirectory> {
        let Place { mount_point, data_dir: data, .. } = self;
        let marker = mount_point.join(INITIALIZING);
        if half_restored.is_set() {
            tracing::warn!(directory = %data, "an earlier restore was interrupted: its half of a database is removed");
            files::remove_tree(data)?;
            half_restored.forget()?;
        } else if marker.exists() {
            tracing::warn!(directory = %data, "an earlier initialization of the data directory was interrupted: starting again");
            files::remove_tree(data)?;
        } else {
            self.move_from_mount_point()?;
            if (self.is_database)(data) {
                owner.take(op, data).await?;
                return Ok(DataDirectory::Existing);
            }
            refuse_leftovers(data)?;
        }
        if !mount_point.exists() {
            owner.directory(op, mount_point, 0o755).await?;
        }
        files::write_atomic(&marker, b"", 0o600, None)?;
        owner.directory(op, data, filling.mode()).await?;
        tracing::info!(directory = %data, "initializing the data directory");
        filling.initialize(op, data).await?;
        owner.take(op, data).await?;
        files::remove(&marker)?;
        Ok(DataDirectory::New)
    }

    /// Leaves nothing of whatever database there was, a package's at the mount point included.
    ///
    /// # Errors
    /// The file system refused.
    pub fn clear(self) -> Result<()> {
        files::remove(&self.mount_point.join(INITIALIZING))?;
        self.move_from_mount_point()?;
        files::remove_tree(self.data_dir)
    }

    /// Without a volume, a package has made its database at the mount point itself: it is renamed into place. All of it goes to a
    /// directory of another name first, so that the data directory is there either not at all or completely.
    fn move_from_mount_point(self) -> Result<()> {
        let (root, data) = (self.mount_point, self.data_dir);
        let moving = root.join(MOVING);
        if !moving.exists() && ((self.is_database)(data) || !(self.is_database)(root)) {
            return Ok(());
        }
        tracing::info!(from = %root, to = %data, "moving the database that the package made");
        files::ensure_directory(&moving, 0o750, None)?;
        let metadata = fs::metadata(root).action(format!("look at {root}"))?;
        std::os::unix::fs::chown(&moving, Some(metadata.uid()), Some(metadata.gid())).action(format!("set the owner of {moving}"))?;
        for entry in root.read_dir_utf8().action(format!("read {root}"))? {
            let entry = entry.action(format!("read {root}"))?;
            let name = entry.file_name();
            if matches!(name, MOVING | "lost+found") || root.join(name) == *data {
                continue;
            }
            fs::rename(entry.path(), moving.join(name)).action(format!("move {} into {moving}", entry.path()))?;
        }
        if data.exists() {
            fs::remove_dir(data).action(format!("replace {data}, which should be empty"))?;
        }
        fs::rename(&moving, data).action(format!("rename {moving} to {data}"))
    }
}

/// A data directory with something in it that is no database is not the agent's to delete.
fn refuse_leftovers(data: &Utf8Path) -> Result<()> {
    let Ok(mut entries) = data.read_dir_utf8() else { return Ok(()) };
    match entries.next() {
        Some(Ok(entry)) => Err(Error::guest(format!(
            "the data directory {data} is not empty, and not a database either ({} is in it): empty it, or give the instance a clean volume",
            entry.file_name()
        ))),
        Some(Err(error)) => Err(error).action(format!("read {data}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packages_database_is_moved_whole_and_an_interrupted_move_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        for name in ["mysql", "lost+found", "data", MOVING] {
            fs::create_dir(root.join(name)).unwrap();
        }
        // As after a crash between two renames: one file has moved.
        fs::write(root.join(MOVING).join("ibdata1"), "x").unwrap();
        fs::write(root.join("ib_logfile0"), "y").unwrap();
        let data_dir = root.join("data");
        let place = Place { mount_point: root, data_dir: &data_dir, is_database: |directory| directory.join("mysql").is_dir() };
        place.move_from_mount_point().unwrap();
        place.move_from_mount_point().unwrap();
        for name in ["mysql", "ibdata1", "ib_logfile0"] {
            assert!(data_dir.join(name).exists(), "{name}");
        }
        assert!(root.join("lost+found").exists() && !root.join("mysql").exists() && !root.join(MOVING).exists());
    }

    #[test]
    fn strange_content_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(dir.path()).unwrap();
        fs::create_dir(root.join("data")).unwrap();
        refuse_leftovers(&root.join("data")).unwrap();
        fs::write(root.join("data/thesis.odt"), "").unwrap();
        assert!(refuse_leftovers(&root.join("data")).unwrap_err().to_string().contains("thesis.odt"));
    }
}
