//! `prepare_server`: from nothing, from what a package made, and from the middle of an attempt that was cut off.

use std::os::unix::fs::PermissionsExt;

use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::mysql::SqlText;

use crate::support::{BASE, Guest, Root, logged, request, with_both};

async fn assert_secured(guest: &Guest) {
    let accounts = guest
        .column(SqlText::new(
            "SELECT CONCAT(User, '@', Host) FROM mysql.user WHERE User IN ('', 'root', 'os_admin') AND Host <> '' ORDER BY 1",
        ))
        .await;
    let accounts: Vec<_> = accounts.into_iter().flatten().collect();
    assert_eq!(accounts, ["os_admin@localhost", "root@localhost"]);
    assert_eq!(guest.column(SqlText::new("SELECT Db FROM mysql.db WHERE User = ''")).await, []);
    // Whoever runs as another user of the machine does not get in as root without a password; this test is the machine's root.
    let refused = guest.sql_as("root", "", SqlText::new("SELECT 1")).await;
    assert_eq!(refused.is_err(), guest.root == Root::MySql, "{refused:?}");
    let mode = std::fs::metadata(guest.dir.join("state/os_admin.cnf")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn an_empty_volume_becomes_a_secured_database_and_prepare_is_repeatable() {
    with_both(|root| async move {
        let guest = Guest::new(root, "fresh", |_| ());
        assert!(guest.manager.is_installed(&guest.op).await);
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        assert_secured(&guest).await;
        guest.sql(SqlText::new("CREATE DATABASE kept")).await;
        let before = std::fs::read_to_string(guest.dir.join("state/os_admin.cnf")).unwrap();
        let again = guest.agent_again();
        again.manager.prepare_server(&again.op, &request(BASE)).await.unwrap();
        assert_secured(&again).await;
        assert_eq!(again.column(SqlText::new("SHOW DATABASES LIKE 'kept'")).await.len(), 1);
        assert_eq!(std::fs::read_to_string(guest.dir.join("state/os_admin.cnf")).unwrap(), before);
        again.remove().await;
    });
}

#[test]
fn a_database_whose_accounts_are_all_closed_is_opened_by_the_servers_own_start() {
    with_both(|root| async move {
        let guest = Guest::new(root, "closed", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        // As after a restore from somebody's backup: other passwords than any the agent knows.
        guest.sql(SqlText::new("ALTER USER root@localhost IDENTIFIED BY 'elsewhere'")).await;
        guest.sql(SqlText::new("CREATE USER ''@'localhost' IDENTIFIED BY 'x'")).await;
        guest.sql(SqlText::new("CREATE USER 'root'@'127.0.0.1' IDENTIFIED BY 'x'")).await;
        std::fs::remove_file(guest.dir.join("state/os_admin.cnf")).unwrap();
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        assert_secured(&guest).await;
        assert!(!guest.dir.join("volume/data/.trove-init.sql").exists());
        assert!(!guest.dir.join("etc/conf.d/99-system-001-init.cnf").exists());
        let password = std::fs::read_to_string(guest.dir.join("state/os_admin.cnf")).unwrap();
        let password = password.lines().find_map(|line| line.strip_prefix("password = ")).unwrap().to_owned();
        assert!(!logged().contains(&password), "the log shows os_admin's password");
        guest.remove().await;
    });
}

#[test]
fn a_packages_database_is_taken_over_and_a_half_made_one_is_made_again() {
    with_both(|root| async move {
        let guest = Guest::new(root, "package", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        guest.sql(SqlText::new("CREATE DATABASE of_the_package")).await;
        guest.manager.stop(&guest.op).await.unwrap();
        // As a package leaves it: at the mount point itself.
        let volume = guest.dir.join("volume");
        for entry in volume.join("data").read_dir_utf8().unwrap().flatten() {
            std::fs::rename(entry.path(), volume.join(entry.file_name())).unwrap();
        }
        std::fs::remove_dir(volume.join("data")).unwrap();
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        assert_eq!(guest.column(SqlText::new("SHOW DATABASES LIKE 'of_the_package'")).await.len(), 1);
        assert!(!volume.join("mysql").exists());
        guest.manager.stop(&guest.op).await.unwrap();
        std::fs::write(volume.join(".trove-initializing"), "").unwrap();
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        assert_eq!(guest.column(SqlText::new("SHOW DATABASES LIKE 'of_the_package'")).await.len(), 0);
        assert_secured(&guest).await;
        guest.remove().await;
    });
}

#[test]
fn templates_of_every_release_start_every_server() {
    with_both(|root| async move {
        let guest = Guest::new(root, "templates", |_| ());
        // What only some releases render.
        let own = if root == Root::MySql { "secure-file-priv = NULL\nperformance_schema = ON" } else { "query_cache_type = 1" };
        for extra in [own, "user = mysql\nmyisam-recover = BACKUP", "default_authentication_plugin = mysql_native_password"] {
            let contents = BASE.replace("myisam-recover-options = BACKUP,FORCE", extra);
            guest.manager.prepare_server(&guest.op, &request(&contents)).await.unwrap();
        }
        let size = guest.column(SqlText::new("SELECT CAST(@@innodb_buffer_pool_size AS CHAR)")).await;
        assert!(size[0].as_deref().unwrap().parse::<u64>().unwrap() >= 300 << 20);
        let file = std::fs::read_to_string(guest.dir.join("etc/my.cnf")).unwrap();
        assert_eq!(file.matches("!includedir").count(), 1);
        assert_eq!(file.contains("loose-query_cache_type"), root == Root::MySql, "{file}");
        guest.remove().await;
    });
}

#[test]
fn a_server_that_cannot_start_says_why() {
    with_both(|root| async move {
        let guest = Guest::new(root, "broken", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        guest.manager.stop(&guest.op).await.unwrap();
        std::fs::write(guest.dir.join("etc/conf.d/90-broken.cnf"), "[mysqld]\nno_such_option_at_all = 1\n").unwrap();
        let error = guest.manager.start(&guest.op).await.unwrap_err().to_string();
        assert!(error.contains("no_such_option_at_all"), "{error}");
        guest.remove().await;
    });
}
