//! The composition root: puts the agent together, runs it, and takes it apart in order.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Settings, Sources};
use crate::error::{Error, Result, ResultExt};
use crate::journal::Journal;
use crate::managers::prepare::PrepareEnv;
use crate::managers::{DatastoreManager, registry};
use crate::monitor::{Exporter, Metrics, Monitor, Operations, Told};
use crate::op::Op;
use crate::release::ReleaseTracker;
use crate::rpc::{Broker, Conductor, Dispatcher, Heartbeat, KeyRing, Publisher, RpcServer};
use crate::status::StatusTracker;
use crate::system::command::{CommandRunner, SystemCommands};
use crate::system::{files, leftovers, packages};
use crate::volume;
use crate::watchdog::Watchdog;

/// How long operations under way may take to end after SIGTERM. The unit's `TimeoutStopSec` is longer.
const GRACE: Duration = Duration::from_secs(60);
/// How long they may take to clean up once they are cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// How long connections may take to end.
const CONNECTIONS_GRACE: Duration = Duration::from_secs(1);

/// Runs the agent until `stop` is cancelled: what changes the instance on `threads`, everything else where it is called. `settings` came from
/// `sources`, which are looked at again for a new key.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(settings: Settings, sources: Sources, stop: CancellationToken, threads: Handle) -> Result<()> {
    let settings = Arc::new(settings);
    files::ensure_directory(&settings.state_dir, 0o700, None).action("prepare state_dir")?;
    let keys = Arc::new(KeyRing::new(&settings, sources)?);
    let release = Arc::new(ReleaseTracker::load(&settings)?);
    let status = Arc::new(StatusTracker::load(&settings.state_dir)?);

    let commands: Arc<dyn CommandRunner> = Arc::new(SystemCommands);
    let packages = packages::detect(commands.clone());
    let manager = registry::build(&settings, commands.clone(), packages.clone())?;
    clear_left_over(&settings, &*manager, commands.clone()).await;
    let (journal, mut left) = Journal::open(&settings.state_dir)?;

    // Three tokens: the first stops taking requests, the second ends operations, the third ends connections, which are needed to the last.
    let operations = CancellationToken::new();
    let connections = CancellationToken::new();
    let metrics = Arc::new(Metrics::default());
    let broker = Arc::new(Broker::new(settings.clone(), metrics.clone()));
    let watchdog = Watchdog::default();
    let (publisher, sending) = Publisher::start(broker.clone(), watchdog.pulse("sending"), connections.clone());
    let conductor = Arc::new(Conductor::new(settings.clone(), publisher.clone(), keys.clone())?);
    let shown = Arc::new(Operations::new(metrics.clone()));
    let told = Arc::new(Told::new(&settings.state_dir, metrics.clone()));
    let dispatcher = Arc::new(Dispatcher {
        settings: settings.clone(),
        manager: manager.clone(),
        status: status.clone(),
        conductor: conductor.clone(),
        release: release.clone(),
        prepare: PrepareEnv { settings: settings.clone(), commands, packages },
        operations: shown.clone(),
        told: told.clone(),
    });
    let heartbeat = Heartbeat {
        interval: settings.report_interval,
        conductor,
        status: status.clone(),
        release: release.clone(),
        told: told.clone(),
        manager: manager.clone(),
    };
    let heartbeat = tokio::spawn(heartbeat.run(watchdog.pulse("heartbeat"), connections.clone()));

    let monitor = Arc::new(Monitor::new(settings.clone(), status.clone(), shown, told, manager.clone()));
    let exporter = Exporter::new(&metrics, monitor.clone());
    let exporting = tokio::spawn(exporter.run(settings.metrics.clone(), connections.clone()));
    let monitor = tokio::spawn(monitor.run(connections.clone()));

    let finished = std::mem::take(&mut left.finished);
    let server =
        RpcServer::new(broker, publisher, dispatcher, keys, release, journal, finished, stop.clone(), operations.clone(), &threads);
    server.begin();
    server.recover(left);
    let mut serving = tokio::spawn(server.run(watchdog.pulse("consuming"), || notify(&[sd_notify::NotifyState::Ready])));
    let _watching = watch(watchdog);

    let ended = tokio::select! {
        // Cancel-safe: a token and a handle.
        () = stop.cancelled() => false,
        _ = &mut serving => true,
    };
    notify(&[sd_notify::NotifyState::Stopping]);
    // Told to stop, it may be the first to notice.
    let failed = ended && !stop.is_cancelled();
    if !ended {
        end(serving, &operations).await;
    }
    let_go(&*manager).await;
    connections.cancel();
    heartbeat.await.ok();
    monitor.await.ok();
    exporting.await.ok();
    sending.await.ok();
    connections_end().await;
    if failed {
        // Only a panic ends it: the service manager starts the agent again.
        return Err(Error::guest("the RPC server ended by itself; the log has the reason"));
    }
    tracing::info!("stopped");
    Ok(())
}

/// What a killed agent has left of what it was doing, and nobody will go on with: programs, mounts, unfinished files.
async fn clear_left_over(settings: &Settings, manager: &dyn DatastoreManager, commands: Arc<dyn CommandRunner>) {
    // First of all: whoever waits for a frozen file system does not even end.
    if let Err(error) = volume::Freezer::thaw_left_over(commands.clone(), &settings.state_dir).await {
        tracing::error!(%error, "the volume stays frozen");
    }
    leftovers::kill_orphans().await;
    volume::clear_left_over(&commands).await;
    let own = [settings.state_dir.clone(), settings.state_dir.join("journal"), "/etc".into()];
    for directory in own.into_iter().chain(manager.written_directories()) {
        files::clear_unfinished(&directory);
    }
}

/// What ends with the agent: a volume that is held still, and a server of its own.
async fn let_go(manager: &dyn DatastoreManager) {
    if let Some(snapshots) = manager.snapshots() {
        snapshots.abandon().await;
    }
    manager.service().agent_stops(&Op::internal(CancellationToken::new())).await;
}

/// The AMQP library has tasks of its own, which take it ill when the runtime ends before them.
async fn connections_end() {
    let tasks = Handle::current().metrics();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let ended = async {
        while tasks.num_alive_tasks() > 0 {
            ticks.tick().await;
        }
    };
    if tokio::time::timeout(CONNECTIONS_GRACE, ended).await.is_err() {
        tracing::debug!(tasks = tasks.num_alive_tasks(), "tasks are left");
    }
}

/// Waits for operations under way; what takes too long is cancelled, and stays in the journal.
async fn end(mut serving: tokio::task::JoinHandle<()>, operations: &CancellationToken) {
    if tokio::time::timeout(GRACE, &mut serving).await.is_ok() {
        return;
    }
    tracing::warn!(seconds = GRACE.as_secs(), "operations are still under way; cancelling them");
    operations.cancel();
    if tokio::time::timeout(CANCEL_GRACE, serving).await.is_err() {
        tracing::error!("operations did not end; the next start will report them");
    }
}

/// Tells systemd that the agent is alive for as long as it is; nothing when systemd does not want to know.
fn watch(watchdog: Watchdog) -> Option<AbortOnDropHandle<()>> {
    let patience = sd_notify::watchdog_enabled()?;
    let alive = || notify(&[sd_notify::NotifyState::Watchdog]);
    Some(AbortOnDropHandle::new(tokio::spawn(watchdog.run(patience, alive))))
}

/// Tells systemd, when it is there.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "failed to notify systemd");
    }
}
