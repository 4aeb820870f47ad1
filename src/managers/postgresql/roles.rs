//! [`Roles`]: what replication makes of the configuration, of the running server, and of its data ([`Host`]). A role is one file of changes, under the name that Trove's agents
//! give it.

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::configuration::{Conf, Configuration, names};
use super::following::Following;
use super::groups;
use super::reload::reload;
use super::tls::Tls;
use crate::codec::{Document, PostgreSqlConf};
use crate::config::TlsMode;
use crate::error::{Error, Result};
use crate::managers::configuration::{ChangeName, Group};
use crate::managers::lifecycle::Lifecycle;
use crate::op::Op;
use crate::strategies::replication::postgresql::{Conninfo, Host, Role, RoleOptions};
use crate::system::postgresql::{Address, Client, credentials};
use crate::system::service::{ServiceControl, UnitState};
use crate::system::{address, files};
use crate::volume::filesystem_stats;

/// Part of the volume that a source may fill with log that nobody has asked for.
const KEPT: u64 = 16;
/// The least of that, MiB: two files of the log.
const LEAST_KEPT: u64 = 32;
/// On the volume, for root alone: files of a role that a new root disk does not have, the agent's account among them, which is the same on a source and its replicas.
const KEPT_REPLICA: &str = ".trove-replica";
const KEPT_SOURCE: &str = ".trove-source";
/// What says whom a replica follows.
const WHOM: [&str; 2] = ["primary_conninfo", "primary_slot_name"];

/// Roles of one server.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) service: Arc<dyn ServiceControl>,
    pub(super) data: Following,
    pub(super) tls: Arc<Tls>,
    pub(super) guest_id: String,
}

/// The file of a role. Its number is fixed: operators know it by its name.
fn change(role: Role) -> ChangeName {
    let (number, id) = match role {
        Role::Source => (2, "master-replication"),
        Role::Replica => (3, "slave-replication"),
    };
    ChangeName { group: Group::System, number, id: id.to_owned() }
}

/// What a role comes to, beside the `others`.
fn document(options: &RoleOptions<'_>, others: &PostgreSqlConf) -> Result<PostgreSqlConf> {
    let mut document = options.wanted.map_or_else(|| Ok(PostgreSqlConf::parse("")), groups::parse)?;
    for (name, value) in options.otherwise {
        if document.get(&[name]).is_none() && others.get(&[name]).is_none() {
            document.set(&[name], value)?;
        }
    }
    for (name, least) in options.at_least {
        let given = document.get(&[name]).or_else(|| others.get(&[name]));
        let given = given.as_ref().and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
        if given.is_none_or(|given| given < *least) {
            document.set(&[name], &Value::from(*least))?;
        }
    }
    options.required.iter().try_for_each(|(name, value)| document.set(&[name], value))?;
    Ok(document)
}

/// True when the configuration has the role of a replica.
///
/// # Errors
/// It cannot be read.
pub(super) fn is_replica(configuration: &Configuration) -> Result<bool> {
    Ok(configuration.read()?.change(Group::System, &change(Role::Replica).id).is_some())
}

impl Roles {
    fn role(&self, role: Role) -> Result<Option<PostgreSqlConf>> {
        Ok(self.configuration.read()?.change(Group::System, &change(role).id).cloned())
    }

    async fn is_running(&self, op: &Op) -> Result<bool> {
        Ok(matches!(self.service.state(op).await?, UnitState::Running { .. }))
    }

    /// Writes a change, which the running server reads.
    async fn write(&self, op: &Op, before: &Conf, after: &Conf) -> Result<()> {
        self.configuration.write(op, before, after).await?;
        if self.is_running(op).await? {
            // What it takes at its next start only, it has not to be started for: a role that is left asks for nothing.
            reload(op, &self.client).await?;
        }
        Ok(())
    }

    /// The instance is prepared: it has no role, whatever this guest has been before; or that of a replica which follows nobody yet, so that what is restored does nothing of its
    /// own.
    ///
    /// # Errors
    /// The file system refused.
    pub(super) async fn begin(&self, op: &Op, is_to_follow: bool) -> Result<()> {
        for file in [self.memory_file(), self.password_file(), self.authority_file()] {
            files::remove(&file)?;
        }
        [Role::Replica, Role::Source].into_iter().try_for_each(|role| files::remove_tree(&self.kept(role)))?;
        if !is_to_follow {
            return Ok(());
        }
        let required = [("restore_command", Value::from(""))];
        self.take_role(op, Role::Replica, RoleOptions { wanted: None, required: &required, otherwise: &[], at_least: &[] }).await
    }

