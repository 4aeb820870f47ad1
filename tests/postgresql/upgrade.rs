//! The instance on another root disk: its data, accounts and settings go on there.

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::tls::{Container, flow};
use trove_guestagent::managers::upgrade;
use trove_guestagent::model::Overrides;
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::postgresql::SqlText;
use trove_guestagent::volume::Volume;

use crate::identity::Identity;
use crate::support::{Guest, logged, run, user};

fn overrides() -> Overrides {
    serde_json::from_value(json!({"work_mem": "7MB"})).unwrap()
}

/// No volume of its own: the directory stays mounted.
pub(crate) fn no_volume(guest: &Guest) -> Volume {
    Volume::new("/dev/trove-none", &guest.settings.volume, Arc::new(SystemCommands))
}

/// A guest with rows, a user, a group, and TLS.
async fn filled(name: &str) -> Guest {
    let guest = Guest::prepared(name, "").await;
    guest.create_databases(&["shop"]).await;
    guest.users().create(&guest.op, &[user("ann", "planted-ann", &["shop"])]).await.unwrap();
    guest.as_user("ann", "planted-ann", "shop", "CREATE TABLE t AS SELECT 7 AS x").await.unwrap();
    guest.manager.config().unwrap().update(&guest.op, &overrides(), false).await.unwrap();
    guest.manager.config().unwrap().apply(&guest.op, &overrides()).await.unwrap();
    let authority = Identity::new("authority", None, None);
    let container: Container = serde_json::from_value(Identity::new("db", Some(&authority), None).container(&authority)).unwrap();
    let action = flow::Action { mode: Some("basic"), container: Some(&container), enable: true, disable: false };
    flow::action(&guest.op, guest.manager.tls().unwrap(), &action).await.unwrap();
    guest
}

/// The same volume on a root disk with nothing of the instance on it. The agent of the old one has ended.
pub(crate) async fn moved(guest: Guest) -> Guest {
    guest.manager.stop(&guest.op).await.unwrap();
    std::fs::remove_dir_all(guest.dir.join("etc")).unwrap();
    std::fs::remove_dir_all(guest.dir.join("state")).unwrap();
    guest.agent_again()
}

async fn assert_whole(guest: &Guest) {
    assert_eq!(guest.as_user("ann", "planted-ann", "shop", "SELECT x FROM t").await.unwrap(), ["7"]);
    assert_eq!((guest.parameter("work_mem").await, guest.parameter("ssl").await), ("7MB".into(), "on".into()));
    let names = guest.users().list(&guest.op, &Default::default()).await.unwrap().items;
    assert_eq!(names.into_iter().map(|user| user.name).collect::<Vec<_>>(), ["ann"]);
    // The agent's settings are those of this disk.
    let pid_file = guest.rows(&SqlText::new("SELECT current_setting('config_file')")).await[0][0].clone().unwrap();
    assert!(Utf8Path::new(&pid_file).starts_with(guest.dir.join("etc")), "{pid_file}");
}

#[test]
fn a_rebuilt_guest_goes_on_with_the_data_and_a_new_account_of_the_agents() {
    run(async {
        let guest = filled("rebuilt").await;
        let password = std::fs::read_to_string(guest.dir.join("state/os_admin.pgpass")).unwrap();
        let guest = moved(guest).await;
        let (upgrades, volume) = (guest.manager.upgrades().unwrap(), no_volume(&guest));
        for _ in 0..2 {
            upgrade::rebuild(&guest.op, &guest.manager, upgrades, &volume, Some(&guest.base("")), Some(&overrides())).await.unwrap();
            assert_whole(&guest).await;
        }
        assert_ne!(std::fs::read_to_string(guest.dir.join("state/os_admin.pgpass")).unwrap(), password);
        assert!(!logged().contains("planted-ann"));
        guest.remove().await;
    });
}

