//! Lanes: reads run side by side, changes run one at a time in the order they came; a backup, or a log that is published, blocks neither.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use super::method::Lane;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The agent's queues of work.
#[derive(Debug)]
pub(super) struct Lanes {
    tracker: TaskTracker,
    permits: Arc<Semaphore>,
    write: mpsc::UnboundedSender<Job>,
    backup: mpsc::UnboundedSender<Job>,
    logs: mpsc::UnboundedSender<Job>,
}

impl Lanes {
    /// `permits` reads may run at a time (oslo's `executor_thread_pool_size`), where they are submitted; everything else runs on `threads`.
    pub(super) fn new(permits: usize, threads: &Handle) -> Self {
        let tracker = TaskTracker::new();
        let lane = || worker(&tracker, threads);
        Lanes { write: lane(), backup: lane(), logs: lane(), permits: Arc::new(Semaphore::new(permits)), tracker }
    }

    /// Hands over a job. Jobs of one changing lane run in the order of these calls.
    pub(super) fn submit(&self, lane: Lane, job: impl Future<Output = ()> + Send + 'static) {
        let sent = match lane {
            Lane::Read => {
                let permits = self.permits.clone();
                self.tracker.spawn(async move {
                    let _permit = permits.acquire().await.expect("the semaphore is never closed");
                    job.await;
                });
                return;
            }
            Lane::Write => self.write.send(Box::pin(job)),
            Lane::Backup => self.backup.send(Box::pin(job)),
            Lane::Logs => self.logs.send(Box::pin(job)),
        };
        assert!(sent.is_ok(), "a lane's worker ends only with its sender");
    }

    /// Takes no more work and waits for what is under way.
    pub(super) async fn drain(self) {
        let Lanes { tracker, write, backup, logs, .. } = self;
        drop((write, backup, logs));
        tracker.close();
        tracker.wait().await;
    }
}

fn worker(tracker: &TaskTracker, threads: &Handle) -> mpsc::UnboundedSender<Job> {
    let (sender, mut jobs) = mpsc::unbounded_channel::<Job>();
    let work = async move {
        while let Some(job) = jobs.recv().await {
            // A job of its own task: a panic in it ends it, not the lane. The server answers the caller for it.
            if let Err(error) = tokio::spawn(job).await {
                tracing::error!(%error, "an operation panicked");
            }
        }
    };
    tracker.spawn_on(work, threads);
    sender
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test]
    async fn changes_keep_their_order_and_do_not_wait_for_a_backup() {
        let lanes = Lanes::new(4, &Handle::current());
        let order = Arc::new(Mutex::new(Vec::new()));
        let (release, gate) = tokio::sync::oneshot::channel::<()>();
        lanes.submit(Lane::Backup, async move {
            gate.await.ok();
        });
        for index in 0..50 {
            let order = order.clone();
            lanes.submit(Lane::Write, async move {
                tokio::task::yield_now().await;
                order.lock().unwrap().push(index);
            });
        }
        let (done, finished) = tokio::sync::oneshot::channel();
        lanes.submit(Lane::Write, async move {
            done.send(()).ok();
        });
        finished.await.unwrap();
        release.send(()).unwrap();
        lanes.drain().await;
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_panic_does_not_end_the_lane() {
        let lanes = Lanes::new(1, &Handle::current());
        lanes.submit(Lane::Write, async { panic!("on purpose") });
        let (done, finished) = tokio::sync::oneshot::channel();
        lanes.submit(Lane::Write, async move {
            done.send(()).ok();
        });
        finished.await.unwrap();
        lanes.drain().await;
    }
}
