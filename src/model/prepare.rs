//! Arguments of `prepare`, the call that makes a server into a database instance.

use camino::Utf8PathBuf;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{DatabaseSpec, ModuleEnvelope, ReplicaInfo, RestoreRequest, UserSpec};

/// Values of a configuration group: Kilo sends the rendered text of a file, later releases a dictionary.
#[derive(Debug, Clone, PartialEq)]
pub enum Overrides {
    /// A rendered configuration file.
    Text(String),
    /// Option name to value (string, number, boolean or null).
    Values(Map<String, Value>),
}

impl Overrides {
    /// True when there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        match self {
            Overrides::Text(text) => text.trim().is_empty(),
            Overrides::Values(values) => values.is_empty(),
        }
    }
}

impl<'de> Deserialize<'de> for Overrides {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Overrides::Text(text)),
            Value::Object(values) => Ok(Overrides::Values(values)),
            _ => Err(serde::de::Error::custom("expected the text of a configuration file or a dictionary of options")),
        }
    }
}

/// Arguments of `prepare` in every era (trove/guestagent/api.py: `prepare`). What an era does not send is absent.
#[derive(Debug, Clone, Deserialize)]
pub struct PrepareRequest {
    /// Memory of the flavor, in MiB.
    #[serde(default)]
    pub memory_mb: Option<u64>,
    /// Packages to install: a list of `name` or `name=version`; 2026.1 may send null or one (empty) string.
    #[serde(default, deserialize_with = "packages")]
    pub packages: Vec<String>,
    /// Databases to create.
    #[serde(default, deserialize_with = "null_as_default")]
    pub databases: Vec<DatabaseSpec>,
    /// Users to create.
    #[serde(default, deserialize_with = "null_as_default")]
    pub users: Vec<UserSpec>,
    /// Block device of the data volume; null when the instance has none.
    #[serde(default)]
    pub device_path: Option<Utf8PathBuf>,
    /// Where the data volume is mounted.
    #[serde(default)]
    pub mount_point: Option<Utf8PathBuf>,
    /// Backup to restore.
    #[serde(default)]
    pub backup_info: Option<RestoreRequest>,
    /// Text of the base configuration file.
    #[serde(default)]
    pub config_contents: Option<String>,
    /// Enables root with this password.
    #[serde(default)]
    pub root_password: Option<SecretString>,
    /// Values of the configuration group.
    #[serde(default)]
    pub overrides: Option<Overrides>,
    /// Role in a cluster; its presence defers ACTIVE to `cluster_complete`.
    #[serde(default)]
    pub cluster_config: Option<Value>,
    /// Replication snapshot; makes the instance a replica.
    #[serde(default)]
    pub snapshot: Option<Box<ReplicaInfo>>,
    /// Guest modules to apply.
    #[serde(default, deserialize_with = "null_as_default")]
    pub modules: Vec<ModuleEnvelope>,
    /// Version name of the datastore (RPC 1.1).
    #[serde(default)]
    pub ds_version: Option<String>,
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn packages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = match Value::deserialize(deserializer)? {
        Value::Null => Vec::new(),
        Value::String(text) => text.split([',', ' ']).map(str::to_owned).collect(),
        Value::Array(items) => items
            .into_iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| serde::de::Error::custom("package names are strings")))
            .collect::<Result<_, _>>()?,
        _ => return Err(serde::de::Error::custom("packages is a list of strings")),
    };
    Ok(list.into_iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
}
