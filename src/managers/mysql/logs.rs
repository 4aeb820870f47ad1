//! The family's logs ([`GuestLogs`]): `general` and `slow_query`, which users switch on and off, and `error`.
//!
//! Names, options and override files are Trove's (trove/guestagent/datastore/mysql_common/manager.py: `datastore_log_defs`).

use std::sync::Arc;

use async_trait::async_trait;
use camino::Utf8PathBuf;

use super::client::{Client, Session};
use super::configuration::Configuration;
use super::groups::Groups;
use super::quote::SqlText;
use crate::codec::OptionFile;
use crate::config::Settings;
use crate::error::{Error, Result, ResultExt};
use crate::managers::configuration::Group;
use crate::managers::logs::{GuestLogs, LogDefinition, LogKind, LogState};
use crate::op::Op;

const GENERAL: &str = "general";
const SLOW_QUERY: &str = "slow_query";
const ERROR: &str = "error";
/// `guest_log_long_query_time` where it is not set, in milliseconds.
const LONG_QUERY_TIME: i64 = 1000;

/// The logs of one server.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) client: Arc<Client>,
    pub(super) configuration: Arc<Configuration>,
    pub(super) groups: Arc<Groups>,
    pub(super) settings: Arc<Settings>,
}

/// What the running server says of a log.
struct Seen {
    on: bool,
    file: Utf8PathBuf,
}

impl Logs {
    /// A session, or `None` when there is no server to talk to.
    async fn session(&self, op: &Op) -> Result<Option<Session<'_>>> {
        match self.client.session(op).await {
            Ok(session) => Ok(Some(session)),
            Err(Error::Io { .. } | Error::Timeout { .. } | Error::Guest { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the agent has the server write a log: beside the data, on the volume.
    fn own_file(&self, log: &str) -> Utf8PathBuf {
        self.configuration.layout.data_dir.join(format!("{}-{log}.log", self.settings.datastore_manager))
    }

    async fn seen(&self, op: &Op) -> Result<Option<[Seen; 2]>> {
        let Some(mut session) = self.session(op).await? else { return Ok(None) };
        let sql =
            SqlText::new("SELECT @@GLOBAL.general_log, @@GLOBAL.general_log_file, @@GLOBAL.slow_query_log, @@GLOBAL.slow_query_log_file");
        let rows: Vec<(bool, String, bool, String)> = session.rows(op, "ask where the logs are", &sql).await?;
        session.close().await;
        let (general, general_file, slow, slow_file) =
            rows.into_iter().next().ok_or_else(|| Error::guest("the database does not say where its logs are"))?;
        // A relative name is relative to the data directory.
        let seen = |on, file: String| Seen { on, file: self.configuration.layout.data_dir.join(file) };
        Ok(Some([seen(general, general_file), seen(slow, slow_file)]))
    }

    fn user_log(&self, name: &'static str, seen: Option<&Seen>) -> Result<LogDefinition> {
        let configured = self.configuration.read()?.change(Group::SystemBeforeUser, &change(name, true)).is_some();
        let (state, file) = match seen {
            Some(Seen { on: true, file }) => (LogState::On, file.clone()),
            // Switched on while there was no server.
            None if configured => (LogState::AfterRestart, self.own_file(name)),
            Some(Seen { on: false, .. }) | None => (LogState::Off, self.own_file(name)),
        };
        Ok(LogDefinition { name, kind: LogKind::User(state), file })
    }

    /// The options that switch a log on or off. The switch itself is `<log>_log`.
    fn options(&self, log: &str, on: bool) -> Result<OptionFile> {
        let mut options = OptionFile::of_group("mysqld");
        let mut set = |name: &str, value: String| options.set_option("mysqld", name, &[Some(value)]);
        match (log, on) {
            (GENERAL, true) => {
                set("log_output", "FILE".to_owned())?;
                set("general_log_file", self.own_file(log).to_string())?;
                set("general_log", "ON".to_owned())?;
            }
            (GENERAL, false) => set("general_log", "OFF".to_owned())?,
            (SLOW_QUERY, true) => {
                set("slow_query_log_file", self.own_file(log).to_string())?;
                set("long_query_time", seconds(self.settings.guest_log.long_query_time.unwrap_or(LONG_QUERY_TIME)))?;
                set("slow_query_log", "ON".to_owned())?;
            }
            (SLOW_QUERY, false) => set("slow_query_log", "OFF".to_owned())?,
            _ => return Err(Error::guest(format!("the log '{log}' cannot be switched"))),
        }
        Ok(options)
    }
}

/// Trove's name of the override file.
fn change(log: &str, on: bool) -> String {
    format!("{}_{log}_log", if on { "enable" } else { "disable" })
}

/// Milliseconds as the server's seconds.
fn seconds(milliseconds: i64) -> String {
    let milliseconds = milliseconds.max(0);
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

#[async_trait]
impl GuestLogs for Logs {
    async fn definitions(&self, op: &Op) -> Result<Vec<LogDefinition>> {
        let seen = self.seen(op).await?;
        let [general, slow] = seen.as_ref().map_or([None, None], |[general, slow]| [Some(general), Some(slow)]);
        let error = LogDefinition { name: ERROR, kind: LogKind::System, file: self.configuration.error_log() };
        Ok(vec![self.user_log(GENERAL, general)?, self.user_log(SLOW_QUERY, slow)?, error])
    }

    async fn switch(&self, op: &Op, name: &str, on: bool) -> Result<()> {
        let (wanted, other) = (change(name, on), change(name, !on));
        let set = async |id: &str, options| self.groups.change_system(op, Group::SystemBeforeUser, id, options).await.map(drop);
        let layers = self.configuration.read()?;
        let before = |id: &str| layers.change(Group::SystemBeforeUser, id).cloned();
        let done = async {
            // What it leaves behind would contradict what comes.
            set(&other, None).await?;
            let options = self.options(name, on)?;
            if on {
                // First where to, then that: or the server begins a file with a name of its own.
                let mut place = options.clone();
                place.remove_option("mysqld", &format!("{name}_log"));
                set(&wanted, Some(place)).await?;
            }
            set(&wanted, Some(options)).await
        };
        let Err(error) = done.await else { return Ok(()) };
        for id in [&wanted, &other] {
            set(id, before(id)).await.action("go back to the configuration of before")?;
        }
        Err(error).action(format!("switch the log {name} {}", if on { "on" } else { "off" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_names() {
        assert_eq!((seconds(1000), seconds(1), seconds(-1)), ("1.000".into(), "0.001".into(), "0.000".into()));
        assert_eq!((change(GENERAL, true), change(SLOW_QUERY, false)), ("enable_general_log".into(), "disable_slow_query_log".into()));
    }
}
