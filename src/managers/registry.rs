//! Which manager serves which `datastore_manager`.

use std::sync::Arc;

use super::mongodb::{self, MongoDbManager};
use super::mysql::{self, MySqlManager};
use super::postgresql::{self, PostgreSqlManager};
use super::redis::{self, RedisManager};
use super::{DatastoreManager, Deps};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::system::command::CommandRunner;
use crate::system::packages::PackageManager;
use crate::system::service::{self, ServerCommand, UnitNames};

/// Names a guest may be given as `datastore_manager` in this build.
pub const MANAGERS: &[&str] = &["mysql", "percona", "mariadb", "postgresql", "redis", "mongodb"];

/// Builds the manager `settings` name.
///
/// # Errors
/// An unknown `datastore_manager`.
pub fn build(
    settings: &Arc<Settings>,
    commands: Arc<dyn CommandRunner>,
    packages: Arc<dyn PackageManager>,
) -> Result<Arc<dyn DatastoreManager>> {
    let deps = |names: UnitNames, server: ServerCommand| {
        let service = service::build(settings, names, server, Arc::clone(&commands));
        Deps { settings: Arc::clone(settings), commands: Arc::clone(&commands), service, packages: Arc::clone(&packages) }
    };
    let of_mysql = |descriptor| {
        let layout = mysql::Layout::new(descriptor, settings);
        let deps = deps(descriptor.services.into(), layout.server_command(descriptor));
        Arc::new(MySqlManager::new(descriptor, layout, deps)) as Arc<dyn DatastoreManager>
    };
    match settings.datastore_manager.as_str() {
        "mysql" => Ok(of_mysql(&mysql::MYSQL)),
        "percona" => Ok(of_mysql(&mysql::PERCONA)),
        "mariadb" => Ok(of_mysql(&mysql::MARIADB)),
        "postgresql" => {
            let layout = postgresql::Layout::new(settings);
            let deps = deps(UnitNames::Installed(postgresql::Layout::units), layout.server_command());
            Ok(Arc::new(PostgreSqlManager::new(layout, deps)))
        }
        "redis" => {
            let layout = redis::Layout::new(settings);
            let deps = deps(redis::REDIS.services.into(), layout.server_command());
            Ok(Arc::new(RedisManager::new(layout, deps)))
        }
        "mongodb" => {
            let layout = mongodb::Layout::new(settings);
            let service = mongodb::service(&layout, settings, &commands);
            let deps = Deps { settings: Arc::clone(settings), commands: Arc::clone(&commands), service, packages: Arc::clone(&packages) };
            Ok(Arc::new(MongoDbManager::new(layout, deps)))
        }
        other => Err(Error::guest(format!("Manager class not registered for datastore manager {other}"))),
    }
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
        async fn upgrade(&self, _op: &Op, _packages: &[String]) -> Result<()> {
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
            let mount_point = if *name == "mysql" { "/data" } else { manager.descriptor().mount_point };
            assert_eq!(manager.mount_point(), mount_point);
            assert!(manager.root().is_some() && manager.config().is_some());
            let is_mongodb = *name == "mongodb";
            assert!(manager.backups().is_some() && manager.replication().is_some() != is_mongodb);
            let has_accounts = *name != "redis";
            assert_eq!((manager.users().is_some(), manager.databases().is_some()), (has_accounts, has_accounts));
        }
        // The configuration refuses other names already; whoever calls with one gets Trove's words.
        let other = Settings { datastore_manager: "oracle".into(), ..settings("mysql") };
        let error = build(&Arc::new(other), Arc::new(SystemCommands), Arc::new(NoPackages)).unwrap_err();
        assert_eq!(error.to_string(), "Manager class not registered for datastore manager oracle");
    }
}
