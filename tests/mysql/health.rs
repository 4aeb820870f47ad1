//! What the probe says of a server in each of its states.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::model::ServiceStatus;
use trove_guestagent::strategies::backup::Usage;

use crate::harness::kill_server;
use crate::support::{BASE, Guest, request, with_both};

#[test]
fn the_probe_tells_running_blocked_crashed_and_shut_down_apart() {
    with_both(|root| async move {
        let guest = Guest::new(root, "health", |_| ());
        guest.becomes(ServiceStatus::Shutdown).await;
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        usage_is_that_of_others(&guest).await;
        let pid = guest.pid().await;
        kill(pid, Signal::SIGSTOP).unwrap();
        guest.becomes(ServiceStatus::Blocked).await;
        kill(pid, Signal::SIGCONT).unwrap();
        guest.becomes(ServiceStatus::Running).await;
        guest.manager.stop(&guest.op).await.unwrap();
        guest.becomes(ServiceStatus::Shutdown).await;
        guest.manager.start(&guest.op).await.unwrap();
        // Alive, but the agent's account is gone: still the server that runs.
        guest.sql(SqlText::new("DROP USER os_admin@localhost")).await;
        guest.becomes(ServiceStatus::Running).await;
        kill_server(&guest.manager, &guest.op).await;
        guest.becomes(ServiceStatus::Crashed).await;
        guest.manager.start(&guest.op).await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        guest.remove().await;
    });
}

/// What a backup looks at to be gentle: the work of clients, and not that of the agent and its tools.
async fn usage_is_that_of_others(guest: &Guest) {
    let mut usage = guest.manager.backups().unwrap().usage();
    guest.sql(SqlText::new("SELECT 1")).await;
    assert!(!usage.is_in_use(&guest.op).await.unwrap(), "the agent alone");
    guest.sql(SqlText::new("CREATE USER app@localhost IDENTIFIED BY 'App-Pw-1'")).await;
    // It is seen while it works, or never: its session ends with it.
    let long = guest.sql_as("app", "App-Pw-1", SqlText::new("SELECT SLEEP(2)"));
    let (ended, ()) = tokio::join!(long, until_in_use(guest, &mut *usage, true));
    ended.unwrap();
    until_in_use(guest, &mut *usage, false).await;
    // Sessions too short to be seen at work are counted.
    tokio::select! {
        () = many_short_sessions(guest) => {}
        () = until_in_use(guest, &mut *usage, true) => {}
    }
    guest.sql(SqlText::new("DROP USER app@localhost")).await;
}

async fn many_short_sessions(guest: &Guest) {
    loop {
        guest.sql_as("app", "App-Pw-1", SqlText::new("DO 0")).await.unwrap();
    }
}

async fn until_in_use(guest: &Guest, usage: &mut dyn Usage, wanted: bool) {
    let wait = async {
        while usage.is_in_use(&guest.op).await.unwrap() != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("in use should be {wanted}"));
}
