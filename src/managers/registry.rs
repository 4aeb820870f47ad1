//! Which manager serves which `datastore_manager`.

use std::sync::Arc;

use super::mysql::{self, Layout, MySqlManager};
use super::{DatastoreManager, Deps, Descriptor};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::system::command::CommandRunner;
use crate::system::packages::PackageManager;
use crate::system::service;

/// Names a guest may be given as `datastore_manager` in this build.
pub const MANAGERS: &[&str] = &["mysql", "percona", "mariadb"];

/// Builds the manager `settings` name.
///
/// # Errors
/// An unknown `datastore_manager`.
pub fn build(
    settings: &Arc<Settings>,
    commands: Arc<dyn CommandRunner>,
    packages: Arc<dyn PackageManager>,
) -> Result<Arc<dyn DatastoreManager>> {
    let descriptor: &'static Descriptor = match settings.datastore_manager.as_str() {
        "mysql" => &mysql::MYSQL,
        "percona" => &mysql::PERCONA,
        "mariadb" => &mysql::MARIADB,
        other => return Err(Error::guest(format!("Manager class not registered for datastore manager {other}"))),
    };
    let layout = Layout::new(descriptor, settings);
    let service = service::build(settings, descriptor.services, layout.server_command(descriptor), Arc::clone(&commands));
    let deps = Deps { settings: Arc::clone(settings), commands, service, packages };
    Ok(Arc::new(MySqlManager::new(descriptor, layout, deps)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::op::Op;
    use crate::system::command::SystemCommands;
    use async_trait::async_trait;

    #[derive(Debug)]
    struct NoPackages;

    #[async_trait]
    impl PackageManager for NoPackages {
        async fn install(&self, _op: &Op, _packages: &[String]) -> Result<()> {
            Ok(())
        }
    }

    fn settings(name: &str) -> Settings {
        let text = format!(
            "[DEFAULT]\nguest_id = g\ndatastore_manager = {name}\ntransport_url = rabbit://u:p@127.0.0.1/\n[mysql]\nmount_point = /data\n"
        );
        Settings::from_text("guest.conf", &text).unwrap()
    }

    /// The manager of a guest with this datastore, for tests that ask it what it has.
    pub(crate) fn manager(name: &str) -> Arc<dyn DatastoreManager> {
        build(&Arc::new(settings(name)), Arc::new(SystemCommands), Arc::new(NoPackages)).unwrap()
    }

    #[test]
    fn every_name_has_a_manager_and_only_those() {
        for name in MANAGERS {
            let manager = manager(name);
            assert_eq!(manager.descriptor().name, *name);
            let mount_point = if *name == "mysql" { "/data" } else { "/var/lib/mysql" };
            assert_eq!(manager.mount_point(), mount_point);
            assert!(manager.users().is_some() && manager.databases().is_some() && manager.root().is_some() && manager.config().is_some());
        }
        // The configuration refuses other names already; whoever calls with one gets Trove's words.
        let other = Settings { datastore_manager: "oracle".into(), ..settings("mysql") };
        let error = build(&Arc::new(other), Arc::new(SystemCommands), Arc::new(NoPackages)).unwrap_err();
        assert_eq!(error.to_string(), "Manager class not registered for datastore manager oracle");
    }
}
