//! [`Pace`]: how fast a backup may read what its tool writes. A dump at full speed takes more of the database than its clients can spare, whatever the
//! priority of the agent's own threads: the server's thread that reads the rows has the server's. So it reads on only when it is time to.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, Take};
use tokio::time::{Instant, Sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::config::BackupSettings;
use crate::error::{Error, Result};
use crate::op::Op;

/// Bytes read between two pauses: what a pipe holds. The smaller, the shorter the time in which the database works for the backup alone.
const PIECE: usize = 64 << 10;
/// A reader that was late may catch up with so much, and no more: a slow time is not followed by a burst.
const CREDIT: Duration = Duration::from_millis(10);
/// No pause is longer, however low the limit: a backup always gets on.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at whether the database is in use.
const LOOK: Duration = Duration::from_millis(500);
/// A server that takes longer to tell is in use.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells whether somebody besides the agent is using the database.
#[async_trait]
pub trait Usage: Send + Sync {
    /// Whether others than the agent and its tools have been at work in the database since about a second. An error counts as in use: a server that
    /// has no session left for the agent is.
    ///
    /// # Errors
    /// The database did not tell.
    async fn is_in_use(&mut self, op: &Op) -> Result<bool>;
}

/// A server's counter of something, looked at from time to time.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: Option<(Instant, u64)>,
}

impl Meter {
    /// How much it counts a second, since the last look; 0 the first time, and when the server has begun to count anew.
    pub(super) fn per_second(&mut self, now: Instant, count: u64) -> f64 {
        let Some((then, before)) = self.before.replace((now, count)) else { return 0.0 };
        let seconds = now.duration_since(then).max(Duration::from_millis(1)).as_secs_f64();
        count.saturating_sub(before) as f64 / seconds
    }
}

/// Limits of a backup, in bytes of content a second; none means full speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// `backup_rate_limit`: always.
    pub always: Option<NonZeroU64>,
    /// `backup_rate_limit_in_use`: while others are using the database.
    pub in_use: Option<NonZeroU64>,
}

impl RateLimits {
    /// What the configuration says.
    pub fn new(settings: &BackupSettings) -> Self {
        RateLimits { always: settings.rate_limit, in_use: settings.rate_limit_in_use }
    }

    fn now(self, in_use: bool) -> Option<NonZeroU64> {
        match (self.always, self.in_use.filter(|_| in_use)) {
            (Some(always), Some(now)) => Some(always.min(now)),
            (always, now) => always.or(now),
        }
    }
}

/// The limit that counts at the moment. All clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<AtomicU64>);

impl Pace {
    fn set(&self, limit: Option<NonZeroU64>) {
        self.0.store(limit.map_or(0, NonZeroU64::get), Ordering::Relaxed);
    }

    fn get(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.0.load(Ordering::Relaxed))
    }

    /// A pace that follows the use of the database until the handle is dropped. The first look is over when this returns.
    pub async fn following(op: &Op, limits: RateLimits, mut usage: Box<dyn Usage>) -> (Pace, AbortOnDropHandle<()>) {
        let (op, pace) = (op.clone(), Pace::default());
        let mut before = None;
        if limits.in_use.is_some() {
            before = Some(look(&op, &mut *usage, before).await);
        }
        pace.set(limits.now(before.unwrap_or_default()));
        let followed = pace.clone();
        let following = AbortOnDropHandle::new(crate::op::spawn(async move {
            while limits.in_use.is_some() {
                tokio::time::sleep(LOOK).await;
                let in_use = look(&op, &mut *usage, before).await;
                followed.set(limits.now(in_use));
                before = Some(in_use);
            }
        }));
        (pace, following)
    }

    /// `reader`, at this pace.
    pub fn slow(&self, reader: Pin<Box<dyn AsyncRead + Send>>) -> Pin<Box<dyn AsyncRead + Send>> {
        Box::pin(Paced { inner: reader.take(u64::MAX), pace: self.clone(), budget: Budget::default(), pause: None })
    }
}

async fn look(op: &Op, usage: &mut dyn Usage, before: Option<bool>) -> bool {
    let asked = tokio::time::timeout(PATIENCE, usage.is_in_use(op)).await;
    let late = |_| Err(Error::Timeout { action: "ask whether the database is in use".into(), after: PATIENCE, detail: String::new() });
    let in_use = asked.unwrap_or_else(late).unwrap_or_else(|error| {
        tracing::debug!("cannot tell whether the database is in use, so the backup takes it easy: {error}");
        true
    });
    if before != Some(in_use) {
        tracing::debug!(in_use, "the pace of the backup changes");
    }
    in_use
}

/// When what was read so far is paid for.
#[derive(Debug, Default)]
struct Budget {
    paid: Option<Instant>,
}

impl Budget {
    /// So much was read at `now`: how long to wait before the next read.
    fn pause(&mut self, now: Instant, bytes: usize, limit: Option<NonZeroU64>) -> Duration {
        let Some(limit) = limit else {
            self.paid = None;
            return Duration::ZERO;
        };
        let earliest = now.checked_sub(CREDIT).unwrap_or(now);
        let cost = Duration::from_secs_f64(bytes as f64 / limit.get() as f64).min(LONGEST_PAUSE);
        let paid = self.paid.map_or(now, |paid| paid.max(earliest)) + cost;
        self.paid = Some(paid);
        paid.saturating_duration_since(now).min(LONGEST_PAUSE)
    }
}

