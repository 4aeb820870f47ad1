//! Which logs a guest has.

use async_trait::async_trait;
use camino::Utf8PathBuf;
use serde::Deserialize;

use crate::error::Result;
use crate::op::Op;

/// Whether the database writes a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogState {
    /// It does not.
    Off,
    /// It does.
    On,
    /// It will when the database has been started again.
    AfterRestart,
}

/// Who decides about a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// It is always written.
    System,
    /// Users switch it on and off.
    User(LogState),
}

impl LogKind {
    /// Trove's word (trove/guestagent/guest_log.py: `LogType`).
    pub(super) fn word(self) -> &'static str {
        match self {
            LogKind::System => "SYS",
            LogKind::User(_) => "USER",
        }
    }
}

/// A log of this guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDefinition {
    /// Its name in the API.
    pub name: &'static str,
    /// Who decides about it.
    pub kind: LogKind,
    /// Where it is.
    pub file: Utf8PathBuf,
}

/// The logs of a datastore.
#[async_trait]
pub trait GuestLogs: Send + Sync {
    /// All of them, in a fixed order, as they are now.
    ///
    /// # Errors
    /// The database answers, and refuses to tell.
    async fn definitions(&self, op: &Op) -> Result<Vec<LogDefinition>>;

    /// Switches a [`LogKind::User`] log on or off, for good and, where the database runs and can, at once.
    ///
    /// # Errors
    /// The database refuses; configuration and server are as they were.
    async fn switch(&self, op: &Op, name: &str, on: bool) -> Result<()>;
}

/// Arguments of `guest_log_action`. A controller sends what its user has sent: booleans, 0 and 1, or null.
#[derive(Debug, Clone, Deserialize)]
pub struct LogAction {
    /// Name of the log.
    pub log_name: String,
    /// Switch it on.
    #[serde(default, deserialize_with = "truth")]
    pub enable: bool,
    /// Switch it off.
    #[serde(default, deserialize_with = "truth")]
    pub disable: bool,
    /// Store what is new of it.
    #[serde(default, deserialize_with = "truth")]
    pub publish: bool,
    /// Delete what is stored of it.
    #[serde(default, deserialize_with = "truth")]
    pub discard: bool,
}

fn truth<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Null => Ok(false),
        serde_json::Value::Bool(flag) => Ok(flag),
        serde_json::Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
        _ => Err(serde::de::Error::custom("expected true, false, 1, 0 or null")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn truth_as_controllers_send_it() {
        let action: LogAction =
            serde_json::from_value(json!({"log_name": "general", "enable": 1, "disable": null, "publish": true, "discard": 0})).unwrap();
        assert!(action.enable && action.publish && !action.disable && !action.discard);
        assert!(serde_json::from_value::<LogAction>(json!({"log_name": "general", "enable": "yes"})).is_err());
    }
}
