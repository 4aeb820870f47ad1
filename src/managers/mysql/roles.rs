//! [`Roles`]: what replication makes of the configuration, and of the running server ([`Host`]).
//!
//! A role is one override file, under the name Trove's agents give it (`master-replication`, `slave-replication`): a new base configuration
//! and configuration groups leave it alone.

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Map, Value};

use super::client::{Client, Session};
use super::configuration::Configuration;
use super::quote::SqlText;
use super::variables;
use crate::codec::Document;
use crate::codec::my_cnf::{OptionFile, normalize};
use crate::config::TlsMode;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::{ChangeName, Group};
use crate::managers::lifecycle::Lifecycle;
use crate::managers::tls::TlsStore;
use crate::model::Overrides;
use crate::op::Op;
use crate::strategies::replication::mysql::{Host, Role, RoleOptions};
use crate::system::{address, files};

/// The server's own names of the logs, by option: the agent decides where they are.
const LOGS: [(&str, &str, &str); 2] = [("log_bin", "log_bin_basename", "bin"), ("relay_log", "relay_log_basename", "relay-bin")];

/// Roles of one server.
#[derive(Debug)]
pub(super) struct Roles {
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) tls: TlsStore,
    pub(super) configured_tls_mode: Option<TlsMode>,
}

/// The override file. Its number is fixed: operators know it by its name.
fn change(role: Role) -> ChangeName {
    let (number, id) = match role {
        Role::Source => (2, "master-replication"),
        Role::Replica => (3, "slave-replication"),
    };
    ChangeName { group: Group::System, number, id: id.to_owned() }
}

/// The options a role comes to: what is wanted of the server's groups, then what is required.
fn merge(options: &RoleOptions<'_>) -> Result<OptionFile> {
    let mut file = OptionFile::of_group("mysqld");
    match options.wanted {
        Some(Overrides::Text(text)) => {
            let wanted = OptionFile::parse(text);
            for (name, value) in wanted.server_options() {
                file.set_option("mysqld", &name, &[value.map(str::to_owned)])?;
            }
        }
        Some(Overrides::Values(values)) => values.iter().try_for_each(|(name, value)| file.set(&["mysqld", name], value))?,
        None => {}
    }
    for (name, value) in options.required {
        file.set_option("mysqld", name, &[Some((*value).to_owned())])?;
    }
    Ok(file)
}

/// A value as servers show it: options and variables have several words for the same.
fn plain(value: &str) -> String {
    match value.to_ascii_uppercase().as_str() {
        "ON" | "TRUE" | "YES" | "1" | "" => "1".to_owned(),
        "OFF" | "FALSE" | "NO" | "0" => "0".to_owned(),
        other => other.to_owned(),
    }
}

impl Roles {
    /// The role's file: without what the server does not know, and with its logs on the volume.
    async fn options(&self, op: &Op, options: &RoleOptions<'_>) -> Result<OptionFile> {
        let mut file = merge(options)?;
        let program = &self.configuration.program;
        let (known, flavor) = (program.known_options(op).await?, program.flavor(op).await?);
        file.rename_server_options(|name| (!known.contains(name)).then(|| format!("loose-{name}")));
        let mut session = self.client.session(op).await?;
        for (option, variable, kind) in LOGS {
            // A log that is being written stays where it is: its readers know it by this name.
            let running = global(op, &mut session, variable).await?;
            let base = running.filter(|base| !base.is_empty()).map(Utf8PathBuf::from);
            let ours = self.configuration.log_base(flavor, kind);
            let base = if option == "log_bin" { base.unwrap_or(ours) } else { ours };
            file.set_option("mysqld", option, &[Some(base.into_string())])?;
        }
        session.close().await;
        Ok(file)
    }

    /// What the running server does not have yet, by variable.
    async fn differences(&self, op: &Op, file: &OptionFile) -> Result<Map<String, Value>> {
        let mut session = self.client.session(op).await?;
        let mut rest = Map::new();
        for (_, name, value) in file.options() {
            let name = normalize(name);
            if name.starts_with("loose_") {
                continue;
            }
            let wanted = value.unwrap_or("1");
            let variable = LOGS.iter().find(|(option, ..)| *option == name).map_or(name.as_str(), |(_, variable, _)| variable);
            let running = global(op, &mut session, variable).await?;
            if running.is_none_or(|running| plain(&running) != plain(wanted)) {
                rest.insert(name, Value::from(wanted));
            }
        }
        session.close().await;
        Ok(rest)
    }

    /// Makes the running server what the file says.
    async fn settle(&self, op: &Op, file: &OptionFile) -> Result<()> {
        let rest = self.differences(op, file).await?;
        if rest.is_empty() {
            return Ok(());
        }
        let names = rest.keys().cloned().collect::<Vec<_>>().join(", ");
        let mut session = self.client.session(op).await?;
        let set = variables::apply(op, &mut session, &Overrides::Values(rest)).await;
        session.close().await;
        match set {
            Ok(()) => {
                tracing::info!(variables = names, "the running server has the role's options now");
                return Ok(());
            }
            Err(error) if error.database_code().is_some() => {
                tracing::info!(variables = names, reason = %error, "restarting the server: it takes the role's options at its start only");
            }
            Err(error) => return Err(error),
        }
        self.restart(op).await
    }

