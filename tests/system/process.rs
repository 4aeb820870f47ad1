//! Service control `process`: the contract, and what only a supervisor does.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::system::service::{ServerCommand, ServiceControl, Supervisor, UnitState};

use super::service_contract::{Server, Setting, WAIT, check, running_pid};
use super::support::{op, scratch, wait_until};

fn supervisor(server: &Server) -> Supervisor {
    Supervisor::new(server.dir.join("state"), WAIT, server.command.clone(), Arc::new(SystemCommands))
}

/// A supervisor as the agent has it; what it started ends with the test.
struct Guard(Server);

impl Drop for Guard {
    fn drop(&mut self) {
        let text = std::fs::read_to_string(self.0.dir.join("state/server.pid")).unwrap_or_default();
        let pid = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|record| record["pid"].as_i64());
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

async fn installed() -> (tempfile::TempDir, Guard) {
    let (dir, path) = scratch();
    let server = Server::below(&path);
    server.install(&supervisor(&server)).await;
    (dir, Guard(server))
}

fn exists(pid: i32) -> bool {
    Utf8Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn the_contract() {
    let (_dir, guard) = installed().await;
    check(&supervisor(&guard.0), &guard.0).await;
}

#[tokio::test]
async fn a_server_without_a_program_is_missing() {
    let (_dir, path) = scratch();
    let command = ServerCommand { programs: vec!["/no/such/mysqld".into()], ..ServerCommand::default() };
    let supervisor = Supervisor::new(path, WAIT, command, Arc::new(SystemCommands));
    assert_eq!(supervisor.state(&op()).await.unwrap(), UnitState::Missing);
    let error = supervisor.start(&op(), WAIT).await.unwrap_err();
    assert!(error.to_string().contains("(/no/such/mysqld) is not on this guest"), "{error}");
}

#[tokio::test]
async fn a_crashed_server_is_restarted_and_one_stopped_on_purpose_is_not() {
    let (_dir, guard) = installed().await;
    let supervisor = supervisor(&guard.0);
    supervisor.start(&op(), WAIT).await.unwrap();
    let first = running_pid(&supervisor).await;
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    wait_until(
        "it runs again",
        WAIT,
        async || matches!(supervisor.state(&op()).await.unwrap(), UnitState::Running { pid: Some(pid) } if pid != first),
    )
    .await;
    // The crashed one was reaped.
    assert!(!exists(first));
    // One that cannot be restarted has failed until it can.
    let second = running_pid(&supervisor).await;
    guard.0.spoil(true);
    kill(Pid::from_raw(second), Signal::SIGKILL).unwrap();
    wait_until("it failed", WAIT, async || supervisor.state(&op()).await.unwrap() == UnitState::Failed).await;
    guard.0.spoil(false);
    wait_until("it runs again", WAIT, async || matches!(supervisor.state(&op()).await.unwrap(), UnitState::Running { .. })).await;
    supervisor.stop(&op(), WAIT).await.unwrap();
    assert_eq!(supervisor.state(&op()).await.unwrap(), UnitState::Stopped);
    assert!(!guard.0.dir.join("state/server.pid").exists());
}

#[tokio::test]
async fn a_new_agent_adopts_the_server_of_one_that_was_killed() {
    let (_dir, guard) = installed().await;
    let pid = {
        // The runtime goes with the agent, and all its tasks.
        let server = Server { dir: guard.0.dir.clone(), command: guard.0.command.clone() };
        let agent = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let supervisor = supervisor(&server);
                supervisor.start(&op(), WAIT).await.unwrap();
                running_pid(&supervisor).await
            })
        });
        agent.join().unwrap()
    };
    assert!(exists(pid));
    let next = supervisor(&guard.0);
    next.agent_starts(&op()).await;
    assert_eq!(running_pid(&next).await, pid);
    next.start(&op(), WAIT).await.unwrap();
    assert_eq!(running_pid(&next).await, pid);
    // It is watched as if it were the agent's own.
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait_until(
        "it runs again",
        WAIT,
        async || matches!(next.state(&op()).await.unwrap(), UnitState::Running { pid: Some(now) } if now != pid),
    )
    .await;
    next.stop(&op(), WAIT).await.unwrap();
}

#[tokio::test]
async fn the_agent_stops_the_server_and_starts_one_that_is_enabled() {
    let (_dir, guard) = installed().await;
    let first = supervisor(&guard.0);
    first.agent_starts(&op()).await;
    assert_eq!(first.state(&op()).await.unwrap(), UnitState::Stopped);
    first.start(&op(), WAIT).await.unwrap();
    first.set_enabled(&op(), true).await.unwrap();
    let pid = running_pid(&first).await;
    first.agent_stops(&op()).await;
    assert!(!exists(pid));

    let second = supervisor(&guard.0);
    second.agent_starts(&op()).await;
    running_pid(&second).await;
    second.set_enabled(&op(), false).await.unwrap();
    second.agent_stops(&op()).await;

    let third = supervisor(&guard.0);
    third.agent_starts(&op()).await;
    assert_eq!(third.state(&op()).await.unwrap(), UnitState::Stopped);

    // Stopped for its controller, it stays down while the guest lives, and not for ever.
    third.set_enabled(&op(), true).await.unwrap();
    third.start(&op(), WAIT).await.unwrap();
    third.stop(&op(), WAIT).await.unwrap();
    third.keep_stopped(&op()).await.unwrap();
    let kept = supervisor(&guard.0);
    kept.agent_starts(&op()).await;
    assert_eq!(kept.state(&op()).await.unwrap(), UnitState::Stopped);
    kept.start(&op(), WAIT).await.unwrap();
    kept.agent_stops(&op()).await;
    let started = supervisor(&guard.0);
    started.agent_starts(&op()).await;
    running_pid(&started).await;
    started.stop(&op(), WAIT).await.unwrap();
    third.set_enabled(&op(), false).await.unwrap();
    let third = supervisor(&guard.0);

    // One that crashed while no agent was there has failed, and is started.
    third.start(&op(), WAIT).await.unwrap();
    let crashed = running_pid(&third).await;
    drop(third);
    kill(Pid::from_raw(crashed), Signal::SIGKILL).unwrap();
    let fourth = supervisor(&guard.0);
    wait_until("it is gone", Duration::from_secs(10), async || fourth.state(&op()).await.unwrap() == UnitState::Failed).await;
    fourth.agent_starts(&op()).await;
    running_pid(&fourth).await;
    fourth.stop(&op(), WAIT).await.unwrap();
}
