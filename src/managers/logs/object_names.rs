//! What the objects of a log are called.

use crate::config::Settings;
use crate::strategies::storage::ObjectName;
use crate::system::clock::Utc;

/// Names of one log's objects (trove/guestagent/guest_log.py: `_object_prefix`, `_object_name`, `_metafile_name`).
#[derive(Debug, Clone)]
pub(super) struct ObjectNames {
    container: String,
    base: String,
}

impl ObjectNames {
    pub(super) fn new(settings: &Settings, log: &str) -> Self {
        let base = format!("{}/{}-{log}", settings.guest_id, settings.datastore_manager);
        ObjectNames { container: settings.guest_log.container.clone(), base }
    }

    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// What the names of all pieces begin with, and no other object's does.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.base)
    }

    /// The object that says how much is stored.
    pub(super) fn metafile(&self) -> ObjectName {
        ObjectName::new(&self.container, format!("{}_metafile", self.base))
    }

    /// A piece, by the last part of its name.
    pub(super) fn piece(&self, last: &str) -> ObjectName {
        ObjectName::new(&self.container, format!("{}{last}", self.prefix()))
    }
}

/// The last part of the name of a piece that is stored now.
pub(super) fn piece_name() -> String {
    format!("log-{}", Utc::now().iso())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_python_makes_them() {
        let text = "[DEFAULT]\nguest_id = g1\ndatastore_manager = mysql\n";
        let names = ObjectNames::new(&Settings::from_text("test.conf", text).unwrap(), "slow_query");
        assert_eq!(names.metafile().to_string(), "database_logs/g1/mysql-slow_query_metafile");
        assert_eq!(
            names.piece("log-2026-11-25T13:00:00.000001").to_string(),
            "database_logs/g1/mysql-slow_query/log-2026-11-25T13:00:00.000001"
        );
        assert!(!names.metafile().object.starts_with(&names.prefix()));
        assert_eq!(piece_name().len(), "log-2026-11-25T13:00:00.000001".len());
    }
}
