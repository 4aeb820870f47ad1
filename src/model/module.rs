//! Modules, as a controller sends them (trove/module/views.py: `DetailedModuleView`).

use secrecy::SecretString;
use serde::Deserialize;

/// `{"module": {...}}`.
#[derive(Debug, Clone, Deserialize)]
pub struct ModuleEnvelope {
    /// The module.
    pub module: ModuleSpec,
}

/// A module. What an old controller does not send, or a new one sends as null, is absent.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ModuleSpec {
    /// Its id in the controller.
    #[serde(default)]
    pub id: Option<String>,
    /// Which driver it is for.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Whose it is; absent for everybody's.
    #[serde(default)]
    pub tenant: Option<String>,
    /// For which datastore; absent for any.
    #[serde(default)]
    pub datastore: Option<String>,
    /// For which version of it; absent for any.
    #[serde(default)]
    pub datastore_version: Option<String>,
    /// Its contents, in Base64: often a licence.
    #[serde(default)]
    pub contents: Option<SecretString>,
    /// MD5 of the contents as the controller keeps them.
    #[serde(default)]
    pub md5: Option<String>,
    /// It is applied to every new instance.
    #[serde(default)]
    pub auto_apply: Option<bool>,
    /// Users see it.
    #[serde(default)]
    pub visible: Option<bool>,
    /// An administrator made it.
    #[serde(default)]
    pub is_admin: Option<bool>,
    /// It comes before others.
    #[serde(default)]
    pub priority_apply: Option<bool>,
    /// Its place among those.
    #[serde(default)]
    pub apply_order: Option<i64>,
}
