//! The watchdog: the service manager is told that the agent is alive after each of its main loops has said so itself.
//!
//! A timer would go on in an agent that does nothing else any more. So every loop is asked, and answers from where it waits for its next piece of work; one that
//! has ended, or is stuck, does not answer, and the service manager ends the agent and starts it again (`WatchdogSec=` of the unit). Operations are not asked: a
//! backup may take hours, and one that waits for a disk that has gone would not even be ended by a kill.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

/// What a loop has said: the number of the last question it has answered, or nothing more to come.
const ENDED: u64 = u64::MAX;

#[derive(Debug)]
struct Answers {
    /// Name of each loop, and its last answer.
    loops: Mutex<Vec<(&'static str, u64)>>,
    changed: Notify,
}

impl Answers {
    fn give(&self, index: usize, answer: u64) {
        // A plain store: nothing is half done after a panic.
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)[index].1 = answer;
        self.changed.notify_one();
    }

    /// A loop that has not answered this question.
    fn missing(&self, question: u64) -> Option<&'static str> {
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.iter().find(|(_, answer)| *answer < question).map(|(name, _)| *name)
    }
}

/// The side that asks.
#[derive(Debug)]
pub struct Watchdog {
    question: watch::Sender<u64>,
    answers: Arc<Answers>,
}

impl Default for Watchdog {
    fn default() -> Self {
        let answers = Answers { loops: Mutex::default(), changed: Notify::new() };
        Watchdog { question: watch::Sender::new(0), answers: Arc::new(answers) }
    }
}

/// A loop's side. Dropped without [`Pulse::end`], as by a panic, it is a loop that does not answer.
#[derive(Debug)]
pub struct Pulse {
    question: watch::Receiver<u64>,
    answers: Arc<Answers>,
    index: usize,
    answered: u64,
}

impl Watchdog {
    /// For one more loop.
    pub fn pulse(&self, name: &'static str) -> Pulse {
        let mut loops = self.answers.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.push((name, 0));
        Pulse { question: self.question.subscribe(), answers: self.answers.clone(), index: loops.len() - 1, answered: 0 }
    }

    /// Asks three times in `patience`, and calls `alive` whenever all have answered. For ever.
    pub async fn run(self, patience: Duration, alive: impl Fn()) {
        let mut ticks = tokio::time::interval(patience / 3);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.question.send_modify(|question| *question += 1);
            let question = *self.question.borrow();
            // Said while somebody can still read it.
            if tokio::time::timeout(patience / 2, self.answered(question)).await.is_err() {
                let missing = self.answers.missing(question).unwrap_or_default();
                tracing::error!(missing, "a main loop of the agent does not answer; the service manager will restart the agent");
                self.answered(question).await;
            }
            alive();
        }
    }

    async fn answered(&self, question: u64) {
        while self.answers.missing(question).is_some() {
            self.answers.changed.notified().await;
        }
    }
}

impl Pulse {
    /// Answers when asked; to be waited for beside the loop's next piece of work. Cancel-safe. Where nobody watches it never returns.
    pub async fn asked(&mut self) {
        if self.question.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.answer();
    }

    /// Answers what was asked while the loop was at work.
    pub fn answer(&mut self) {
        let question = *self.question.borrow_and_update();
        if question != self.answered {
            self.answered = question;
            self.answers.give(self.index, question);
        }
    }

    /// Answers while the loop waits for something that has a deadline of its own, or for somebody else.
    pub async fn during<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                // Cancel-safe: the future stays where it is; a watch.
                output = &mut wait => return output,
                () = self.asked() => {}
            }
        }
    }

    /// The loop has come to its end in good order.
    pub fn end(self) {
        self.answers.give(self.index, ENDED);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(30);
    const DEADLINE: Duration = Duration::from_secs(30);

    fn told(watchdog: Watchdog) -> mpsc::UnboundedReceiver<()> {
        let (tell, told) = mpsc::unbounded_channel();
        let alive = move || {
            tell.send(()).ok();
        };
        tokio::spawn(watchdog.run(PATIENCE, alive));
        told
    }

    fn lively(mut pulse: Pulse) {
        tokio::spawn(async move {
            loop {
                pulse.asked().await;
            }
        });
    }

    #[tokio::test]
    async fn the_service_manager_is_told_again_and_again_while_every_loop_answers() {
        let watchdog = Watchdog::default();
        let mut waiting = watchdog.pulse("waiting");
        lively(watchdog.pulse("idle"));
        watchdog.pulse("ended").end();
        tokio::spawn(async move { waiting.during(std::future::pending::<()>()).await });
        let mut told = told(watchdog);
        for _ in 0..4 {
            assert_eq!(tokio::time::timeout(DEADLINE, told.recv()).await, Ok(Some(())));
        }
    }

    #[tokio::test]
    async fn one_loop_that_is_stuck_or_gone_is_enough_to_say_nothing() {
        for gone in [false, true] {
            let watchdog = Watchdog::default();
            let stuck = watchdog.pulse("stuck");
            lively(watchdog.pulse("idle"));
            let _held = (!gone).then_some(stuck);
            let mut told = told(watchdog);
            assert!(tokio::time::timeout(PATIENCE * 10, told.recv()).await.is_err(), "told, gone: {gone}");
        }
    }
}
