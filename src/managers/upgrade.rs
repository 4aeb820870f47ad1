//! The template flows of an upgrade: the same for every datastore.
//!
//! Two ways lead to another version of the server. The guest gets a new root disk made from another image (Nova's rebuild), and keeps its data volume: up
//! to Victoria between `pre_upgrade` and `post_upgrade`, later before `rebuild` (trove/taskmanager/models.py: `upgrade`, `RebuildAction`). Or the
//! server is replaced in place: `upgrade` since Wallaby, which here is the guest's package manager's work.

use std::fmt;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::DatastoreManager;
use super::prepare::PrepareEnv;
use crate::error::{Error, Result, ResultExt};
use crate::model::Overrides;
use crate::op::Op;
use crate::system::files;
use crate::volume::Volume;

/// On the volume, while the root disk changes: what of the instance was on the old one.
const SAVED: &str = ".trove-upgrade";
/// On the volume: the server whose data they are.
const NOTE: &str = ".trove-server";

/// In the state directory: packages are being replaced.
const PACKAGES: &str = "upgrading_packages";

/// A server's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// What it is called.
    pub name: &'static str,
    /// Major, minor, patch; of PostgreSQL, which has two numbers, the third is 0.
    pub version: (u16, u16, u16),
    /// How many of the numbers are a series: servers of one series read one another's data.
    pub series: usize,
    /// How many there are.
    pub numbers: usize,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.parts().iter().map(u16::to_string).collect();
        write!(f, "{} {}", self.name, numbers.join("."))
    }
}

impl Product {
    fn parts(&self) -> Vec<u16> {
        let (major, minor, patch) = self.version;
        [major, minor, patch].into_iter().take(self.numbers).collect()
    }

    /// True when it is older than the version that is wanted, as far as that goes: `11` and `11.8` are as good as any 11.8.x.
    ///
    /// # Errors
    /// It is newer, or the text is no version.
    pub fn is_older_than(&self, wanted: &str) -> Result<bool> {
        let parts: std::result::Result<Vec<u16>, _> = wanted.trim().split(['.', '-']).take(self.numbers).map(str::parse).collect();
        let parts = parts.map_err(|_| Error::bad_request(format!("'{}' is not a version to upgrade to", wanted.escape_debug())))?;
        let here = self.parts();
        let order = here[..parts.len()].cmp(&parts[..]);
        // A later patch of the same series is what an older one was upgraded to.
        if order.is_gt() && here[..parts.len().min(self.series)] != parts[..parts.len().min(self.series)] {
            return Err(Error::bad_request(format!(
                "version {wanted} is older than {self}, which is installed: a downgrade is not possible. Nothing was changed; restore a dump into a new \
                 instance of version {wanted}"
            )));
        }
        Ok(order.is_lt())
    }

    /// Whether a version is of another series, as far as it goes.
    pub(super) fn is_of_another_series(&self, wanted: &str) -> bool {
        let parts = wanted.trim().split(['.', '-']).take(self.series).map(|part| part.parse().ok());
        parts.zip(self.parts()).any(|(wanted, here)| wanted != Some(here))
    }

    /// The same program as a package of Debian's or Red Hat's has it (`1:11.8.3-0+deb13u1`); `None` for a version that does not begin with as many numbers.
    fn packaged(&self, version: &str) -> Option<Product> {
        let upstream = version.split_once(':').map_or(version, |(_epoch, upstream)| upstream);
        let plain = upstream.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut numbers = plain.split('.').map(str::parse::<u16>);
        let mut next = || numbers.next().and_then(std::result::Result::ok);
        let mut version = [0; 3];
        for part in version.iter_mut().take(self.numbers) {
            *part = next()?;
        }
        let [major, minor, patch] = version;
        Some(Product { version: (major, minor, patch), ..*self })
    }
}

/// Writes down which server the data on the volume are of.
///
/// # Errors
/// The volume cannot be written to.
pub(super) fn write_note(mount_point: &Utf8Path, server: &str) -> Result<()> {
    files::write_atomic(&mount_point.join(NOTE), format!("{server}\n").as_bytes(), 0o644, None)
}

/// The server whose data are on the volume, as it was written down.
///
/// # Errors
/// The note cannot be read.
pub(super) fn read_note(mount_point: &Utf8Path) -> Result<Option<String>> {
    Ok(files::read_optional(&mount_point.join(NOTE))?.map(|text| text.trim().to_owned()))
}

/// What to say where there are no data at all.
pub(super) fn no_data(directory: &Utf8Path) -> Error {
    Error::guest(format!(
        "there is no database in {directory}: attach the instance's own volume and send the request again; nothing was changed"
    ))
}

/// What to say of data that the installed server cannot read.
pub(super) fn unreadable(made_by: impl fmt::Display, here: impl fmt::Display) -> Error {
    Error::bad_request(format!(
        "the data are of {made_by}, which {here} cannot read: a downgrade is not possible. Nothing was changed; rebuild the guest from an image with \
         {made_by} or newer, or restore a dump into a new instance"
    ))
}

