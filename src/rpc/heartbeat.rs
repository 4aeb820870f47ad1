//! The heartbeat: the truth about the database, every `report_interval` and whenever it changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::conductor::Conductor;
use crate::error::Result;
use crate::managers::DatastoreManager;
use crate::model::ServiceStatus;
use crate::op::Op;
use crate::release::ReleaseTracker;
use crate::status::{Phase, Report, StatusTracker};

/// The task that sends heartbeats; their only sender.
#[derive(Debug)]
pub struct Heartbeat {
    /// `report_interval`.
    pub interval: Duration,
    /// Casts.
    pub conductor: Arc<Conductor>,
    /// What there is to say.
    pub status: Arc<StatusTracker>,
    /// The words of the controller's era.
    pub release: Arc<ReleaseTracker>,
    /// Whom to ask.
    pub manager: Arc<dyn DatastoreManager>,
}

impl Heartbeat {
    /// Runs until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        // The first heartbeat is asked for at boot; a tick at once would be a second one.
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let op = Op::internal(cancel.clone());
        loop {
            let prompted = tokio::select! {
                // Cancel-safe: a timer and a notification, which keeps its permit.
                _ = ticks.tick() => false,
                () = self.status.asked() => true,
                () = cancel.cancelled() => return,
            };
            if let Err(error) = self.beat(&op, prompted).await {
                tracing::debug!(%error, "no heartbeat");
            }
        }
    }

    async fn beat(&self, op: &Op, prompted: bool) -> Result<()> {
        if self.status.report(prompted) == Report::Silence {
            return Ok(());
        }
        // While the broker is away there is nobody to tell, and what would be queued now would be stale then.
        self.conductor.publisher().connected().await?;
        // One heartbeat answers everything that was asked until now.
        let prompted = self.status.asked().now_or_never().is_some() || prompted;
        let version = self.status.version();
        let Some(status) = self.say(op, prompted).await else { return Ok(()) };
        // The database may have been stopped on purpose, or the phase have changed, while it was asked: whoever did that asks for another one.
        if self.status.version() != version {
            return Ok(());
        }
        let word = status.wire(self.release.current());
        tracing::debug!(status = word, "heartbeat");
        tokio::select! {
            // Cancel-safe: a message that has not left is given up. One that has left is followed by the next over the same connection.
            sent = self.conductor.heartbeat(word) => sent,
            () = self.status.outdated(version) => Ok(()),
        }
    }

    async fn say(&self, op: &Op, prompted: bool) -> Option<ServiceStatus> {
        let only_if_down = match self.status.report(prompted) {
            Report::Silence => return None,
            Report::Phase(phase) => return Some(in_phase(&phase)),
            Report::Probe => false,
            Report::ProbeIfDown => true,
        };
        let seen = self.manager.status().probe(op).await;
        let runs = matches!(seen, ServiceStatus::Running | ServiceStatus::RestartRequired);
        (!only_if_down || !runs).then_some(seen)
    }
}

fn in_phase(phase: &Phase) -> ServiceStatus {
    match phase {
        Phase::New => ServiceStatus::New,
        Phase::Preparing { .. } => ServiceStatus::Building,
        Phase::Failed { .. } => ServiceStatus::Failed,
        Phase::ClusterReady => ServiceStatus::InstanceReady,
        Phase::Upgrading | Phase::Active => ServiceStatus::Running,
    }
}
