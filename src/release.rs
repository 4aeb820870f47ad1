//! Which era the controller is of: inferred from what it sends, remembered over restarts, or set.

use std::sync::Mutex;

use camino::Utf8PathBuf;
use serde_json::{Map, Value};

use crate::config::Settings;
use crate::error::Result;
use crate::model::{Evidence, Release};
use crate::system::files;

/// The controller's release, as far as it is known.
#[derive(Debug)]
pub struct ReleaseTracker {
    current: Mutex<Current>,
    fixed: bool,
    file: Utf8PathBuf,
}

#[derive(Debug)]
struct Current {
    release: Release,
    /// Whether the file says so.
    remembered: bool,
}

impl ReleaseTracker {
    /// `controller_release` decides when it is set; otherwise what was remembered, brought into line with `guest_info.conf`.
    ///
    /// # Errors
    /// The state directory cannot be read.
    pub fn load(settings: &Settings) -> Result<Self> {
        let file = settings.state_dir.join("controller_release");
        if let Some(release) = settings.controller_release {
            return Ok(ReleaseTracker { current: Mutex::new(Current { release, remembered: false }), fixed: true, file });
        }
        let found: Option<Release> = files::read_optional(&file)?.and_then(|text| text.trim().parse().ok());
        let release = found.unwrap_or(Release::Gazpacho);
        let release = settings.release_evidence.map_or(release, |evidence| evidence.clamp(release));
        Ok(ReleaseTracker { current: Mutex::new(Current { release, remembered: found == Some(release) }), fixed: false, file })
    }

    /// The release to speak to.
    pub fn current(&self) -> Release {
        self.lock().release
    }

    /// Takes note of what a request gives away.
    pub fn observe(&self, evidence: Evidence) {
        if self.fixed {
            return;
        }
        let mut current = self.lock();
        let release = evidence.clamp(current.release);
        if current.remembered && release == current.release {
            return;
        }
        let name: &'static str = release.into();
        tracing::info!(controller_release = name, "the controller's release is inferred from what it sends");
        if let Err(error) = files::write_atomic(&self.file, format!("{name}\n").as_bytes(), 0o644, None) {
            tracing::warn!(%error, "failed to remember the controller's release");
        }
        // Tried once for each change.
        *current = Current { release, remembered: true };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().expect("never poisoned: no panics while held")
    }
}

/// What one request says of its sender: the RPC version, the keys of its context, and the key `_timeout`, which
/// oslo.messaging puts into calls since 6.3 (Rocky).
pub fn evidence(version: &str, context: &Map<String, Value>, is_call: bool, knows_call_monitor: bool) -> Option<Evidence> {
    match version {
        "1.2" | "1.3" => return Some(Evidence::at_least(Release::Gazpacho)),
        "1.1" => return Some(Evidence::at_least(Release::Zed)),
        _ => {}
    }
    if context.contains_key("project_id") {
        return Some(Evidence::at_least(Release::Zed));
    }
    if !context.contains_key("tenant") {
        return None;
    }
    // `tenant` without `project_id`: before oslo.context 4.
    match (is_call, knows_call_monitor, context.contains_key("roles")) {
        (true, true, _) => Some(Evidence { at_least: Release::Train, at_most: Release::Train }),
        (true, false, _) | (false, _, false) => Some(Evidence::at_most(Release::Kilo)),
        (false, _, true) => Some(Evidence::at_most(Release::Train)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(version: &str, context: Value, call: Option<bool>) -> Option<Evidence> {
        evidence(version, context.as_object().unwrap(), call.is_some(), call.unwrap_or(false))
    }

    #[test]
    fn requests_give_their_era_away() {
        let start = Release::Gazpacho;
        let cases = [
            ("1.0", json!({"tenant": "T", "instance_uuid": null}), Some(false), Release::Kilo),
            ("1.0", json!({"tenant": "T"}), None, Release::Kilo),
            ("1.0", json!({"tenant": "T", "roles": []}), Some(true), Release::Train),
            ("1.0", json!({"tenant": "T", "roles": []}), None, Release::Train),
            ("1.1", json!({"project_id": "T"}), None, Release::Gazpacho),
            ("1.3", json!({}), Some(true), Release::Gazpacho),
        ];
        for (version, context, call, expected) in cases {
            assert_eq!(of(version, context, call).unwrap().clamp(start), expected, "{version} {call:?}");
        }
        assert_eq!(of("1.1", json!({}), None).unwrap().clamp(Release::Train), Release::Zed);
        assert_eq!(of("1.0", json!({}), None), None);
    }
}
