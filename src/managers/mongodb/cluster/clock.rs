//! [`Clock`]: servers of one set must agree about the time, more or less.

use mongodb::bson::{Document, doc};

use super::super::admin::ADMIN;
use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::mongodb::Session;

/// How far a server lets the time of its set be away from its own (manual, "MongoDB Server Parameters").
const LIMIT: &str = "maxAcceptableLogicalClockDriftSecs";
/// Its default, a year, for a server that does not tell.
const DEFAULT_LIMIT: i64 = 31_536_000;
/// What is worth a warning: machines that ask a time server differ by far less.
const NOTABLE: i64 = 10;

/// What a server takes the time for, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// Its own clock.
    wall: i64,
    /// The highest time of its set that it has heard of (manual, "hello": `$clusterTime`).
    cluster: i64,
}

impl Clock {
    /// Asks a server.
    ///
    /// # Errors
    /// It does not answer, or does not tell.
    pub(super) async fn read(op: &Op, session: &Session) -> Result<Clock> {
        let hello = session.flavor(op).await?.hello();
        Clock::parse(&session.run(op, "ask the server for its time", ADMIN, doc! { hello: 1 }).await?)
    }

    fn parse(greeting: &Document) -> Result<Clock> {
        let wall = greeting.get_datetime("localTime").map_err(|_| Error::guest("the server does not tell its time"))?;
        let wall = wall.timestamp_millis().div_euclid(1000);
        let told = greeting.get_document("$clusterTime").and_then(|told| told.get_timestamp("clusterTime"));
        Ok(Clock { wall, cluster: told.map_or(wall, |told| i64::from(told.time)) })
    }

    /// How many seconds a server may be away from its set.
    pub(super) async fn limit(op: &Op, session: &Session) -> i64 {
        let told = session.run(op, "ask the server how far clocks may differ", ADMIN, doc! { "getParameter": 1, LIMIT: 1 }).await;
        let number = |told: Document| told.get(LIMIT).and_then(|limit| limit.as_i64().or(limit.as_i32().map(i64::from)));
        told.ok().and_then(number).unwrap_or(DEFAULT_LIMIT)
    }

    /// Whether a new member can follow this primary, and be followed when it is the primary itself. One that could not would be a member that is away, and take the set
    /// the majority that it needs.
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn admit(&self, member: Clock, host: &str, limit: i64) -> Result<()> {
        let (behind, ahead) = (self.wall.max(self.cluster).saturating_sub(member.wall), member.wall.saturating_sub(self.wall));
        let (seconds, word) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
        if seconds > limit {
            return Err(Error::guest(format!(
                "the clock of {host} is {seconds} s {word} the time of the replica set, and servers do not speak with each other over more than {limit} s ({LIMIT}): \
                 set the clocks of all members by a time server, and add it again"
            )));
        }
        if seconds >= NOTABLE {
            tracing::warn!(member = host, seconds, "the member's clock is {word} the time of the replica set: set it by a time server");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{DateTime, Timestamp};

    #[test]
    fn a_greeting_tells_the_time_of_the_server_and_of_its_set() {
        let mut greeting = doc! { "localTime": DateTime::from_millis(5_999) };
        assert_eq!(Clock::parse(&greeting).unwrap(), Clock { wall: 5, cluster: 5 });
        greeting.insert("$clusterTime", doc! { "clusterTime": Timestamp { time: 9, increment: 1 } });
        assert_eq!(Clock::parse(&greeting).unwrap(), Clock { wall: 5, cluster: 9 });
        assert!(Clock::parse(&doc! {}).is_err());
    }

    #[test]
    fn clocks_that_are_too_far_from_each_other_are_refused_with_both_words() {
        let primary = Clock { wall: 1000, cluster: 1100 };
        let of = |wall: i64| primary.admit(Clock { wall, cluster: wall }, "a:1", 300).map_err(|error| error.to_string());
        for admitted in [800, 1000, 1300] {
            of(admitted).unwrap();
        }
        assert!(of(799).unwrap_err().contains("a:1 is 301 s behind the time"));
        assert!(of(1301).unwrap_err().contains("a:1 is 301 s ahead of the time"));
    }
}
