//! The heartbeat: the truth about the database, every `report_interval` and whenever it changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::conductor::Conductor;
use crate::error::Result;
use crate::managers::DatastoreManager;
use crate::model::{Release, ServiceStatus};
use crate::monitor::Told;
use crate::op::Op;
use crate::release::ReleaseTracker;
use crate::status::{Phase, Report, StatusTracker};
use crate::watchdog::Pulse;

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
    /// Where it is noted.
    pub told: Arc<Told>,
    /// Whom to ask.
    pub manager: Arc<dyn DatastoreManager>,
}

impl Heartbeat {
    /// Runs until `cancel`.
    pub async fn run(self, mut pulse: Pulse, cancel: CancellationToken) {
        // The first heartbeat is asked for at boot; a tick at once would be a second one.
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + self.interval, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (manager, op) = (self.manager.clone(), Op::internal(cancel.clone()));
        let mut database = Database::new(Box::new(move || {
            let (manager, op) = (manager.clone(), op.clone());
            async move { manager.status().probe(&op).await }.boxed()
        }));
        let mut latch = Latch::default();
        loop {
            let prompted = tokio::select! {
                // Cancel-safe: a timer, a notification, which keeps its permit, and a watch.
                _ = ticks.tick() => false,
                () = self.status.asked() => true,
                () = pulse.asked() => continue,
                () = cancel.cancelled() => return pulse.end(),
            };
            // The broker and the database take their own time.
            if let Err(error) = pulse.during(self.beat(&mut database, &mut latch, prompted)).await {
                tracing::debug!(%error, "no heartbeat");
            }
        }
    }

    async fn beat(&self, database: &mut Database, latch: &mut Latch, prompted: bool) -> Result<()> {
        if self.status.report(prompted) == Report::Silence {
            return Ok(());
        }
        // While the broker is away there is nobody to tell, and what would be queued now would be stale then.
        self.conductor.publisher().connected().await?;
        // One heartbeat answers everything that was asked until now.
        let prompted = self.status.asked().now_or_never().is_some() || prompted;
        let version = self.status.version();
        let Some(status) = self.say(database, prompted).await else { return Ok(()) };
        // The database may have been stopped on purpose, or the phase have changed, while it was asked: whoever did that asks for another one.
        if self.status.version() != version {
            return Ok(());
        }
        let release = self.release.current();
        let word = status.wire(release);
        let latches = status == ServiceStatus::RestartRequired && release >= Release::Zed;
        let sent = latch.sent(latches.then_some(version), || self.conductor.next_sent());
        tracing::debug!(status = word, "heartbeat");
        tokio::select! {
            // Cancel-safe: a message that has not left is given up. One that has left is followed by the next over the same connection.
            biased;
            () = self.status.outdated(version) => Ok(()),
            sent = self.conductor.heartbeat(word, sent) => sent.map(|()| self.told.heartbeat(word)),
        }
    }

    async fn say(&self, database: &mut Database, prompted: bool) -> Option<ServiceStatus> {
        let only_if_down = match self.status.report(prompted) {
            Report::Silence => return None,
            Report::Phase(phase) => return Some(in_phase(&phase)),
            Report::Probe => false,
            Report::ProbeIfDown => true,
        };
        if prompted {
            database.forget();
        }
        let seen = database.status(self.interval / 2).await;
        let runs = matches!(seen, ServiceStatus::Running | ServiceStatus::RestartRequired);
        (!only_if_down || !runs).then_some(seen)
    }
}

/// Conductors since Wallaby keep RESTART_REQUIRED until the controller itself has sent `restart` (trove/conductor/manager.py: `heartbeat`). One that says it again
/// and that the conductor takes only after that would be kept for ever: so it is of the same time as the first, and dropped where that has arrived.
#[derive(Debug, Default)]
struct Latch(Option<(u64, f64)>);

impl Latch {
    /// What `sent` is: the one before, while RESTART_REQUIRED is said and nothing has been done to the instance (`version` of its status) since.
    fn sent(&mut self, version: Option<u64>, next: impl FnOnce() -> f64) -> f64 {
        match (version, self.0) {
            (Some(version), Some((of, sent))) if version == of => sent,
            _ => {
                let sent = next();
                self.0 = version.map(|version| (version, sent));
                sent
            }
        }
    }
}

