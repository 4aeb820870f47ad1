//! `prepare_server`, the probe, and the life of the server.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::signal::{Signal, kill};
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::model::ServiceStatus;

use crate::harness::kill_server;
use crate::support::{Guest, logged, run};

/// The name that `CONFIG` goes by.
fn command_name(guest: &Guest) -> String {
    guest.file().lines().find_map(|line| line.strip_prefix("rename-command CONFIG ")).unwrap().to_owned()
}

#[test]
fn an_empty_volume_becomes_a_database_and_prepare_is_repeatable() {
    run(async {
        let guest = Guest::new("fresh", |_| ());
        assert!(guest.manager.is_installed(&guest.op).await);
        guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
        guest.as_user(None, &["SET", "kept", "1"]).await.unwrap();
        let again = guest.agent_again();
        again.manager.prepare_server(&again.op, &again.request("")).await.unwrap();
        assert_eq!(again.ask(&["GET", "kept"]).await, "1");
        // The server runs as its own account, and its files are nobody else's.
        let pid = again.pid().await;
        let owner = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
        let file = std::fs::metadata(&again.main_file).unwrap();
        assert!(owner != 0 && owner == file.uid() && owner == std::fs::metadata(again.dir.join("volume")).unwrap().uid());
        assert_eq!(file.permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::metadata(again.dir.join("run/redis.sock")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(again.parameter("maxmemory").await, (64 << 20).to_string());
        assert_eq!(again.parameter("dir").await, again.dir.join("volume").as_str());
        again.remove().await;
    });
}

#[test]
fn config_is_hidden_and_its_name_survives_agent_and_server() {
    run(async {
        let guest = Guest::prepared("renamed", "rename-command FLUSHALL \"\"\nrename-command FLUSHDB wipe\n").await;
        let name = command_name(&guest);
        assert!(guest.as_user(None, &["CONFIG", "GET", "*"]).await.is_err());
        assert!(guest.as_user(None, &["FLUSHALL"]).await.is_err());
        guest.as_user(None, &["wipe"]).await.unwrap();
        // Another life of the agent finds the name in the file of the running server.
        let again = guest.agent_again();
        assert_eq!(again.parameter("port").await, again.port.to_string());
        // A new base keeps it, and the renamings of the base.
        again.manager.start_with_configuration(&again.op, &again.base("rename-command FLUSHDB erase\nmaxclients 77\n")).await.unwrap();
        assert_eq!((command_name(&again), again.parameter("maxclients").await), (name.clone(), "77".to_owned()));
        again.as_user(None, &["erase"]).await.unwrap();
        assert!(again.as_user(None, &["wipe"]).await.is_err());
        again.manager.stop(&again.op).await.unwrap();
        again.manager.start(&again.op).await.unwrap();
        assert_eq!(again.parameter("maxclients").await, "77");
        assert!(!logged().contains(&name), "the log shows what CONFIG is called");
        again.remove().await;
    });
}

#[test]
fn the_probe_tells_running_blocked_crashed_and_shut_down_apart() {
    run(async {
        let guest = Guest::new("health", |_| ());
        guest.becomes(ServiceStatus::Shutdown).await;
        guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        let pid = guest.pid().await;
        kill(pid, Signal::SIGSTOP).unwrap();
        guest.becomes(ServiceStatus::Blocked).await;
        kill(pid, Signal::SIGCONT).unwrap();
        guest.becomes(ServiceStatus::Running).await;
        // A script that does not end: alive, and serving nobody.
        guest.ask(&["SET", "x", "1"]).await;
        let spin = guest.user(None).await.unwrap();
        let spinning = tokio::spawn(async move {
            let mut spin = spin;
            redis::cmd("EVAL").arg("while true do end").arg(0).query_async::<redis::Value>(&mut spin).await.err();
        });
        guest.becomes(ServiceStatus::Blocked).await;
        guest.as_user(None, &["SCRIPT", "KILL"]).await.unwrap();
        spinning.abort();
        guest.becomes(ServiceStatus::Running).await;
        guest.manager.stop(&guest.op).await.unwrap();
        guest.becomes(ServiceStatus::Shutdown).await;
        guest.manager.start(&guest.op).await.unwrap();
        kill_server(&guest.manager, &guest.op).await;
        guest.becomes(ServiceStatus::Crashed).await;
        guest.manager.start(&guest.op).await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        guest.remove().await;
    });
}

/// Redis writes its title over its environment: the mark that other servers are found by is gone.
#[test]
fn a_server_whose_agent_was_killed_before_it_wrote_that_down_is_found() {
    run(async {
        let guest = Guest::prepared("unrecorded", "").await;
        let pid = guest.pid().await;
        std::fs::remove_file(guest.dir.join("state/server.pid")).unwrap();
        let again = guest.agent_again();
        assert_eq!(again.pid().await, pid);
        again.manager.start(&again.op).await.unwrap();
        assert_eq!(again.pid().await, pid);
        again.remove().await;
    });
}

#[test]
fn a_base_the_server_refuses_changes_nothing_and_says_why() {
    run(async {
        let guest = Guest::prepared("refused", "").await;
        let before = guest.file();
        let error = guest.manager.reset_configuration(&guest.op, "port 1\nno-such-directive yes\n").await.unwrap_err().to_string();
        assert!(error.contains("no-such-directive"), "{error}");
        assert_eq!(guest.file(), before);
        guest.manager.stop(&guest.op).await.unwrap();
        std::fs::write(&guest.main_file, "maxmemory banana\n").unwrap();
        let error = guest.manager.start(&guest.op).await.unwrap_err().to_string();
        assert!(error.contains("argument must be a memory value"), "{error}");
        std::fs::write(&guest.main_file, before).unwrap();
        guest.remove().await;
    });
}