/// What a datastore does for an upgrade.
#[async_trait]
pub trait Upgrades: Send + Sync {
    /// Finds out that the installed server can read the data before it is started on them.
    ///
    /// # Errors
    /// There are none, or they are of a newer server, or of another kind.
    async fn check_data(&self, op: &Op) -> Result<()>;

    /// The installed server, looked at anew.
    ///
    /// # Errors
    /// There is none.
    async fn installed(&self, op: &Op) -> Result<Product>;

    /// Refuses a version that packages do not lead to from what is installed.
    ///
    /// # Errors
    /// It is one; what to do instead is in the error.
    fn check_step(&self, _here: &Product, _wanted: &str) -> Result<()> {
        Ok(())
    }

    /// Copies configuration and credentials to this directory of the volume, for the agent of the next root disk.
    ///
    /// # Errors
    /// They cannot be read, or the volume is full.
    async fn save(&self, op: &Op, directory: &Utf8Path) -> Result<()>;

    /// Takes them back.
    ///
    /// # Errors
    /// They cannot be written, or the installed server refuses the configuration.
    async fn bring_back(&self, op: &Op, directory: &Utf8Path) -> Result<()>;

    /// Writes the configuration that the controller sends along.
    ///
    /// # Errors
    /// The installed server refuses it.
    async fn reconfigure(&self, op: &Op, contents: Option<&str>, overrides: Option<&Overrides>) -> Result<()>;

    /// Makes the configuration that is there into one for the installed server, which is not that which has read it so far.
    ///
    /// # Errors
    /// The installed server refuses it.
    async fn adapt(&self, op: &Op) -> Result<()>;

    /// Starts the installed server on the data, sees to the agent's account in it, and brings its own tables up to date. Repeatable.
    ///
    /// # Errors
    /// It does not start, or an upgrade program failed.
    async fn finish(&self, op: &Op) -> Result<()>;
}

/// What `pre_upgrade` returns, in Trove's names (trove/guestagent/datastore/mysql_common/manager.py at train-eol). The controller adds `device` and hands it to
/// `post_upgrade`, perhaps of another agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Saved {
    mount_point: String,
    save_dir: String,
    save_etc_dir: String,
    home_save: String,
}

/// `pre_upgrade` up to Victoria: stops the server, saves what is not on the volume, and unmounts it. Repeatable.
///
/// # Errors
/// The first step that failed.
pub async fn leave(op: &Op, manager: &dyn DatastoreManager, upgrades: &dyn Upgrades, volume: &Volume) -> Result<Saved> {
    let mount_point = manager.mount_point();
    let saved = mount_point.join(SAVED);
    manager.stop(op).await?;
    // Cut short after the unmounting, it begins again.
    volume.bring_back(op, &mount_point).await?;
    upgrades.save(op, &saved).await.action(format!("save the instance's settings to {saved}"))?;
    volume.release(op, &mount_point).await?;
    let directory = |name: &str| saved.join(name).into_string();
    Ok(Saved {
        mount_point: mount_point.into_string(),
        save_dir: directory("etc"),
        save_etc_dir: directory("etc"),
        home_save: directory("state"),
    })
}

/// `post_upgrade`: the instance goes on with the server of this root disk. Repeatable.
///
/// # Errors
/// The first step that failed.
pub async fn arrive(op: &Op, manager: &dyn DatastoreManager, upgrades: &dyn Upgrades, volume: Option<&Volume>) -> Result<()> {
    manager.stop(op).await?;
    if let Some(volume) = volume {
        mount(op, manager, volume).await?;
    }
    upgrades.check_data(op).await?;
    let saved = manager.mount_point().join(SAVED);
    if saved.exists() {
        upgrades.bring_back(op, &saved).await.action(format!("take the instance's settings back from {saved}"))?;
    }
    upgrades.finish(op).await?;
    files::remove_tree(&saved)
}

/// `rebuild`: likewise, with the configuration that the controller sends along. Repeatable.
///
/// # Errors
/// The first step that failed.
pub async fn rebuild(
    op: &Op,
    manager: &dyn DatastoreManager,
    upgrades: &dyn Upgrades,
    volume: &Volume,
    contents: Option<&str>,
    overrides: Option<&Overrides>,
) -> Result<()> {
    manager.stop(op).await?;
    // An instance without a volume has lost its data with its root disk; `check_data` says so.
    if volume.device().exists() {
        mount(op, manager, volume).await?;
    }
    upgrades.check_data(op).await?;
    upgrades.reconfigure(op, contents, overrides).await.action("configure the database")?;
    upgrades.finish(op).await
}

