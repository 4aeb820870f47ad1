//! [`MongoDbBackups`]: how this guest backs up and restores ([`Backups`]).

use std::sync::Arc;

use async_trait::async_trait;
use camino::Utf8Path;
use secrecy::{ExposeSecret, SecretString};

use super::admin::ADMIN;
use super::archive_restore::ArchiveRestore;
use super::configuration::Configuration;
use super::data;
use super::examine;
use super::private_server;
use super::program::ServerProgram;
use crate::config::Settings;
use crate::error::{Error, Result, ResultExt};
use crate::managers::drill::Examination;
use crate::managers::restoring::{Clear, HalfRestored, Instance, Restoring};
use crate::managers::{Backups, Owner, RestoreTarget};
use crate::op::Op;
use crate::strategies::backup::mongodb::{DUMP, DriverDump, MongoDbUsage, RESTORE, ToolDump, is_known};
use crate::strategies::backup::{BackupRunner, RestoreRunner, ToolLogin, Usage};
use crate::system::command::CommandSpec;
use crate::system::files;
use crate::system::mongodb::{Client, KeyHolder, Login};
use crate::system::service::ServiceControl;

/// Backups of one server.
#[derive(Debug)]
pub(super) struct MongoDbBackups {
    pub(super) settings: Arc<Settings>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) program: Arc<ServerProgram>,
    pub(super) client: Client,
    pub(super) owner: Owner,
}

impl MongoDbBackups {
    async fn has(&self, op: &Op, program: &str) -> bool {
        self.service.exec(op, CommandSpec::new(program).arg("--version")).await.is_ok()
    }

    /// A configuration file of the tools with the password, for root alone.
    async fn login(&self, op: &Op, login: &Login) -> Result<ToolLogin> {
        // A string of JSON is one of YAML.
        let password =
            serde_json::to_string(login.password.expose_secret()).map_err(|_| Error::guest("the agent's password is no text"))?;
        let text = SecretString::from(format!("password: {password}\n"));
        let service = Arc::clone(&self.service);
        if service.brings_its_own_programs() {
            return ToolLogin::in_container(op, service, text).await;
        }
        let file = self.configuration.layout.state_dir.join("os_mongo_admin.yaml");
        files::write_atomic(&file, text.expose_secret().as_bytes(), 0o600, None)?;
        Ok(ToolLogin::of_file(service, file))
    }
}

#[async_trait]
impl Backups for MongoDbBackups {
    async fn runner(&self, op: &Op, incremental: bool) -> Result<Box<dyn BackupRunner>> {
        let configured = self.settings.datastore.backup_strategy.as_deref();
        if !is_known(configured) {
            return Err(Error::guest(format!(
                "backup_strategy is '{}', which is no strategy of this datastore: set it to MongoDump",
                configured.unwrap_or_default()
            )));
        }
        if incremental {
            return Err(Error::bad_request("there are no incremental backups of this datastore: ask for a full one"));
        }
        let access = self.configuration.access()?;
        // The tools log in as a user of the database `admin` only: elsewhere in a cluster the driver reads.
        let login = access.login.filter(|login| login.database == ADMIN);
        let (Some(login), true) = (login, self.has(op, DUMP).await) else {
            return Ok(Box::new(DriverDump { client: self.client.clone() }));
        };
        let file = Arc::new(self.login(op, &login).await?);
        Ok(Box::new(ToolDump { login: file, user: login.user, address: access.address, client: self.client.clone() }))
    }

    async fn restorer(&self, op: &Op, kind: Option<&str>, _object: &str, target: &RestoreTarget) -> Result<Box<dyn RestoreRunner>> {
        if !is_known(kind) {
            return Err(Error::bad_request(format!("a backup of type '{}' is not one of this datastore", kind.unwrap_or_default())));
        }
        let layout = &self.configuration.layout;
        let (directory, instance) = match target {
            RestoreTarget::Scratch(directory) => (directory.clone(), None),
            RestoreTarget::Instance => {
                let marker = HalfRestored::new(&layout.state_dir, layout.data_dir.clone());
                let contents = Box::new(Contents { configuration: Arc::clone(&self.configuration) });
                let (service, wait) = (Arc::clone(&self.service), self.settings.state_change_wait_time);
                (layout.data_dir.clone(), Some(Instance { marker, service, wait, contents }))
            }
        };
        let inner = Box::new(ArchiveRestore {
            program: Arc::clone(&self.program),
            configuration: Arc::clone(&self.configuration),
            directory: directory.clone(),
            wait: self.settings.state_change_wait_time,
            with_tool: self.has(op, RESTORE).await,
            server: None,
        });
        Ok(Box::new(Restoring { inner, directory, owner: self.owner.clone(), instance }))
    }

    async fn examine(&self, op: &Op, directory: &Utf8Path) -> Result<Examination> {
        let conf = self.configuration.effective()?;
        let wait = self.settings.state_change_wait_time;
        examine::examine(op, &self.program, &conf, directory, wait).await
    }

    async fn clear_scratch(&self, op: &Op, directory: &Utf8Path) -> Result<()> {
        private_server::end_left_over(op, directory).await?;
        files::remove_tree(directory)
    }

    fn usage(&self) -> Box<dyn Usage> {
        Box::new(MongoDbUsage::new(self.client.clone()))
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
        // Of the user in there.
        files::remove(&layout.credentials())?;
        if layout.data_dir.is_dir() { data::remove(&layout.data_dir).action("remove the old data") } else { Ok(()) }
    }
}
