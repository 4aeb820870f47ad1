//! A database (schema) as it travels on the wire.

use serde::{Deserialize, Serialize};

/// Trove's schema dictionary: all three keys are always present in results, because the API indexes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSpec {
    /// Name.
    #[serde(rename = "_name")]
    pub name: String,
    /// Collation, or null for the default.
    #[serde(rename = "_collate", default)]
    pub collate: Option<String>,
    /// Character set, or null for the default.
    #[serde(rename = "_character_set", default)]
    pub character_set: Option<String>,
}

impl DatabaseSpec {
    /// A database of which only the name is known or matters.
    pub fn named(name: impl Into<String>) -> Self {
        DatabaseSpec { name: name.into(), collate: None, character_set: None }
    }
}