    /// A restart in its middle leaves the server down: it is brought to its end though the operation is cancelled, and, when the agent is killed, by its
    /// next life, for which there is a note meanwhile.
    async fn restart(&self, op: &Op) -> Result<()> {
        let note = self.restart_note();
        files::write_atomic(&note, b"", 0o600, None).action("note that the database is being restarted")?;
        let restarted = self.lifecycle.restart(&op.to_its_end()).await;
        files::remove(&note)?;
        restarted
    }

    fn restart_note(&self) -> Utf8PathBuf {
        self.configuration.layout.state_dir.join("restarting")
    }

    /// The configuration as it was, and a server that runs with it.
    async fn put_back(&self, op: &Op, role: Role, before: Option<OptionFile>) -> Result<()> {
        match before {
            Some(file) => self.configuration.change(op, |layers| layers.place_change(&change(role), file)).await?,
            None => self.configuration.remove_system_change(&change(role).id)?,
        }
        self.restart(op).await
    }

    /// Finishes a restart that the agent's last life had begun.
    ///
    /// # Errors
    /// The server does not stop or start.
    pub(super) async fn finish_restart(&self, op: &Op) -> Result<()> {
        if !self.restart_note().exists() {
            return Ok(());
        }
        tracing::warn!("the agent ended while it restarted the database; restarting it");
        self.restart(op).await
    }

    /// A new instance has no role, whatever this guest has been before.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub(super) fn forget(&self) -> Result<()> {
        self.drop_role(Role::Source)?;
        self.drop_role(Role::Replica)?;
        files::remove(&self.restart_note())?;
        files::remove(&self.memory_file())
    }
}

/// A global variable as text; `None` when the server has no such variable.
async fn global(op: &Op, session: &mut Session<'_>, name: &str) -> Result<Option<String>> {
    let sql = SqlText::new("SHOW GLOBAL VARIABLES WHERE Variable_name = ").literal(name);
    let rows: Vec<(String, Option<String>)> = session.rows(op, format!("read the variable {name}"), &sql).await?;
    Ok(rows.into_iter().next().map(|(_, value)| value.unwrap_or_default()))
}

#[async_trait]
impl Host for Roles {
    fn client(&self) -> &Client {
        &self.client
    }

    fn data_dir(&self) -> &Utf8Path {
        &self.configuration.layout.data_dir
    }

    fn memory_file(&self) -> Utf8PathBuf {
        self.configuration.layout.state_dir.join("replication.json")
    }

    fn address(&self) -> Result<String> {
        address::own()
    }

    fn tls_mode(&self) -> Result<Option<TlsMode>> {
        Ok(self.tls.read()?.map_or(self.configured_tls_mode, |record| record.current.mode))
    }

    fn has_role(&self, role: Role) -> Result<bool> {
        Ok(self.configuration.system_change(&change(role).id)?.is_some())
    }

    async fn take_role(&self, op: &Op, role: Role, options: RoleOptions<'_>) -> Result<()> {
        let file = self.options(op, &options).await?;
        let before = self.configuration.system_change(&change(role).id)?;
        self.configuration.change(op, |layers| layers.place_change(&change(role), file.clone())).await?;
        let settled = match self.settle(op, &file).await {
            // It started, and that says nothing of options that some servers ignore.
            Ok(()) => self.differences(op, &merge(&RoleOptions { wanted: None, ..options })?).await.and_then(|rest| match rest.len() {
                0 => Ok(()),
                _ => Err(Error::guest(format!("the server runs without {}", rest.keys().cloned().collect::<Vec<_>>().join(", ")))),
            }),
            Err(error) => Err(error),
        };
        match settled {
            Err(error) if !op.cancel.is_cancelled() => {
                self.put_back(op, role, before).await.action("go back to the configuration of before")?;
                Err(error)
            }
            other => other,
        }
    }

    fn drop_role(&self, role: Role) -> Result<()> {
        self.configuration.remove_system_change(&change(role).id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_is_not_negotiable() {
        let wanted = Overrides::Text("[mysqld]\nlog_bin = /x/y\nread-only = false\n[mysqldump]\nquick\n".into());
        let required = [("read_only", "ON"), ("log_slave_updates", "ON")];
        let file = merge(&RoleOptions { wanted: Some(&wanted), required: &required }).unwrap();
        assert_eq!(file.render(), "[mysqld]\nlog_bin = /x/y\nread_only = ON\nlog_slave_updates = ON\n");
    }

    #[test]
    fn words_for_the_same_are_the_same() {
        assert!(plain("ON") == plain("true") && plain("1") == plain("") && plain("off") == plain("0") && plain("MIXED") == plain("mixed"));
        assert_ne!(plain("ON"), plain("OFF"));
    }
}