type Asking = BoxFuture<'static, ServiceStatus>;

/// What is known of the database, and the question that it has not answered yet.
struct Database {
    ask: Box<dyn Fn() -> Asking + Send>,
    known: Option<ServiceStatus>,
    asking: Option<Asking>,
}

impl Database {
    fn new(ask: Box<dyn Fn() -> Asking + Send>) -> Self {
        Database { ask, known: None, asking: None }
    }

    /// Something has been done to the database: what was known, and what is being found out, may be of the time before.
    fn forget(&mut self) {
        self.known = None;
        self.asking = None;
    }

    /// The answer to a question; the last one, if none comes within `patience`: a guest that is slow is not late with its heartbeat as well. The question
    /// stays asked, so that a database which does not answer is not taken for a good one for longer than its probe allows.
    async fn status(&mut self, patience: Duration) -> ServiceStatus {
        let asking = self.asking.get_or_insert_with(&self.ask);
        let status = match self.known {
            // Cancel-safe: the question is kept, and waited for again.
            Some(known) => match tokio::time::timeout(patience, &mut *asking).await {
                Ok(status) => status,
                Err(_) => {
                    tracing::debug!(?known, "the database has not answered yet; telling what it said before");
                    return known;
                }
            },
            None => asking.await,
        };
        self.asking = None;
        self.known = Some(status);
        status
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::oneshot;

    use super::*;

    /// A database, and where its answers come from: one question after the other.
    fn database() -> (Database, Arc<Mutex<Vec<oneshot::Sender<ServiceStatus>>>>) {
        let questions = Arc::new(Mutex::new(Vec::new()));
        let asked = questions.clone();
        let ask = move || {
            let (answer, waiting) = oneshot::channel();
            asked.lock().unwrap().push(answer);
            async move { waiting.await.unwrap() }.boxed()
        };
        (Database::new(Box::new(ask)), questions)
    }

    #[test]
    fn restart_required_is_of_one_time_until_something_is_done() {
        let (mut latch, mut clock) = (Latch::default(), 0.0);
        let mut said = |version| {
            clock += 1.0;
            latch.sent(version, || clock)
        };
        assert_eq!([None, None, Some(7), Some(7), Some(7)].map(&mut said), [1.0, 2.0, 3.0, 3.0, 3.0]);
        assert_eq!([Some(9), Some(9), None, Some(9), None].map(&mut said), [6.0, 6.0, 8.0, 9.0, 10.0]);
    }

    #[tokio::test]
    async fn a_slow_answer_does_not_delay_the_heartbeat_and_is_not_lost() {
        let (mut database, questions) = database();
        database.known = Some(ServiceStatus::Running);
        for _ in 0..3 {
            assert_eq!(database.status(Duration::ZERO).await, ServiceStatus::Running);
        }
        assert_eq!(questions.lock().unwrap().len(), 1, "asked once");
        questions.lock().unwrap().remove(0).send(ServiceStatus::Blocked).unwrap();
        assert_eq!(database.status(Duration::ZERO).await, ServiceStatus::Blocked);
        assert_eq!(database.status(Duration::ZERO).await, ServiceStatus::Blocked);
        assert_eq!(questions.lock().unwrap().len(), 1, "and again, once it has answered");
    }

    #[tokio::test]
    async fn what_was_known_before_something_was_done_is_not_told_after_it() {
        let (mut database, questions) = database();
        database.known = Some(ServiceStatus::Running);
        assert_eq!(database.status(Duration::ZERO).await, ServiceStatus::Running);
        database.forget();
        let answered = async {
            tokio::task::yield_now().await;
            // The question of before has been given up.
            questions.lock().unwrap().remove(0).send(ServiceStatus::Running).unwrap_err();
            questions.lock().unwrap().remove(0).send(ServiceStatus::Shutdown).unwrap();
        };
        assert_eq!(tokio::join!(database.status(Duration::ZERO), answered).0, ServiceStatus::Shutdown);
    }
}