    fn password_file(&self) -> Utf8PathBuf {
        self.configuration.layout.config_dir().join("replication.pgpass")
    }

    fn kept(&self, role: Role) -> Utf8PathBuf {
        let name = match role {
            Role::Source => KEPT_SOURCE,
            Role::Replica => KEPT_REPLICA,
        };
        self.configuration.layout.mount_point.join(name)
    }

    /// What is kept of a role, where it belongs.
    fn files_of(&self, role: Role) -> Vec<Utf8PathBuf> {
        let layout = &self.configuration.layout;
        let parameters = layout.override_dir().join(change(role).stem()).with_extension("conf");
        // With other passwords of the accounts, which all members have, no replica would find its way back, and no replica's agent into its own server.
        let mut files = vec![layout.credentials.clone(), self.memory_file(), parameters];
        if role == Role::Replica {
            files.extend([self.password_file(), self.authority_file()]);
        }
        files
    }

    /// On a new root disk a replica goes on as one: its data say that it is one, and nobody can give it another account of the agent's. A source goes on as one, too.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) async fn bring_back(&self, op: &Op) -> Result<()> {
        let is_lost = |role: Role| self.kept(role).is_dir() && self.files_of(role).first().is_some_and(|first| !first.exists());
        let roles: Vec<Role> = [Role::Source, Role::Replica]
            .into_iter()
            .filter(|role| is_lost(*role) && (*role == Role::Source || self.is_standby()))
            .collect();
        if roles.is_empty() {
            return Ok(());
        }
        for role in roles {
            // The first comes last: without it, all are brought back again. What both have is the replica's.
            for file in self.files_of(role).iter().rev() {
                files::copy_file(&self.kept(role).join(file.file_name().unwrap_or_default()), file)?;
            }
        }
        // Both: of a tree whose first level is right, the rest is left alone.
        self.data.owner.take(op, &self.configuration.layout.override_dir()).await?;
        self.data.owner.take(op, &self.configuration.layout.config_dir()).await
    }
}

#[async_trait]
impl Host for Roles {
    fn client(&self) -> &Client {
        &self.client
    }

    fn address(&self) -> Result<String> {
        address::own()
    }

    fn port(&self) -> Result<u16> {
        self.configuration.address().map(|(_, port)| port)
    }

    fn data_dir(&self) -> &Utf8Path {
        &self.configuration.layout.data_dir
    }

    fn memory_file(&self) -> Utf8PathBuf {
        self.configuration.layout.state_dir.join("replication.json")
    }

    fn guest_id(&self) -> &str {
        &self.guest_id
    }

    fn tls_mode(&self) -> Result<Option<TlsMode>> {
        self.tls.mode()
    }

    fn authority_file(&self) -> Utf8PathBuf {
        self.configuration.layout.config_dir().join("replication-source-ca.pem")
    }

    fn kept_log(&self) -> Result<u64> {
        let volume = filesystem_stats(&self.configuration.layout.mount_point)?;
        Ok((volume.size() / KEPT / (1 << 20)).max(LEAST_KEPT))
    }

    async fn version(&self, op: &Op) -> Result<u16> {
        self.configuration.program.version(op).await.map(|version| version.0)
    }

    async fn ensure_running(&self, op: &Op) -> Result<()> {
        if self.is_running(op).await? {
            return Ok(());
        }
        self.data.half_done().refuse()?;
        self.lifecycle.start(op).await
    }

    async fn stop(&self, op: &Op) -> Result<()> {
        self.lifecycle.stop(op).await
    }

    fn administrator(&self) -> Result<SecretString> {
        let password = credentials::read(&self.configuration.layout.credentials)?;
        password.ok_or_else(|| Error::guest("the agent has no account in the database yet: prepare did not finish"))
    }

    fn set_administrator(&self, password: &SecretString) -> Result<()> {
        credentials::write(&self.configuration.layout.credentials, password)
    }

    async fn take_role(&self, op: &Op, role: Role, options: RoleOptions<'_>) -> Result<()> {
        let before = self.configuration.read()?;
        let mut after = before.clone();
        after.remove_change(Group::System, &change(role).id);
        let document = document(&options, &after.merged()?)?;
        after.place_change(&change(role), document);
        self.configuration.check(op, &after).await?;
        self.configuration.write(op, &before, &after).await
    }

    async fn settle(&self, op: &Op, role: Role) -> Result<()> {
        let waiting = reload(op, &self.client).await?;
        let role = names(self.role(role)?.as_ref());
        let waiting: Vec<String> = waiting.into_iter().filter(|name| role.contains(name)).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        tracing::info!(parameters = waiting.join(", "), "restarting the server: it takes the role's parameters at its start only");
        self.lifecycle.restart(&op.to_its_end()).await
    }

