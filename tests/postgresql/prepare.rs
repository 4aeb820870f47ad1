//! A server made into a database, started, stopped and watched.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::signal::{Signal, kill};
use secrecy::ExposeSecret;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::model::ServiceStatus;
use trove_guestagent::system::postgresql::SqlText;

use crate::harness::kill_server;
use crate::support::{Guest, logged, run};

#[test]
fn a_guest_is_prepared_twice_and_lets_nobody_in_without_a_password() {
    run(async {
        let guest = Guest::prepared("prepare", "").await;
        let credentials = std::fs::read_to_string(guest.dir.join("state/os_admin.pgpass")).unwrap();
        let password = credentials.trim().rsplit(':').next().unwrap().to_owned();
        assert_eq!(std::fs::metadata(guest.dir.join("state/os_admin.pgpass")).unwrap().permissions().mode() & 0o777, 0o600);
        let data = std::fs::metadata(guest.dir.join("mnt/data/pgdata")).unwrap();
        let postgres = nix::unistd::User::from_name("postgres").unwrap().unwrap();
        assert_eq!((data.uid(), data.permissions().mode() & 0o777), (postgres.uid.as_raw(), 0o700));
        assert_eq!(guest.parameter("data_checksums").await, "on");
        assert_eq!(guest.parameter("listen_addresses").await, "*");
        // The password is right, and yet: from this host only.
        for (user, database) in [("os_admin", "postgres"), ("postgres", "postgres"), ("os_admin", "template1"), ("nobody", "postgres")] {
            let refused = guest.as_user(user, &password, database, "SELECT 1").await.unwrap_err();
            assert!(refused.contains("rejects") || refused.contains("authentication failed"), "{user}: {refused}");
        }
        let rows = guest.rows(&SqlText::new("SELECT left(rolpassword, 14) FROM pg_authid WHERE rolcanlogin ORDER BY rolname")).await;
        assert_eq!(rows, [[Some("SCRAM-SHA-256$".to_owned())], [None]]);
        // Again, by another agent: the data and the password stay.
        guest.rows(&SqlText::new("CREATE TABLE public.kept AS SELECT 7 AS x")).await;
        let again = guest.agent_again();
        again.manager.prepare_server(&again.op, &again.request("")).await.unwrap();
        assert_eq!(again.rows(&SqlText::new("SELECT x FROM public.kept")).await[0][0].as_deref(), Some("7"));
        assert_eq!(std::fs::read_to_string(again.dir.join("state/os_admin.pgpass")).unwrap(), credentials);
        // Somebody has changed the role's password, and its settings: the agent finds its way in again.
        again.rows(&SqlText::new("ALTER ROLE os_admin NOSUPERUSER PASSWORD 'other'; ALTER ROLE os_admin SET search_path = nowhere")).await;
        again.manager.prepare_server(&again.op, &again.request("")).await.unwrap();
        assert_eq!(again.rows(&SqlText::new("SELECT rolsuper FROM pg_roles WHERE rolname = 'os_admin'")).await[0][0].as_deref(), Some("t"));
        let now = std::fs::read_to_string(again.dir.join("state/os_admin.pgpass")).unwrap();
        assert_ne!(now, credentials);
        for secret in [&password, now.trim().rsplit(':').next().unwrap()] {
            assert!(!logged().contains(secret));
            assert!(!std::fs::read_to_string(again.dir.join("state/server.log")).unwrap().contains(secret));
        }
        again.remove().await;
    });
}

#[test]
fn the_probe_tells_what_is_wrong_with_a_server() {
    run(async {
        let guest = Guest::prepared("probe", "").await;
        guest.until(ServiceStatus::Running).await;
        let pid = guest.pid().await;
        kill(pid, Signal::SIGSTOP).unwrap();
        guest.until(ServiceStatus::Blocked).await;
        kill(pid, Signal::SIGCONT).unwrap();
        guest.until(ServiceStatus::Running).await;
        // Somebody else's smart shutdown waits for the session, and takes no other: alive, and serving nobody.
        let session = guest.manager.client().session(&guest.op).await.unwrap();
        kill(pid, Signal::SIGTERM).unwrap();
        guest.until(ServiceStatus::Blocked).await;
        // The agent's waits for nobody.
        guest.manager.stop(&guest.op).await.unwrap();
        drop(session);
        guest.until(ServiceStatus::Shutdown).await;
        guest.manager.start(&guest.op).await.unwrap();
        guest.until(ServiceStatus::Running).await;
        kill_server(&guest.manager, &guest.op).await;
        guest.until(ServiceStatus::Crashed).await;
        guest.manager.start(&guest.op).await.unwrap();
        guest.until(ServiceStatus::Running).await;
        guest.manager.stop(&guest.op).await.unwrap();
        guest.until(ServiceStatus::Shutdown).await;
        guest.remove().await;
    });
}

#[test]
fn an_interrupted_initialization_starts_again_and_strange_files_stay() {
    run(async {
        let guest = Guest::new("halves");
        let data = guest.dir.join("mnt/data/pgdata");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("thesis.odt"), "").unwrap();
        let error = guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap_err().to_string();
        assert!(error.contains("thesis.odt"), "{error}");
        // As after a crash of the agent while it was initializing.
        std::fs::remove_file(data.join("thesis.odt")).unwrap();
        std::fs::write(data.join("PG_VERSION"), "15").unwrap();
        std::fs::write(guest.dir.join("mnt/.trove-initializing"), "").unwrap();
        guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
        guest.until(ServiceStatus::Running).await;
        guest.remove().await;
    });
}

#[test]
fn root_is_postgres_and_can_log_in_while_enabled() {
    run(async {
        let guest = Guest::prepared("root", "log_statement = 'all'\n").await;
        assert!(!guest.root().is_enabled(&guest.op).await.unwrap());
        let root = guest.root().enable(&guest.op, None).await.unwrap();
        let password = root.password.unwrap().expose_secret().to_owned();
        assert_eq!((root.name.as_str(), root.is_root), ("postgres", true));
        assert!(guest.root().is_enabled(&guest.op).await.unwrap());
        let made = guest.as_user("postgres", &password, "postgres", "CREATE ROLE other SUPERUSER; SELECT 1").await;
        assert_eq!(made, Ok(vec!["1".to_owned()]));
        let chosen = "a'b\\c$$ \u{e9}";
        guest.root().enable(&guest.op, Some(chosen.into())).await.unwrap();
        assert!(guest.as_user("postgres", &password, "postgres", "SELECT 1").await.is_err());
        assert!(guest.as_user("postgres", chosen, "postgres", "SELECT 1").await.is_ok());
        guest.root().disable(&guest.op).await.unwrap();
        assert!(!guest.root().is_enabled(&guest.op).await.unwrap());
        assert!(guest.as_user("postgres", chosen, "postgres", "SELECT 1").await.is_err());
        // The server logs every statement: none had a password in it.
        let said = std::fs::read_to_string(guest.dir.join("state/server.log")).unwrap();
        assert!(said.contains("ALTER ROLE \"postgres\" PASSWORD 'SCRAM-SHA-256"));
        assert!(!said.contains(&password) && !logged().contains(&password) && !said.contains("a'b"));
        guest.remove().await;
    });
}
