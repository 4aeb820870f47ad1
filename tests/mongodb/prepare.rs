//! `prepare_server`, the probe, and the life of the server.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use mongodb::bson::doc;
use nix::sys::signal::{Signal, kill};
use trove_guestagent::error::Error;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::model::ServiceStatus;

use crate::harness::kill_server;
use crate::support::{Guest, logged, run};

fn password(guest: &Guest) -> String {
    let text = std::fs::read_to_string(guest.dir.join("state/os_mongo_admin_creds.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["password"].as_str().unwrap().to_owned()
}

#[test]
fn an_empty_volume_becomes_a_secured_database_and_prepare_is_repeatable() {
    run(async {
        let guest = Guest::new("fresh");
        assert!(guest.manager.is_installed(&guest.op).await);
        std::fs::create_dir_all(guest.dir.join("volume/lost+found")).unwrap();
        guest.prepare("").await.unwrap();
        guest.ask("kept", doc! {"insert": "c", "documents": [{"_id": 1}]}).await;
        // Nobody gets in without a password, not even from this host.
        let nobody = guest.user(None).await.unwrap();
        let refused = nobody.run(&guest.op, "test", "admin", doc! {"createUser": "x", "pwd": "y", "roles": []}).await.unwrap_err();
        assert!(matches!(refused, Error::Database { code: Some(13), .. }), "{refused}");
        assert!(guest.user(Some(("admin", "os_admin", "wrong"))).await.unwrap_err().to_string().contains("Authentication failed"));
        let first = password(&guest);
        let again = guest.agent_again();
        // Its supervisor goes with it.
        drop(guest);
        again.prepare("").await.unwrap();
        assert_eq!(password(&again), first);
        assert_eq!(again.ask("kept", doc! {"count": "c"}).await.get_i32("n").unwrap(), 1);
        // The server runs as its own account, and its files are nobody else's.
        let owner = std::fs::metadata(format!("/proc/{}", again.pid().await)).unwrap().uid();
        let file = std::fs::metadata(again.dir.join("etc/mongod.conf")).unwrap();
        assert!(owner != 0 && owner == file.uid() && owner == std::fs::metadata(again.dir.join("volume")).unwrap().uid());
        assert_eq!(file.permissions().mode() & 0o777, 0o640);
        // What no server of this version knows is left out, and lines are kept.
        let text = again.file();
        assert!(!text.contains("smallFiles") && text.starts_with("# mongodb.conf\n") && text.contains("# small, for tests"), "{text}");
        assert!(!logged().contains(&first), "the log shows the password of the agent's user");
        again.remove().await;
    });
}

#[test]
fn a_lost_password_is_set_anew_on_data_that_stay() {
    run(async {
        let guest = Guest::prepared("lost").await;
        let first = password(&guest);
        guest.ask("kept", doc! {"insert": "c", "documents": [{"_id": 1}]}).await;
        std::fs::remove_file(guest.dir.join("state/os_mongo_admin_creds.json")).unwrap();
        guest.prepare("").await.unwrap();
        let second = password(&guest);
        assert_ne!(first, second);
        // And one that the database does not know.
        std::fs::write(guest.dir.join("state/os_mongo_admin_creds.json"), "{\"username\": \"os_admin\", \"password\": \"other\"}").unwrap();
        guest.becomes(ServiceStatus::Running).await;
        guest.prepare("").await.unwrap();
        assert_eq!(guest.ask("kept", doc! {"count": "c"}).await.get_i32("n").unwrap(), 1);
        assert!(
            guest.user(Some(("admin", "os_admin", &first))).await.is_err()
                && guest.user(Some(("admin", "os_admin", &second))).await.is_err()
        );
        assert!(!logged().contains(&password(&guest)));
        guest.remove().await;
    });
}

#[test]
fn the_probe_tells_running_blocked_crashed_and_shut_down_apart() {
    run(async {
        let guest = Guest::new("health");
        guest.becomes(ServiceStatus::Shutdown).await;
        guest.prepare("").await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        let pid = guest.pid().await;
        kill(pid, Signal::SIGSTOP).unwrap();
        guest.becomes(ServiceStatus::Blocked).await;
        kill(pid, Signal::SIGCONT).unwrap();
        guest.becomes(ServiceStatus::Running).await;
        guest.manager.stop(&guest.op).await.unwrap();
        guest.becomes(ServiceStatus::Shutdown).await;
        guest.manager.start(&guest.op).await.unwrap();
        // A probe that is under way waits for the server that is started in its place.
        kill_server(&guest.manager, &guest.op).await;
        guest.becomes(ServiceStatus::Crashed).await;
        guest.manager.start(&guest.op).await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        guest.remove().await;
    });
}

#[test]
fn a_base_the_server_refuses_changes_nothing_and_says_why() {
    run(async {
        let guest = Guest::prepared("refused").await;
        let before = guest.file();
        let error = guest.manager.reset_configuration(&guest.op, "systemLog.verbosity: loud\n").await.unwrap_err().to_string();
        assert!(error.contains("systemLog.verbosity"), "{error}");
        assert_eq!(guest.file(), before);
        guest.manager.stop(&guest.op).await.unwrap();
        std::fs::write(guest.dir.join("etc/mongod.conf"), "net: {port: banana}\n").unwrap();
        let error = guest.manager.start(&guest.op).await.unwrap_err().to_string();
        assert!(error.contains("net.port"), "{error}");
        std::fs::write(guest.dir.join("etc/mongod.conf"), before).unwrap();
        guest.remove().await;
    });
}

#[test]
fn a_key_that_the_server_refuses_is_named_and_a_new_prepare_mends_it() {
    run(async {
        let guest = Guest::prepared("key").await;
        let file = guest.dir.join("etc/mongo_key");
        let metadata = std::fs::metadata(&file).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid() != 0), (0o400, true));
        let key = std::fs::read_to_string(&file).unwrap();
        guest.manager.stop(&guest.op).await.unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
        let open = guest.manager.start(&guest.op).await.unwrap_err().to_string();
        assert!(open.contains("too open"), "{open}");
        std::fs::write(&file, "short").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
        let short = guest.manager.start(&guest.op).await.unwrap_err().to_string();
        assert!(short.contains("key"), "{short}");
        guest.prepare("").await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        assert!(!logged().contains(&key) && !logged().contains(&std::fs::read_to_string(&file).unwrap()));
        guest.remove().await;
    });
}
