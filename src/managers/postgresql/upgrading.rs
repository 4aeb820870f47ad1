//! [`Upgrades`]: other versions of the server on the data of this instance.

use async_trait::async_trait;
use camino::Utf8Path;

use super::copied::STANDBY;
use super::manager::PostgreSqlManager;
use super::new_major;
use crate::error::{Error, Result, ResultExt};
use crate::managers::data_directory::DataDirectory;
use crate::managers::upgrade::{Product, no_data, unreadable};
use crate::managers::{DatastoreManager, Upgrades};
use crate::model::Overrides;
use crate::op::Op;
use crate::system::files;

/// In a saved directory: what was in the configuration's, and in the agent's own.
const CONFIGURATION: &str = "etc";
const STATE: &str = "state";
/// Of the agent's directory, what belongs to the instance and not to this life of this guest.
const KEPT: [&str; 2] = ["os_admin.pgpass", "replication.json"];

#[async_trait]
impl Upgrades for PostgreSqlManager {
    async fn check_data(&self, op: &Op) -> Result<()> {
        let data_dir = &self.layout().data_dir;
        new_major::complete(data_dir)?;
        let Some(made_by) = new_major::data_of(data_dir)? else {
            return Err(no_data(data_dir));
        };
        self.half_restored().refuse()?;
        let here = self.program().version(op).await?;
        match made_by.cmp(&here.0) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(unreadable(format!("PostgreSQL {made_by}"), here)),
            std::cmp::Ordering::Less if data_dir.join(STANDBY).exists() => Err(Error::bad_request(format!(
                "the data are a replica's, of PostgreSQL {made_by}: another major version takes no part of them. Nothing was changed; upgrade the source, and make \
                 the replica anew"
            ))),
            std::cmp::Ordering::Less => new_major::programs_of(made_by).map(drop),
        }
    }

    async fn installed(&self, op: &Op) -> Result<Product> {
        let version = self.program().version(op).await?;
        Ok(Product { name: "PostgreSQL", version: (version.0, version.1, 0), series: 1, numbers: 2 })
    }

    /// The settings are in a directory of the version, and the packages' scripts make a cluster of their own.
    fn check_step(&self, here: &Product, wanted: &str) -> Result<()> {
        match here.is_of_another_series(wanted) {
            true => Err(Error::bad_request(format!(
                "version {wanted} is of another series than {here}, which packages do not lead to: nothing was changed; rebuild the guest from an image of that \
                 version"
            ))),
            false => Ok(()),
        }
    }

    async fn save(&self, _op: &Op, directory: &Utf8Path) -> Result<()> {
        let layout = self.layout();
        files::remove_tree(directory)?;
        files::ensure_directory(directory, 0o700, None)?;
        files::copy_tree(&layout.config_dir(), &directory.join(CONFIGURATION))?;
        let state = directory.join(STATE);
        files::ensure_directory(&state, 0o700, None)?;
        KEPT.iter().try_for_each(|name| files::copy_file(&layout.state_dir.join(name), &state.join(name)))
    }

    async fn bring_back(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        let layout = self.layout();
        files::ensure_directory(&layout.state_dir, 0o700, None)?;
        KEPT.iter().try_for_each(|name| files::copy_file(&directory.join(STATE).join(name), &layout.state_dir.join(name)))?;
        let saved = directory.join(CONFIGURATION);
        let (main, overrides) = (layout.main_file(), layout.override_dir());
        if let Some(name) = overrides.file_name() {
            files::copy_tree(&saved.join(name), &overrides)?;
        }
        // Both: of a tree whose first level is right, the rest is left alone.
        for directory in [overrides, layout.config_dir()] {
            if directory.is_dir() {
                self.owner().take(op, &directory).await?;
            }
        }
        match files::read_optional(&saved.join(main.file_name().unwrap_or_default()))? {
            Some(text) => self.reconfigure(op, Some(&text), None).await,
            None => Ok(()),
        }
    }

    async fn reconfigure(&self, op: &Op, contents: Option<&str>, overrides: Option<&Overrides>) -> Result<()> {
        self.write_configuration(op, contents.unwrap_or_default(), overrides).await
    }

    async fn adapt(&self, op: &Op) -> Result<()> {
        self.reconfigure(op, None, None).await
    }

    async fn finish(&self, op: &Op) -> Result<()> {
        let (layout, here) = (self.layout(), self.program().version(op).await?);
        let made_by = new_major::data_of(&layout.data_dir)?;
        tracing::info!(server = %here, data = made_by, "starting the database server on the instance's data");
        // The account may have another number on another root disk.
        self.owner().take(op, &layout.data_dir).await?;
        if let Some(made_by) = made_by.filter(|made_by| *made_by < here.0) {
            new_major::convert(op, self.program(), self.owner(), &layout.data_dir, made_by).await?;
        }
        self.roles().bring_back(op).await.action("bring back how this replica follows")?;
        let is_converted = new_major::has_old(&layout.data_dir);
        self.client_tls().reinstate(op).await?;
        self.service().set_enabled(op, true).await?;
        self.start_with_admin(op, DataDirectory::Existing).await.action("start the database server on the instance's data")?;
        if is_converted && let Err(error) = self.analyze(op).await {
            tracing::warn!(%error, "the tables were not analyzed after the upgrade: queries may be slow until somebody does (vacuumdb --all --analyze-only)");
        }
        new_major::forget_old(&layout.data_dir)
    }
}
