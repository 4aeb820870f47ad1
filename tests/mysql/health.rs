//! What the probe says of a server in each of its states.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::model::ServiceStatus;

use crate::support::{BASE, Guest, request, with_both};

async fn becomes(guest: &Guest, wanted: ServiceStatus) {
    let reached = async {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        while guest.manager.status().probe(&guest.op).await != wanted {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("never {wanted:?}"));
}

#[test]
fn the_probe_tells_running_blocked_crashed_and_shut_down_apart() {
    with_both(|root| async move {
        let guest = Guest::new(root, "health", |_| ());
        becomes(&guest, ServiceStatus::Shutdown).await;
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        becomes(&guest, ServiceStatus::Running).await;
        let pid = guest.pid().await;
        kill(pid, Signal::SIGSTOP).unwrap();
        becomes(&guest, ServiceStatus::Blocked).await;
        kill(pid, Signal::SIGCONT).unwrap();
        becomes(&guest, ServiceStatus::Running).await;
        guest.manager.stop(&guest.op).await.unwrap();
        becomes(&guest, ServiceStatus::Shutdown).await;
        guest.manager.start(&guest.op).await.unwrap();
        // Alive, but the agent's account is gone: still the server that runs.
        guest.sql(SqlText::new("DROP USER os_admin@localhost")).await;
        becomes(&guest, ServiceStatus::Running).await;
        kill(guest.pid().await, Signal::SIGKILL).unwrap();
        becomes(&guest, ServiceStatus::Crashed).await;
        guest.manager.start(&guest.op).await.unwrap();
        becomes(&guest, ServiceStatus::Running).await;
        guest.remove().await;
    });
}
