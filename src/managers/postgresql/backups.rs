//! [`PostgreSqlBackups`]: how this guest backs up and restores ([`Backups`]).

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};

use super::base_restore::BaseRestore;
use super::configuration::Configuration;
use super::examine;
use super::load::LoadRestore;
use super::names::Rules;
use super::private_server::{self, PrivateServerSpec};
use super::program::ServerProgram;
use super::roles;
use super::tables;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::managers::drill::Examination;
use crate::managers::restoring::{Clear, HalfRestored, Instance, Restoring};
use crate::managers::{Backups, Owner, RestoreTarget};
use crate::op::Op;
use crate::strategies::backup::postgresql::{PgBaseBackup, PgBaseBackupIncremental, PgDump, PostgreSqlUsage, Strategy, Tools};
use crate::strategies::backup::{BackupRunner, RestoreRunner, ToolLogin, Usage};
use crate::system::files;
use crate::system::postgresql::{Address, Client};
use crate::system::service::ServiceControl;

/// Backups of one server.
#[derive(Debug)]
pub(super) struct PostgreSqlBackups {
    pub(super) settings: Arc<Settings>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) program: Arc<ServerProgram>,
    pub(super) client: Arc<Client>,
    pub(super) rules: Arc<Rules>,
    pub(super) owner: Owner,
}

impl PostgreSqlBackups {
    /// True when backups are copies of the server's files, which a replica can be made of.
    pub(super) fn are_physical(settings: &Settings) -> bool {
        settings.datastore.backup_strategy.as_deref().is_none_or(|name| Strategy::named(name) != Some(Strategy::Dump))
    }

    async fn tools(&self, op: &Op) -> Result<Tools> {
        let (service, file) = (Arc::clone(&self.service), self.configuration.layout.credentials.clone());
        let login = if service.brings_its_own_programs() {
            let text = files::read_optional(&file)?.unwrap_or_default();
            ToolLogin::in_container(op, service, text.into()).await?
        } else {
            ToolLogin::of_file(service, file)
        };
        let (socket_dir, port) = self.configuration.address()?;
        let server = self.program.path(op, "postgres").await?;
        let directory = server.parent().unwrap_or(Utf8Path::new("/usr/bin")).to_owned();
        Ok(Tools { directory, login: Arc::new(login), socket_dir, port })
    }

    fn private_server(&self, directory: Utf8PathBuf) -> PrivateServerSpec {
        PrivateServerSpec {
            service: Arc::clone(&self.service),
            program: Arc::clone(&self.program),
            owner: self.owner.clone(),
            directory,
            recovery: self.settings.backup.restore_timeout,
            wait: self.settings.state_change_wait_time,
        }
    }
}

#[async_trait]
impl Backups for PostgreSqlBackups {
    async fn runner(&self, op: &Op, incremental: bool) -> Result<Box<dyn BackupRunner>> {
        let configured = self.settings.datastore.backup_strategy.as_deref();
        let strategy = configured.map_or(Some(Strategy::Base), Strategy::named).ok_or_else(|| {
            Error::guest(format!(
                "backup_strategy is '{}', which is no strategy of this datastore: set it to PgBaseBackup or PgDump",
                configured.unwrap_or_default()
            ))
        })?;
        let tools = self.tools(op).await?;
        let (client, instance) = (Arc::clone(&self.client), self.settings.guest_id.clone());
        match (strategy, incremental) {
            (Strategy::Dump, _) => Ok(Box::new(PgDump { tools })),
            (Strategy::Base | Strategy::Incremental, false) => Ok(Box::new(PgBaseBackup { tools, client, instance })),
            (Strategy::Base | Strategy::Incremental, true) => {
                let (data_dir, account) = (self.configuration.layout.data_dir.clone(), self.owner.name().to_owned());
                Ok(Box::new(PgBaseBackupIncremental { tools, client, data_dir, instance, account }))
            }
        }
    }

    async fn restorer(&self, _op: &Op, kind: Option<&str>, object: &str, target: &RestoreTarget) -> Result<Box<dyn RestoreRunner>> {
        let strategy = Strategy::of_backup(kind, object)
            .ok_or_else(|| Error::bad_request(format!("a backup of type '{}' is not one of this datastore", kind.unwrap_or_default())))?;
        let (directory, instance) = match target {
            RestoreTarget::Scratch(directory) => (directory.clone(), None),
            RestoreTarget::Instance => {
                let layout = &self.configuration.layout;
                let marker = HalfRestored::new(&layout.state_dir, layout.data_dir.clone());
                let contents = Box::new(Contents { configuration: Arc::clone(&self.configuration) });
                let (service, wait) = (Arc::clone(&self.service), self.settings.state_change_wait_time);
                (layout.data_dir.clone(), Some(Instance { marker, service, wait, contents }))
            }
        };
        let inner: Box<dyn RestoreRunner> = match strategy {
            Strategy::Dump => Box::new(LoadRestore { spec: self.private_server(directory.clone()), server: None }),
            Strategy::Base | Strategy::Incremental => Box::new(BaseRestore {
                service: Arc::clone(&self.service),
                program: Arc::clone(&self.program),
                owner: self.owner.clone(),
                directory: directory.clone(),
                recovery: instance.is_some().then(|| self.private_server(directory.clone())),
                log: None,
                is_replica: instance.is_some() && roles::is_replica(&self.configuration)?,
            }),
        };
        Ok(Box::new(Restoring { inner, directory, owner: self.owner.clone(), instance }))
    }

    async fn examine(&self, op: &Op, directory: &Utf8Path) -> Result<Examination> {
        examine::examine(op, &self.private_server(directory.to_owned()), &self.rules.reserved).await
    }

    async fn clear_scratch(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        private_server::end_left_over(op, directory).await?;
        files::remove_tree(directory)
    }

    fn usage(&self) -> Box<dyn Usage> {
        Box::new(PostgreSqlUsage::new(Arc::clone(&self.client)))
    }
}

/// What there is of a database in the instance's data directory.
#[derive(Debug)]
struct Contents {
    configuration: Arc<Configuration>,
}

#[async_trait]
impl Clear for Contents {
    async fn clear(&self, op: &Op) -> Result<()> {
        let layout = &self.configuration.layout;
        private_server::end_left_over(op, &layout.data_dir).await?;
        // The account in there is not this agent's any more.
        files::remove(&layout.credentials)?;
        tables::place(layout).clear()
    }
}
