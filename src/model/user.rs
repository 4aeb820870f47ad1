//! A database account as it travels on the wire.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use super::DatabaseSpec;

/// Trove's user dictionary. Kilo sends no `_is_root` and may send a null `_host` (any host).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserSpec {
    /// Account name.
    #[serde(rename = "_name")]
    pub name: String,
    /// Password; null in every result but those of `enable_root`.
    #[serde(rename = "_password", default, serialize_with = "expose")]
    pub password: Option<SecretString>,
    /// Host part; null means `%`.
    #[serde(rename = "_host", default)]
    pub host: Option<String>,
    /// Databases the account may use.
    #[serde(rename = "_databases", default)]
    pub databases: Vec<DatabaseSpec>,
    /// True in the dictionaries of `enable_root`.
    #[serde(rename = "_is_root", default)]
    pub is_root: bool,
}

/// The wire is where a password must be in the clear: `enable_root` returns it.
fn expose<S: Serializer>(password: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    match password {
        Some(password) => serializer.serialize_some(password.expose_secret()),
        None => serializer.serialize_none(),
    }
}

/// One element of `change_passwords` (its keys have no underscores on the wire).
#[derive(Debug, Clone, Deserialize)]
pub struct PasswordChange {
    /// Account name.
    pub name: String,
    /// Host part; absent or null means `%`.
    #[serde(default)]
    pub host: Option<String>,
    /// New password.
    pub password: SecretString,
}

/// `user_attrs` of `update_attributes`: only what is to change is present.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct UserAttributes {
    /// New name.
    #[serde(default)]
    pub name: Option<String>,
    /// New host.
    #[serde(default)]
    pub host: Option<String>,
    /// New password.
    #[serde(default)]
    pub password: Option<SecretString>,
}
