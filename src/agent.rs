//! The composition root: puts the agent together, runs it, and takes it apart in order.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::error::{Result, ResultExt};
use crate::journal::Journal;
use crate::managers::prepare::PrepareEnv;
use crate::managers::{DatastoreManager, registry};
use crate::op::Op;
use crate::release::ReleaseTracker;
use crate::rpc::{Broker, Conductor, Dispatcher, Heartbeat, InstanceKey, Publisher, RpcServer};
use crate::status::{Phase, StatusTracker};
use crate::system::command::{CommandRunner, SystemCommands};
use crate::system::{files, packages};

/// How long operations under way may take to end after SIGTERM. The unit's `TimeoutStopSec` is longer.
const GRACE: Duration = Duration::from_secs(60);
/// How long they may take to clean up once they are cancelled.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// Runs the agent until `stop` is cancelled.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(settings: Settings, stop: CancellationToken) -> Result<()> {
    let settings = Arc::new(settings);
    files::ensure_directory(&settings.state_dir, 0o700, None).action("prepare state_dir")?;
    let key = settings.instance_rpc_encr_key.as_ref().map(InstanceKey::derive).transpose()?;
    let release = Arc::new(ReleaseTracker::load(&settings)?);
    let status = Arc::new(StatusTracker::load(&settings.state_dir)?);
    let (journal, found, finished) = Journal::open(&settings.state_dir)?;

    let commands: Arc<dyn CommandRunner> = Arc::new(SystemCommands);
    let packages = packages::detect(commands.clone());
    let manager = registry::build(&settings, commands.clone(), packages.clone())?;

    // Three tokens: the first stops taking requests, the second ends operations, the third ends connections, which are needed to the last.
    let operations = CancellationToken::new();
    let connections = CancellationToken::new();
    let broker = Arc::new(Broker::new(settings.clone()));
    let publisher = Publisher::start(broker.clone(), connections.clone());
    let conductor = Arc::new(Conductor::new(settings.clone(), publisher.clone(), key.clone())?);
    let dispatcher = Arc::new(Dispatcher {
        settings: settings.clone(),
        manager: manager.clone(),
        status: status.clone(),
        conductor: conductor.clone(),
        prepare: PrepareEnv { volume: settings.volume.clone(), commands, packages },
    });
    let heartbeat = Heartbeat {
        interval: settings.report_interval,
        conductor,
        status: status.clone(),
        release: release.clone(),
        manager: manager.clone(),
    };
    let heartbeat = tokio::spawn(heartbeat.run(connections.clone()));
    tokio::spawn(begin(manager.clone(), status, operations.clone()));

    let server = RpcServer::new(broker, publisher, dispatcher, key, release, journal, finished, operations.clone());
    server.recover(found);
    let serving = tokio::spawn(server.run(stop.clone(), || notify(&[sd_notify::NotifyState::Ready])));

    stop.cancelled().await;
    notify(&[sd_notify::NotifyState::Stopping]);
    end(serving, &operations).await;
    manager.service().agent_stops(&Op::internal(CancellationToken::new())).await;
    connections.cancel();
    heartbeat.await.ok();
    tracing::info!("stopped");
    Ok(())
}

/// A prepared database that should run and that nobody else starts (`service_control = process`) is started, beside the server:
/// a slow database must not keep the agent from answering.
async fn begin(manager: Arc<dyn DatastoreManager>, status: Arc<StatusTracker>, operations: CancellationToken) {
    if matches!(status.phase(), Phase::Active | Phase::ClusterReady) {
        manager.service().agent_starts(&Op::internal(operations)).await;
    }
    status.report_now();
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

/// Tells systemd, when it is there.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "failed to notify systemd");
    }
}
