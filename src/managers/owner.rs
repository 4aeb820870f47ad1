//! [`Owner`]: the account a server runs as, which its files must belong to.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::{Group, User};

use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::service::ServiceControl;

/// The account the server runs as: one of this guest, or of the container the server runs in.
#[derive(Debug, Clone)]
pub struct Owner {
    service: Arc<dyn ServiceControl>,
    names: &'static [&'static str],
}

impl Owner {
    /// The first of `names` that is an account here: packages of one family have several.
    pub fn new(service: Arc<dyn ServiceControl>, names: &'static [&'static str]) -> Owner {
        Owner { service, names }
    }

    /// Its name; the first one when there is none of them yet.
    pub fn name(&self) -> &'static str {
        let known = |name: &&&str| User::from_name(name).is_ok_and(|user| user.is_some());
        self.names.iter().find(known).or(self.names.first()).copied().unwrap_or_default()
    }

    /// Gives a file or a tree to the account. A tree whose top and first level are right already is left alone: a big one takes long.
    ///
    /// # Errors
    /// There is no such account, or the file system refused.
    pub async fn take(&self, op: &Op, path: &Utf8Path) -> Result<()> {
        let name = self.name();
        if self.service.brings_its_own_programs() {
            let chown = CommandSpec::new("chown").args(["-R", "--", name, path.as_str()]);
            return self.service.exec(op, chown).await.map(drop).action(format!("give {path} to {name}"));
        }
        let user = User::from_name(name).action(format!("look up the account {name}"))?;
        let user = user.ok_or_else(|| Error::guest(format!("there is no account '{name}' on this guest: is the datastore installed?")))?;
        let gid = Group::from_name(name).ok().flatten().map_or(user.gid, |group| group.gid);
        let (uid, gid, tree) = (user.uid.as_raw(), gid.as_raw(), path.to_owned());
        let work = crate::op::spawn_blocking(move || if is_owned(&tree, uid, gid)? { Ok(()) } else { chown_tree(&tree, uid, gid) });
        let done = work.await.map_err(|error| Error::guest(format!("giving {path} to {name} broke off: {error}")))?;
        done.action(format!("give {path} to {name}"))
    }

    /// Makes a directory and gives it to the account.
    ///
    /// # Errors
    /// Those of making it and of [`Self::take`].
    pub async fn directory(&self, op: &Op, path: &Utf8Path, mode: u32) -> Result<()> {
        files::ensure_directory(path, mode, None)?;
        self.take(op, path).await
    }
}

fn is_owned(path: &Utf8Path, uid: u32, gid: u32) -> std::io::Result<bool> {
    let right = |path: &Utf8Path| path.symlink_metadata().map(|found| found.uid() == uid && found.gid() == gid);
    if !right(path)? {
        return Ok(false);
    }
    if path.is_dir() {
        for entry in path.read_dir_utf8()? {
            if !right(entry?.path())? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn chown_tree(path: &Utf8Path, uid: u32, gid: u32) -> std::io::Result<()> {
    let mut pending: Vec<Utf8PathBuf> = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        // Never through a symbolic link: it may lead out of the volume.
        std::os::unix::fs::lchown(&path, Some(uid), Some(gid))?;
        if path.symlink_metadata()?.is_dir() {
            for entry in path.read_dir_utf8()? {
                pending.push(entry?.into_path());
            }
        }
    }
    Ok(())
}
