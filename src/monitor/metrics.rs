//! [`Metrics`]: what is counted while the agent works.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::model::BackupState;

/// Seconds: reads take milliseconds, a restart seconds, a backup hours.
const DURATIONS: [f64; 10] = [0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3600.0, 36_000.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Purpose {
    purpose: &'static str,
}

/// Counters of one agent. All clones of a counter are the same one.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<Request, Counter>,
    durations: Family<Method, Histogram, fn() -> Histogram>,
    heartbeats: Counter,
    backups: Family<State, Counter>,
    connections: Family<Purpose, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let backups = Family::<State, Counter>::default();
        for state in [BackupState::Completed, BackupState::Failed] {
            // A counter that begins with 1 has not increased for Prometheus.
            backups.get_or_create(&State { state: state.into() }).inc_by(0);
        }
        Metrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            heartbeats: Counter::default(),
            backups,
            connections: Family::default(),
        }
    }
}

impl Metrics {
    /// An operation has ended.
    pub fn request(&self, method: &'static str, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&Request { method, outcome }).inc();
        self.durations.get_or_create(&Method { method }).observe(took.as_secs_f64());
    }

    /// The broker has confirmed a heartbeat.
    pub fn heartbeat(&self) {
        self.heartbeats.inc();
    }

    /// A backup has ended, as the conductor was told.
    pub fn backup(&self, state: &'static str) {
        self.backups.get_or_create(&State { state }).inc();
    }

    /// A connection to the broker was made.
    pub fn connection(&self, purpose: &'static str) {
        self.connections.get_or_create(&Purpose { purpose }).inc();
    }

    /// Puts all of them where they are shown.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests that have ended, by method and outcome (ok, error)", self.requests.clone());
        registry.register("request_duration_seconds", "How long requests took", self.durations.clone());
        registry.register("heartbeats", "Heartbeats the broker has confirmed", self.heartbeats.clone());
        registry.register("backups", "Backups that have ended, by state (COMPLETED, FAILED)", self.backups.clone());
        registry.register(
            "broker_connections",
            "Connections made to the broker, by purpose: more than one is a reconnection",
            self.connections.clone(),
        );
    }
}