#[test]
fn what_was_saved_on_the_volume_is_taken_back_and_data_of_other_versions_are_refused() {
    run(async {
        let guest = filled("saved").await;
        let password = std::fs::read_to_string(guest.dir.join("state/os_admin.pgpass")).unwrap();
        guest.manager.stop(&guest.op).await.unwrap();
        guest.manager.upgrades().unwrap().save(&guest.op, &guest.dir.join("mnt/.trove-upgrade")).await.unwrap();
        let guest = moved(guest).await;
        let upgrades = guest.manager.upgrades().unwrap();
        let version = guest.dir.join("mnt/data/pgdata/PG_VERSION");
        let here = std::fs::read_to_string(&version).unwrap();
        for (other, said) in [("99\n", "downgrade is not possible"), ("9.6\n", "install postgresql-9 beside")] {
            std::fs::write(&version, other).unwrap();
            let refused = upgrade::arrive(&guest.op, &guest.manager, upgrades, None).await.unwrap_err().to_string();
            assert!(refused.contains(said) && !guest.dir.join("etc").exists(), "{refused}");
        }
        std::fs::write(&version, &here).unwrap();
        for _ in 0..2 {
            upgrade::arrive(&guest.op, &guest.manager, upgrades, None).await.unwrap();
            assert_whole(&guest).await;
        }
        assert!(!guest.dir.join("mnt/.trove-upgrade").exists());
        assert_eq!(std::fs::read_to_string(guest.dir.join("state/os_admin.pgpass")).unwrap(), password);
        let installed = upgrades.installed(&guest.op).await.unwrap();
        assert_eq!(installed.to_string().split('.').next().unwrap(), format!("PostgreSQL {}", here.trim()));
        guest.remove().await;
    });
}

/// Where a version's programs are, as long as they are not on the root disk.
struct NotInstalled(Utf8PathBuf);

impl NotInstalled {
    /// Takes the newest version away, when there are two; in a root that is made for it and thrown away.
    fn newest() -> NotInstalled {
        assert!(std::env::var_os("TROVE_TEST_IN_ROOT").is_some(), "this machine's own programs are not moved: python -m bench.in_root");
        let directories = Utf8Path::new("/usr/lib/postgresql").read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
        let mut versions: Vec<(u16, Utf8PathBuf)> =
            directories.filter_map(|path| Some((path.file_name()?.parse().ok()?, path.clone()))).collect();
        versions.sort();
        assert_eq!(versions.len(), 2, "{versions:?}");
        let (_, newest) = versions.pop().unwrap();
        std::fs::rename(&newest, newest.with_extension("aside")).unwrap();
        NotInstalled(newest)
    }
}

impl Drop for NotInstalled {
    fn drop(&mut self) {
        std::fs::rename(self.0.with_extension("aside"), &self.0).unwrap();
    }
}

#[test]
#[ignore = "it takes programs of two versions: dev/test runs it in a root that has them"]
fn data_of_an_older_major_version_become_this_ones() {
    run(async {
        let newer = NotInstalled::newest();
        let guest = filled("major").await;
        let version = |guest: &Guest| std::fs::read_to_string(guest.dir.join("mnt/data/pgdata/PG_VERSION")).unwrap();
        let (old, checksums) = (version(&guest), guest.parameter("data_checksums").await);
        let guest = moved(guest).await;
        drop(newer);
        // The next root disk's.
        let guest = guest.agent_again();
        let (upgrades, volume) = (guest.manager.upgrades().unwrap(), no_volume(&guest));
        for _ in 0..2 {
            upgrade::rebuild(&guest.op, &guest.manager, upgrades, &volume, Some(&guest.base("")), Some(&overrides())).await.unwrap();
            assert_whole(&guest).await;
        }
        let installed = upgrades.installed(&guest.op).await.unwrap().to_string();
        assert_ne!(version(&guest), old);
        assert!(installed.starts_with(&format!("PostgreSQL {}.", version(&guest).trim())), "{installed}");
        assert_eq!(guest.parameter("data_checksums").await, checksums);
        let analyzed = guest.as_user("ann", "planted-ann", "shop", "SELECT reltuples FROM pg_class WHERE relname = 't'").await.unwrap();
        assert_eq!(analyzed, ["1"]);
        for name in [".trove-new-major", ".trove-made-major", ".trove-old-major"] {
            assert!(!guest.dir.join("mnt/data").join(name).exists(), "{name}");
        }
        guest.as_user("ann", "planted-ann", "shop", "INSERT INTO t VALUES (8)").await.unwrap();
        assert!(!logged().contains("planted-ann"));
        guest.remove().await;
    });
}
