//! The template flow of `prepare`: the same steps for every datastore, in an order that never reports success too early.
//!
//! Trove's own flow (trove/guestagent/datastore/manager.py: _prepare) creates databases and users after it has reported ACTIVE and ignores
//! their failure. Here they belong to the preparation: a failed step fails the instance, with its reason.

use std::sync::Arc;

use camino::Utf8PathBuf;

use super::modules::{self, ModuleEnv, NewRelicPaths};
use super::restore::Chain;
use super::{DatastoreManager, RestoreTarget, UserAdmin, replication};
use crate::config::Settings;
use crate::error::{Error, Result, ResultExt};
use crate::model::{PasswordChange, PrepareRequest, UserSpec};
use crate::op::Op;
use crate::strategies::storage::{StorageRequest, storage_for};
use crate::system::command::CommandRunner;
use crate::system::packages::PackageManager;
use crate::volume::{Existing, Formatted, Volume};

/// What the flow needs besides the manager.
#[derive(Debug, Clone)]
pub struct PrepareEnv {
    /// The agent's configuration.
    pub settings: Arc<Settings>,
    /// Starts programs.
    pub commands: Arc<dyn CommandRunner>,
    /// Installs packages.
    pub packages: Arc<dyn PackageManager>,
}

impl PrepareEnv {
    /// What modules need.
    pub fn modules(&self) -> ModuleEnv {
        let (settings, commands) = (Arc::clone(&self.settings), Arc::clone(&self.commands));
        ModuleEnv { settings, commands, new_relic: NewRelicPaths::default() }
    }
}

/// What the controller is to learn of a preparation besides its success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Root can log in from outside.
    pub root_enabled: bool,
}

/// Prepares the instance. Repeatable: what an earlier, failed attempt has done is found done.
///
/// # Errors
/// The first step that failed, named.
pub async fn run(op: &Op, manager: &dyn DatastoreManager, env: &PrepareEnv, request: &PrepareRequest) -> Result<Outcome> {
    refuse_what_is_missing(manager, request)?;
    let backup = look_at_backup(op, env, request).await.action("look at the backup to restore")?;
    install(op, manager, env, request).await.action("install packages")?;
    if let Some(device) = &request.device_path {
        volume(op, manager, env, request, device.clone()).await.action(format!("set up the volume {device}"))?;
    }
    if let (Some(chain), Some(backups)) = (backup, manager.backups()) {
        tracing::info!(backups = chain.depth(), "restoring");
        manager.configure(op, request).await.action("configure the database")?;
        let (settings, volume) = (&env.settings.backup, manager.mount_point());
        chain.restore(op, backups, settings, &RestoreTarget::Instance, &volume).await.action("restore the backup")?;
    }
    tracing::info!("configuring the database");
    manager.prepare_server(op, request).await.action("configure the database")?;
    populate(op, manager, env, request).await?;
    follow(op, manager, request).await?;
    let root_enabled = is_root_enabled(op, manager).await?;
    tracing::info!("prepared");
    Ok(Outcome { root_enabled })
}

async fn is_root_enabled(op: &Op, manager: &dyn DatastoreManager) -> Result<bool> {
    match manager.root() {
        Some(root) => root.is_enabled(op).await.action("look whether root is enabled"),
        None => Ok(false),
    }
}

