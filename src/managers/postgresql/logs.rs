//! The server's logs ([`GuestLogs`]): `general`, which users switch on and off, and `error`.
//!
//! Name, parameters and override files of the former are Trove's (trove/guestagent/datastore/postgres/manager.py: `get_datastore_log_defs`).

use std::sync::Arc;

use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::configuration::Configuration;
use super::groups::Groups;
use crate::codec::{Document, PostgreSqlConf};
use crate::config::Settings;
use crate::error::{Error, Result, ResultExt};
use crate::managers::Owner;
use crate::managers::configuration::Group;
use crate::managers::logs::{GuestLogs, LogDefinition, LogKind, LogState};
use crate::op::Op;
use crate::system::postgresql::{Client, SqlText};

const GENERAL: &str = "general";
const ERROR: &str = "error";
/// Trove's names of the override files.
const ENABLE: &str = "enable_general_log";
const DISABLE: &str = "disable_general_log";

/// The logs of one server.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) groups: Arc<Groups>,
    pub(super) settings: Arc<Settings>,
    pub(super) owner: Owner,
}

/// What the running server says.
struct Seen {
    /// It writes statements to a file of its own.
    on: bool,
    file: Option<Utf8PathBuf>,
}

impl Logs {
    /// Where the agent has the server write: on the volume, beside the data, so that a base backup does not take it along.
    fn directory(&self) -> Utf8PathBuf {
        self.configuration.layout.data_dir.with_file_name("log")
    }

    fn file_name(&self) -> String {
        format!("{}-{GENERAL}.log", self.settings.datastore_manager)
    }

    /// `None` when there is no server to ask.
    async fn seen(&self, op: &Op) -> Result<Option<Seen>> {
        let session = match self.client.session(op).await {
            Ok(session) => session,
            Err(Error::Io { .. } | Error::Timeout { .. } | Error::Guest { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let sql = SqlText::new(
            "SELECT current_setting('logging_collector'), reset_val, pg_current_logfile('stderr') FROM pg_settings WHERE name = 'log_statement'",
        );
        let rows = session.rows(op, "ask where the log is", &sql).await?;
        let Some([collector, statements, file]) = rows.first().map(Vec::as_slice) else {
            return Err(Error::guest("the database does not say where its log is"));
        };
        let on = collector.as_deref() == Some("on") && statements.as_deref() == Some("all");
        // A relative name is relative to the data directory.
        Ok(Some(Seen { on, file: file.as_ref().map(|file| self.configuration.layout.data_dir.join(file)) }))
    }

    fn parameters(&self, on: bool) -> Result<PostgreSqlConf> {
        let values: Vec<(&str, Value)> = if on {
            vec![
                ("logging_collector", json!("on")),
                ("log_destination", json!("stderr")),
                ("log_directory", json!(self.directory())),
                ("log_filename", json!(self.file_name())),
                ("log_statement", json!("all")),
                ("log_min_duration_statement", json!(self.settings.guest_log.long_query_time.unwrap_or_default())),
            ]
        } else {
            vec![("log_statement", json!("none")), ("log_min_duration_statement", json!(-1))]
        };
        let mut document = PostgreSqlConf::parse("");
        values.iter().try_for_each(|(name, value)| document.set(&[name], value))?;
        Ok(document)
    }
}

#[async_trait]
impl GuestLogs for Logs {
    async fn definitions(&self, op: &Op) -> Result<Vec<LogDefinition>> {
        let configured = self.configuration.read()?.change(Group::SystemBeforeUser, ENABLE).is_some();
        let own = || self.directory().join(self.file_name());
        let (state, file) = match self.seen(op).await? {
            Some(Seen { on: true, file }) => (LogState::On, file.unwrap_or_else(own)),
            // The collector begins with a start of the server.
            _ if configured => (LogState::AfterRestart, own()),
            _ => (LogState::Off, own()),
        };
        let general = LogDefinition { name: GENERAL, kind: LogKind::User(state), file };
        Ok(vec![general, LogDefinition { name: ERROR, kind: LogKind::System, file: self.configuration.layout.error_log() }])
    }

    async fn switch(&self, op: &Op, name: &str, on: bool) -> Result<()> {
        if name != GENERAL {
            return Err(Error::guest(format!("the log '{name}' cannot be switched")));
        }
        if on {
            let directory: &Utf8Path = &self.directory();
            self.owner.directory(op, directory, 0o700).await?;
        }
        let (wanted, other) = if on { (ENABLE, DISABLE) } else { (DISABLE, ENABLE) };
        let parameters = self.parameters(on)?;
        let changed = self.groups.change_own(op, |layers| {
            layers.remove_change(Group::SystemBeforeUser, other);
            layers.set_change(Group::SystemBeforeUser, wanted, parameters);
        });
        changed.await.action(format!("switch the log {name} {}", if on { "on" } else { "off" }))
    }
}