    async fn drop_role(&self, op: &Op, role: Role) -> Result<()> {
        let before = self.configuration.read()?;
        let mut after = before.clone();
        if after.remove_change(Group::System, &change(role).id) {
            self.write(op, &before, &after).await?;
        }
        if role == Role::Replica {
            files::remove(&self.password_file())?;
            files::remove(&self.authority_file())?;
        }
        files::remove_tree(&self.kept(role))
    }

    async fn follow_nobody(&self, op: &Op) -> Result<()> {
        let before = self.configuration.read()?;
        let Some(mut document) = self.role(Role::Replica)? else { return Ok(()) };
        let removed = WHOM.iter().filter(|name| document.remove(&[name])).count();
        if removed == 0 {
            return Ok(());
        }
        let mut after = before.clone();
        after.place_change(&change(Role::Replica), document);
        self.write(op, &before, &after).await?;
        if self.kept(Role::Replica).is_dir() { self.keep_role(Role::Replica) } else { Ok(()) }
    }

    fn is_following(&self) -> Result<bool> {
        Ok(self.role(Role::Replica)?.is_some_and(|role| role.get(&[WHOM[0]]).is_some()))
    }

    fn is_standby(&self) -> bool {
        self.data.is_standby()
    }

    async fn make_standby(&self, _op: &Op) -> Result<()> {
        self.data.make_standby()
    }

    async fn let_replicas_in(&self, op: &Op) -> Result<()> {
        self.configuration.write_rules(op, self.tls.mode()?).await
    }

    async fn keep_password(&self, op: &Op, user: &str, password: &SecretString) -> Result<Utf8PathBuf> {
        let (file, text) = (self.password_file(), password.expose_secret());
        if user.contains([':', '\\', '\n']) || text.contains([':', '\\', '\n', '\r']) {
            return Err(Error::bad_request("the source's account, or its password, cannot be written to a password file"));
        }
        files::write_atomic(&file, format!("*:*:*:{user}:{text}\n").as_bytes(), 0o600, None)?;
        self.data.owner.take(op, &file).await?;
        Ok(file)
    }

    fn keep_role(&self, role: Role) -> Result<()> {
        let kept = self.kept(role);
        files::ensure_directory(&kept, 0o700, None)?;
        // There is one for some sources only.
        files::remove(&kept.join(self.authority_file().file_name().unwrap_or_default()))?;
        self.files_of(role).iter().try_for_each(|file| files::copy_file(file, &kept.join(file.file_name().unwrap_or_default())))
    }

    async fn rewind(&self, op: &Op, source: &Conninfo) -> Result<bool> {
        self.data.rewind(op, source).await
    }

    fn is_half_done(&self) -> bool {
        self.data.half_done().is_set()
    }

    async fn copy(&self, op: &Op, source: &Conninfo, slot: &str) -> Result<()> {
        self.data.copy(op, source, slot).await
    }

    async fn log_tail(&self, op: &Op) -> String {
        self.lifecycle.log_tail(op).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Overrides;
    use serde_json::json;

    #[test]
    fn a_role_leaves_alone_what_others_decide() {
        let others = PostgreSqlConf::parse("max_connections = 300\nmax_slot_wal_keep_size = 1GB\nmax_worker_processes = 4\n");
        let wanted = Overrides::Text("# Currently unused\nwork_mem = 8MB\nprimary_conninfo = 'x'\n".into());
        let options = RoleOptions {
            wanted: Some(&wanted),
            required: &[("primary_conninfo", json!("host='h'"))],
            otherwise: &[("max_slot_wal_keep_size", json!("128MB")), ("wal_level", json!("replica"))],
            at_least: &[("max_connections".into(), 200), ("max_worker_processes".into(), 16), ("max_wal_senders".into(), 20)],
        };
        let role = document(&options, &others).unwrap();
        let value = |name: &str| role.get(&[name]).map(|value| value.as_str().unwrap_or_default().to_owned());
        assert_eq!(value("primary_conninfo").unwrap(), "host='h'");
        assert_eq!((value("max_slot_wal_keep_size"), value("max_connections")), (None, None));
        assert_eq!((value("wal_level").unwrap(), value("max_worker_processes").unwrap()), ("replica".into(), "16".into()));
        assert_eq!((value("max_wal_senders").unwrap(), value("work_mem").unwrap()), ("20".into(), "8MB".into()));
    }
}
