//! Which era of Trove controller this guest talks to, and what gives it away.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

/// Eras of controllers that want different things of a guest. Ordered: later eras are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Release {
    /// Kilo to Queens: no encryption, two-part replies, `tenant` in the context.
    Kilo,
    /// Rocky to Victoria: RPC 1.0, `_timeout` in calls, `tenant` in the context, native datastores.
    Train,
    /// Wallaby to 2024.2: RPC 1.1, `project_id` in the context, `healthy`.
    Zed,
    /// 2025.1 and later: RPC 1.2 and 1.3, `network_isolation` in `guest_info.conf`.
    #[serde(rename = "2026.1")]
    #[strum(to_string = "2026.1", serialize = "master")]
    Gazpacho,
}

/// A hint about the release: nothing older than, nothing newer than.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The oldest release that behaves like this.
    pub at_least: Release,
    /// The newest release that behaves like this.
    pub at_most: Release,
}

impl Evidence {
    /// Only this release, or a later one.
    pub const fn at_least(release: Release) -> Self {
        Evidence { at_least: release, at_most: Release::Gazpacho }
    }

    /// This release, or an earlier one.
    pub const fn at_most(release: Release) -> Self {
        Evidence { at_least: Release::Kilo, at_most: release }
    }

    /// `release` if it fits, otherwise the nearest one that does.
    pub fn clamp(self, release: Release) -> Release {
        release.clamp(self.at_least, self.at_most.max(self.at_least))
    }
}
