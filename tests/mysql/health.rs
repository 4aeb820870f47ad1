//! What the probe says of a server in each of its states.

use nix::sys::signal::{Signal, kill};
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::model::ServiceStatus;

use crate::support::{BASE, Guest, request, with_both};

#[test]
fn the_probe_tells_running_blocked_crashed_and_shut_down_apart() {
    with_both(|root| async move {
        let guest = Guest::new(root, "health", |_| ());
        guest.becomes(ServiceStatus::Shutdown).await;
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
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
        kill(guest.pid().await, Signal::SIGKILL).unwrap();
        guest.becomes(ServiceStatus::Crashed).await;
        guest.manager.start(&guest.op).await.unwrap();
        guest.becomes(ServiceStatus::Running).await;
        guest.remove().await;
    });
}