/// A module that cannot be applied fails no instance: its result says so (trove/guestagent/datastore/manager.py: `_prepare`).
async fn apply_modules(op: &Op, env: &PrepareEnv, request: &PrepareRequest) -> Result<()> {
    if request.modules.is_empty() {
        return Ok(());
    }
    match modules::apply(op, &env.modules(), &request.modules).await {
        Err(error) if op.cancel.is_cancelled() => Err(error),
        Err(error) => {
            tracing::error!(%error, "failed to apply the modules of a new instance");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// Makes a replica of an instance that was restored from its source.
async fn follow(op: &Op, manager: &dyn DatastoreManager, request: &PrepareRequest) -> Result<()> {
    match &request.snapshot {
        Some(snapshot) => replication::attach(op, manager, snapshot, snapshot.config.as_ref()).await,
        None => Ok(()),
    }
}

/// Everything about the backup that can be wrong is found out before anything is touched. A snapshot of a volume is there already, as the volume.
async fn look_at_backup(op: &Op, env: &PrepareEnv, request: &PrepareRequest) -> Result<Option<Chain>> {
    let Some(backup) = request.backup_info.as_ref().filter(|backup| !backup.is_volume_snapshot()) else {
        return Ok(None);
    };
    let (swift_url, storage_driver) = (backup.swift_url.clone(), backup.storage_driver.clone());
    let storage = storage_for(op, &env.settings, &StorageRequest { swift_url, storage_driver, release: None }).await?;
    Chain::inspect(op, storage, &env.settings.backup, backup).await.map(Some)
}

/// Requests this build cannot serve fail before anything is touched.
fn refuse_what_is_missing(manager: &dyn DatastoreManager, request: &PrepareRequest) -> Result<()> {
    let unsupported = |operation: &str| Err(Error::not_supported(operation, manager.descriptor().name));
    if request.backup_info.is_some() && manager.backups().is_none() {
        return unsupported("restore");
    }
    if request.snapshot.is_some() && manager.replication().is_none() {
        return unsupported("attach_replica");
    }
    // A cluster's members get theirs from the cluster's strategy.
    let populated = request.cluster_config.is_none();
    if populated && !request.databases.is_empty() && manager.databases().is_none() {
        return unsupported("create_database");
    }
    if populated && !request.users.is_empty() && manager.users().is_none() {
        return unsupported("create_user");
    }
    if populated && request.root_password.is_some() && manager.root().is_none() {
        return unsupported("enable_root");
    }
    Ok(())
}

async fn install(op: &Op, manager: &dyn DatastoreManager, env: &PrepareEnv, request: &PrepareRequest) -> Result<()> {
    if manager.service().brings_its_own_programs() {
        return Ok(());
    }
    if !request.packages.is_empty() {
        tracing::info!(packages = ?request.packages, "installing packages");
        return env.packages.install(op, &request.packages).await;
    }
    if manager.is_installed(op).await {
        return Ok(());
    }
    let packages = manager.packages();
    tracing::info!(?packages, "installing the datastore's own packages: the request names none and there is no server");
    env.packages.install(op, &packages).await
}

/// Puts the data on the volume: formats it if it is blank, moves what the package left at the mount point, mounts it for good.
async fn volume(op: &Op, manager: &dyn DatastoreManager, env: &PrepareEnv, request: &PrepareRequest, device: Utf8PathBuf) -> Result<()> {
    let mount_point = request.mount_point.clone().unwrap_or_else(|| manager.mount_point());
    let volume = Volume::new(device, &env.settings.volume, env.commands.clone());
    volume.wait_for_device(op).await?;
    if volume.mount_points()?.contains(&mount_point) {
        tracing::info!(%mount_point, "the volume is mounted already");
        return Ok(());
    }
    tracing::info!(device = %volume.device(), %mount_point, "setting up the volume");
    manager.stop(op).await?;
    volume.unmount_all(op).await?;
    let formatted = volume.ensure_formatted(op, Existing::Keep).await?;
    if matches!(formatted, Formatted::New) {
        let data = manager.data_directory(&mount_point);
        let below = data.strip_prefix(&mount_point).ok().filter(|below| !below.as_str().is_empty());
        volume.migrate_data(op, &mount_point, below).await?;
    }
    volume.mount(op, &mount_point, true).await
}

/// Accounts that are there already, from an attempt that was cut short or in what was restored, get what the request says instead.
async fn create_users(op: &Op, users: &dyn UserAdmin, wanted: &[UserSpec]) -> Result<()> {
    let (mut missing, mut present) = (Vec::new(), Vec::new());
    for user in wanted {
        // What is wrong with a name is for `create` to say.
        let is_there = matches!(users.get(op, &user.name, user.host.as_deref()).await, Ok(Some(_)));
        if is_there { present.push(user) } else { missing.push(user.clone()) }
    }
    if !missing.is_empty() {
        users.create(op, &missing).await?;
    }
    for user in present {
        tracing::info!(user = user.name, "the user is there already: password and databases are set");
        if let Some(password) = user.password.clone() {
            let change = PasswordChange { name: user.name.clone(), host: user.host.clone(), password };
            users.change_passwords(op, &[change]).await?;
        }
        let databases: Vec<String> = user.databases.iter().map(|database| database.name.clone()).collect();
        if !databases.is_empty() {
            users.grant_access(op, &user.name, user.host.as_deref(), &databases).await?;
        }
    }
    Ok(())
}

/// Modules, databases, users and root, as the request wants them.
async fn populate(op: &Op, manager: &dyn DatastoreManager, env: &PrepareEnv, request: &PrepareRequest) -> Result<()> {
    apply_modules(op, env, request).await?;
    let unsupported = |operation: &str| Error::not_supported(operation, manager.descriptor().name);
    // Members of a cluster get theirs from the cluster's strategy.
    if request.cluster_config.is_some() {
        return Ok(());
    }
    if !request.databases.is_empty() {
        let databases = manager.databases().ok_or_else(|| unsupported("create_database"))?;
        databases.create(op, &request.databases).await.action("create the databases")?;
    }
    if !request.users.is_empty() {
        let users = manager.users().ok_or_else(|| unsupported("create_user"))?;
        create_users(op, users, &request.users).await.action("create the users")?;
    }
    if let Some(password) = &request.root_password {
        let root = manager.root().ok_or_else(|| unsupported("enable_root"))?;
        root.enable(op, Some(password.clone())).await.action("enable root")?;
    }
    Ok(())
}
