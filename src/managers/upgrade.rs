//! The template flows of an upgrade: the same for every datastore.
//!
//! Two ways lead to another version of the server. The guest gets a new root disk made from another image (Nova's rebuild), and keeps its data volume: up
//! to Victoria between `pre_upgrade` and `post_upgrade`, later before `rebuild` (trove/taskmanager/models.py: `upgrade`, `RebuildAction`). Or the
//! server is replaced in place: `upgrade` since Wallaby, which here is the guest's package manager's work.

use async_trait::async_trait;
use camino::Utf8Path;
use serde::Serialize;

use super::DatastoreManager;
use super::prepare::PrepareEnv;
use crate::error::{Error, Result, ResultExt};
use crate::model::Overrides;
use crate::op::Op;
use crate::volume::Volume;

/// On the volume, while the root disk changes: what of the instance was on the old one.
const SAVED: &str = ".trove-upgrade";

/// What a datastore does for an upgrade.
#[async_trait]
pub trait Upgrades: Send + Sync {
    /// Finds out that the installed server can read the data before it is started on them.
    ///
    /// # Errors
    /// There are none, or they are of a newer server, or of another kind.
    async fn check_data(&self, op: &Op) -> Result<()>;

    /// True when the installed server is older than `version`.
    ///
    /// # Errors
    /// It is newer: that would be a downgrade.
    async fn needs_packages(&self, op: &Op, version: &str) -> Result<bool>;

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
    crate::system::files::remove_tree(&saved)
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

/// `upgrade` since Wallaby: another version of the server from the guest's package sources. Repeatable.
///
/// # Errors
/// A downgrade, before anything is touched; or the first step that failed.
pub async fn in_place(op: &Op, manager: &dyn DatastoreManager, upgrades: &dyn Upgrades, env: &PrepareEnv, version: &str) -> Result<()> {
    if manager.service().brings_its_own_programs() {
        return Err(Error::not_supported("upgrade", manager.descriptor().name));
    }
    if upgrades.needs_packages(op, version).await? {
        manager.stop(op).await?;
        let packages: Vec<String> = manager.descriptor().packages.iter().map(|&name| name.to_owned()).collect();
        tracing::info!(?packages, version, "upgrading packages");
        env.packages.upgrade(op, &packages).await.action("upgrade the datastore's packages")?;
        if upgrades.needs_packages(op, version).await? {
            return Err(Error::guest(format!(
                "the guest's package sources have no version {version} of {}: add a source that has it to the guest and send the upgrade again",
                packages.join(", ")
            )));
        }
    }
    // The packages' own scripts start it.
    manager.stop(op).await?;
    upgrades.check_data(op).await?;
    upgrades.finish(op).await
}

/// Mounts the volume for good. It is never formatted: it has the instance's data.
async fn mount(op: &Op, manager: &dyn DatastoreManager, volume: &Volume) -> Result<()> {
    let mount_point = manager.mount_point();
    let volume = volume.of_mount_point(op, &mount_point).await?;
    volume.mount(op, &mount_point, true).await.action(format!("mount the instance's volume at {mount_point}"))
}