/// A reader at a pace.
struct Paced {
    inner: Take<Pin<Box<dyn AsyncRead + Send>>>,
    pace: Pace,
    budget: Budget,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let limit = this.pace.get();
        this.inner.set_limit(if limit.is_some() { PIECE as u64 } else { u64::MAX });
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        let now = Instant::now();
        let pause = this.budget.pause(now, buffer.filled().len() - before, limit);
        if !pause.is_zero() {
            this.pause = Some(Box::pin(tokio::time::sleep_until(now + pause)));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;

    const MEGABYTE: u64 = 1_000_000;

    fn limit(bytes: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(bytes)
    }

    #[test]
    fn the_lower_limit_counts_and_one_of_them_only_while_in_use() {
        let limits = RateLimits { always: limit(5), in_use: limit(9) };
        assert_eq!((limits.now(false), limits.now(true)), (limit(5), limit(5)));
        let limits = RateLimits { always: limit(9), in_use: limit(5) };
        assert_eq!((limits.now(false), limits.now(true)), (limit(9), limit(5)));
        let limits = RateLimits { always: None, in_use: limit(5) };
        assert_eq!((limits.now(false), limits.now(true)), (None, limit(5)));
        assert_eq!(RateLimits::default().now(true), None);
    }

    #[test]
    fn each_piece_is_paid_for_and_slow_times_are_not_made_up() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let limit = limit(MEGABYTE);
        let milliseconds = Duration::from_millis;
        assert_eq!(budget.pause(at(0), 50_000, limit), milliseconds(50));
        // Woken 4 ms late: that much is given back.
        assert_eq!(budget.pause(at(54), 50_000, limit), milliseconds(46));
        // The tool took a second over it: there is no burst afterwards, but for the credit.
        assert_eq!(budget.pause(at(1100), 50_000, limit), milliseconds(40));
        assert_eq!(budget.pause(at(1140), 50_000, limit), milliseconds(50));
        // At full speed nothing is owed, and nothing is afterwards.
        assert_eq!(budget.pause(at(1141), 50_000_000, None), Duration::ZERO);
        assert_eq!(budget.pause(at(1142), 50_000, limit), milliseconds(50));
    }

    #[test]
    fn a_backup_always_gets_on() {
        let (mut budget, start) = (Budget::default(), Instant::now());
        for second in 0..10 {
            assert_eq!(budget.pause(start + Duration::from_secs(second), PIECE, limit(1)), LONGEST_PAUSE, "second {second}");
        }
    }

    #[test]
    fn a_counter_is_read_by_the_second() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let mut at = |milliseconds, count| meter.per_second(start + Duration::from_millis(milliseconds), count);
        let seen = [at(0, 1_000_000), at(500, 1_000_004), at(1000, 1_000_014), at(1500, 3), at(2500, 4)];
        assert_eq!(seen, [0.0, 8.0, 20.0, 0.0, 1.0]);
    }

    /// Says in turn what it was given, and the last for ever.
    struct Said(Vec<Result<bool>>);

    #[async_trait]
    impl Usage for Said {
        async fn is_in_use(&mut self, _: &Op) -> Result<bool> {
            if self.0.len() > 1 { self.0.remove(0) } else { self.0[0].as_ref().map(|said| *said).map_err(|_| Error::guest("again")) }
        }
    }

    async fn pace(limits: RateLimits, said: Vec<Result<bool>>) -> (Pace, AbortOnDropHandle<()>) {
        Pace::following(&Op::internal(CancellationToken::new()), limits, Box::new(Said(said))).await
    }

    #[tokio::test]
    async fn the_pace_follows_the_use_of_the_database() {
        let limits = RateLimits { always: None, in_use: limit(MEGABYTE) };
        for (said, expected) in [(Ok(true), limit(MEGABYTE)), (Ok(false), None), (Err(Error::guest("too many")), limit(MEGABYTE))] {
            let (pace, _following) = pace(limits, vec![said]).await;
            assert_eq!(pace.get(), expected);
        }
        let (pace, _following) = pace(limits, vec![Ok(true), Ok(false)]).await;
        assert_eq!(pace.get(), limit(MEGABYTE));
        let faster = async {
            while pace.get().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), faster).await.expect("the clients have gone");
    }

    #[tokio::test]
    async fn a_reader_keeps_its_pace_and_loses_nothing() {
        let always = RateLimits { always: limit(10 * MEGABYTE), in_use: None };
        let (pace, _following) = pace(always, vec![Ok(false)]).await;
        let mut reader = pace.slow(Box::pin(tokio::io::repeat(7).take(2 * MEGABYTE)));
        let (started, mut read) = (Instant::now(), 0);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match reader.read(&mut buffer).await.unwrap() {
                0 => break,
                length => read += length as u64,
            }
        }
        assert_eq!(read, 2 * MEGABYTE);
        // However busy the machine is, it is never faster than this.
        assert!(started.elapsed() > Duration::from_millis(150), "{:?}", started.elapsed());
    }
}
