//! [`Upgrades`] for the family: other versions of the server on the data of this instance.

use async_trait::async_trait;
use camino::Utf8Path;

use super::bootstrap;
use super::manager::MySqlManager;
use super::upgrade::{self, SystemTables};
use crate::error::Result;
use crate::managers::upgrade::{Product, no_data};
use crate::managers::{DatastoreManager, Upgrades};
use crate::model::Overrides;
use crate::op::Op;
use crate::system::files;

/// In a saved directory: what was in the configuration's, and in the agent's own.
const CONFIGURATION: &str = "etc";
const STATE: &str = "state";
/// Of the agent's directory, what belongs to the instance and not to this life of this guest.
const KEPT: [&str; 2] = ["os_admin.cnf", "replication.json"];

#[async_trait]
impl Upgrades for MySqlManager {
    async fn check_data(&self, op: &Op) -> Result<()> {
        let layout = self.layout();
        if !bootstrap::is_initialized(&layout.data_dir) {
            return Err(no_data(&layout.data_dir));
        }
        self.half_restored().refuse()?;
        let here = self.program().flavor(op).await?;
        match upgrade::data_of(layout)? {
            Some(made_by) => upgrade::check_data(made_by, here),
            None => Ok(()),
        }
    }

    async fn installed(&self, op: &Op) -> Result<Product> {
        self.program().forget().await;
        Ok(self.program().flavor(op).await?.into())
    }

    async fn save(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        let layout = self.layout();
        files::remove_tree(directory)?;
        files::ensure_directory(directory, 0o700, None)?;
        files::copy_tree(layout.config_dir(), &directory.join(CONFIGURATION))?;
        let state = directory.join(STATE);
        files::ensure_directory(&state, 0o700, None)?;
        for name in KEPT {
            files::copy_file(&layout.state_dir.join(name), &state.join(name))?;
        }
        upgrade::note(layout, self.program().flavor(op).await?)
    }

    async fn bring_back(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        let layout = self.layout();
        files::ensure_directory(&layout.state_dir, 0o700, None)?;
        for name in KEPT {
            files::copy_file(&directory.join(STATE).join(name), &layout.state_dir.join(name))?;
        }
        let saved = directory.join(CONFIGURATION);
        // What the new root disk has is of its own version; only the overrides are the instance's.
        let overrides = layout.override_dir.strip_prefix(layout.config_dir()).unwrap_or(&layout.override_dir);
        files::copy_tree(&saved.join(overrides), &layout.override_dir)?;
        let name = layout.main_file.file_name().unwrap_or_default();
        match files::read_optional(&saved.join(name))? {
            Some(text) => self.reconfigure(op, Some(&text), None).await,
            None => Ok(()),
        }
    }

    async fn reconfigure(&self, op: &Op, contents: Option<&str>, overrides: Option<&Overrides>) -> Result<()> {
        self.write_configuration(op, contents.unwrap_or_default(), overrides).await
    }

    async fn adapt(&self, op: &Op) -> Result<()> {
        match files::read_optional(&self.layout().main_file)? {
            Some(text) => self.reconfigure(op, Some(&text), None).await,
            None => Ok(()),
        }
    }

    async fn finish(&self, op: &Op) -> Result<()> {
        let layout = self.layout();
        let here = self.program().flavor(op).await?;
        let made_by = upgrade::data_of(layout)?;
        tracing::info!(server = %here, data = made_by.map(|made_by| made_by.to_string()), "starting the database server on the instance's data");
        // The account may have another number on another root disk.
        self.owner().take(op, &layout.data_dir).await?;
        self.client_tls().reinstate(op).await?;
        self.service().set_enabled(op, true).await?;
        self.start(op).await?;
        self.ensure_admin(op).await?;
        SystemTables { service: self.service(), login: &layout.credentials }.upgrade(op, here).await?;
        upgrade::note(layout, here)
    }
}