/// `upgrade` since Wallaby: another version of the server from the guest's package sources. Repeatable: what an earlier one, cut short, has left of packages is
/// finished.
///
/// # Errors
/// A downgrade, or sources that do not have the version, before anything is touched; or the first step that failed.
pub async fn in_place(op: &Op, manager: &dyn DatastoreManager, upgrades: &dyn Upgrades, env: &PrepareEnv, version: &str) -> Result<()> {
    if manager.service().brings_its_own_programs() {
        return Err(Error::not_supported("upgrade", manager.descriptor().name));
    }
    // Half of an installation may have a program that tells the new version, or none.
    if unfinished(env).exists() || is_wanted(&upgrades.installed(op).await?, upgrades, version)? {
        install(op, manager, upgrades, env, version).await?;
    }
    // The packages' own scripts start it.
    manager.stop(op).await?;
    upgrades.check_data(op).await?;
    upgrades.adapt(op).await.action("configure the database")?;
    upgrades.finish(op).await
}

fn is_wanted(here: &Product, upgrades: &dyn Upgrades, version: &str) -> Result<bool> {
    let is_older = here.is_older_than(version)?;
    if is_older {
        upgrades.check_step(here, version)?;
    }
    Ok(is_older)
}

/// There while packages are replaced.
fn unfinished(env: &PrepareEnv) -> Utf8PathBuf {
    env.settings.state_dir.join(PACKAGES)
}

async fn install(op: &Op, manager: &dyn DatastoreManager, upgrades: &dyn Upgrades, env: &PrepareEnv, version: &str) -> Result<()> {
    let packages = manager.packages();
    let names = packages.join(", ");
    let absent = |offered: &str| {
        Error::guest(format!(
            "the guest's package sources have no version {version} of {names}{offered}: add a source that has it to the guest and send the upgrade again"
        ))
    };
    let here = upgrades.installed(op).await.ok();
    if let (Some(here), Some(package)) = (here, packages.first())
        && let Some(offered) = env.packages.candidate(op, package).await?
        && let Some(offered) = here.packaged(&offered)
        && offered.is_older_than(version).unwrap_or(true)
    {
        return Err(absent(&format!(", but {offered}; nothing was changed")));
    }
    manager.stop(op).await?;
    tracing::info!(packages = names, version, "upgrading packages");
    files::write_atomic(&unfinished(env), b"", 0o600, None)?;
    env.packages.upgrade(op, &packages).await.action("upgrade the datastore's packages")?;
    files::remove(&unfinished(env))?;
    if upgrades.installed(op).await?.is_older_than(version)? { Err(absent("")) } else { Ok(()) }
}

/// Mounts the volume for good. It is never formatted: it has the instance's data.
async fn mount(op: &Op, manager: &dyn DatastoreManager, volume: &Volume) -> Result<()> {
    let mount_point = manager.mount_point();
    let volume = volume.of_mount_point(op, &mount_point).await?;
    volume.mount(op, &mount_point, true).await.action(format!("mount the instance's volume at {mount_point}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_later_versions_are_upgraded_to() {
        let here = Product { name: "MariaDB", version: (10, 11, 14), series: 2, numbers: 3 };
        for older in ["11.8", "11", "10.12.1", "10.11.15"] {
            assert!(here.is_older_than(older).unwrap(), "{older}");
        }
        for same in ["10.11", "10", "10.11.14", "10.11.3", "10.11.14-1"] {
            assert!(!here.is_older_than(same).unwrap(), "{same}");
        }
        for refused in ["10.6", "9", "10.6.22"] {
            assert!(here.is_older_than(refused).unwrap_err().to_string().contains("downgrade is not possible"), "{refused}");
        }
        assert!(here.is_older_than("latest").unwrap_err().to_string().contains("'latest'"));
        let here = Product { name: "PostgreSQL", version: (15, 18, 0), series: 1, numbers: 2 };
        assert_eq!(here.to_string(), "PostgreSQL 15.18");
        assert!(here.is_older_than("17").unwrap() && here.is_older_than("15.19").unwrap());
        assert!(!here.is_older_than("15").unwrap() && !here.is_older_than("15.3").unwrap() && !here.is_older_than("15.18-0").unwrap());
        assert!(here.is_older_than("14.20").unwrap_err().to_string().contains("older than PostgreSQL 15.18"));
        assert!(here.is_of_another_series("17.1") && !here.is_of_another_series("15.19") && !here.is_of_another_series("15"));
        assert_eq!(here.packaged("17.6-0+deb13u1").unwrap().to_string(), "PostgreSQL 17.6");
    }

    #[test]
    fn packages_tell_the_version_of_what_is_in_them() {
        let here = Product { name: "MariaDB", version: (10, 11, 14), series: 2, numbers: 3 };
        let version = |text: &str| here.packaged(text).map(|product| product.version);
        assert_eq!(version("1:11.8.3-0+deb13u1"), Some((11, 8, 3)));
        assert_eq!(version("8.4.3-3-1.bookworm"), Some((8, 4, 3)));
        assert_eq!(version("5:7.0.15-1~deb12u5"), Some((7, 0, 15)));
        assert_eq!((version("1.1-1"), version("latest"), version("")), (None, None, None));
        assert_eq!(here.packaged("1:11.8.3-0+deb13u1").unwrap().to_string(), "MariaDB 11.8.3");
    }
}
