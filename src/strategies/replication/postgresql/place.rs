//! [`Place`]: where a server is in its log; and [`History`]: which logs are the beginning of its own.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::postgresql::{Lsn, Row, Session, SqlText};

/// A source's control file may be older than its timeline, until its next checkpoint, and so may a replica's: the log itself is asked ([`TIMELINE`]).
const PLACE: &str = "SELECT (SELECT system_identifier FROM pg_control_system()), pg_is_in_recovery(), \
    CASE WHEN pg_is_in_recovery() THEN lpad(to_hex(greatest((SELECT timeline_id FROM pg_control_checkpoint()), \
    (SELECT min_recovery_end_timeline FROM pg_control_recovery()))), 8, '0') \
    ELSE substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8) END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE NULL END, \
    pg_size_bytes(current_setting('wal_segment_size'))";

/// Of a replica: the newest timeline that there is a file of this part of the log of.
const TIMELINE: &str = "SELECT max(substr(name, 1, 8)) FROM pg_ls_waldir() WHERE length(name) = 24 AND substr(name, 9) = ";

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Servers with the same one are copies of each other, from some time on.
    pub(super) system: String,
    /// Nobody can write to it.
    pub(super) is_standby: bool,
    /// Which branch of the log.
    pub(super) timeline: u32,
    /// What it has done.
    pub(super) at: Lsn,
    /// What it has received, of a replica that has received anything since its start.
    pub(super) received: Lsn,
    /// Size of a file of the log.
    pub(super) segment_size: u64,
}

impl Place {
    pub(super) async fn read(op: &Op, session: &Session<'_>) -> Result<Place> {
        let rows = session.rows(op, "ask the server where it is in its log", &SqlText::new(PLACE)).await?;
        let mut place = rows.first().and_then(Place::of).ok_or_else(|| Error::guest("the server does not say where it is in its log"))?;
        let file = place.at.file_name(0, place.segment_size).unwrap_or_default();
        if let (true, Some(file)) = (place.is_standby, file.get(8..)) {
            let sql = SqlText::new(TIMELINE).literal(file);
            let newest = session.texts(op, "ask the server for its timeline", &sql).await?;
            let newest = newest.first().and_then(|text| u32::from_str_radix(text, 16).ok());
            place.timeline = place.timeline.max(newest.unwrap_or_default());
        }
        Ok(place)
    }

    fn of(row: &Row) -> Option<Place> {
        let text = |at: usize| row.get(at)?.as_deref();
        let at: Lsn = text(3)?.parse().ok()?;
        let received = text(4).and_then(|text| text.parse().ok()).unwrap_or_default();
        Some(Place {
            system: text(0)?.to_owned(),
            is_standby: text(1)? == "t",
            timeline: u32::from_str_radix(text(2)?, 16).ok()?,
            at,
            received: at.max(received),
            segment_size: text(5)?.parse().ok()?,
        })
    }
}

/// How a server's timeline came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct History {
    timeline: u32,
    /// Where earlier timelines were left.
    left: BTreeMap<u32, Lsn>,
}

impl History {
    /// Of the server that this is a session with; anybody may ask who may read its files.
    pub(super) async fn read(op: &Op, session: &Session<'_>, timeline: u32) -> Result<History> {
        if timeline <= 1 {
            return Ok(History { timeline, left: BTreeMap::new() });
        }
        let file = format!("pg_wal/{timeline:08X}.history");
        let sql = SqlText::new("SELECT convert_from(pg_read_binary_file(").literal(&file).raw("), 'UTF8')");
        let text = session.texts(op, "read the history of the server's log", &sql).await?.pop().unwrap_or_default();
        Ok(History::parse(timeline, &text))
    }

    fn parse(timeline: u32, text: &str) -> History {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        History { timeline, left: text.lines().filter_map(line).collect() }
    }

    /// Where the branch that a server is on leaves this history; `None` when it is no branch of it. `end` is where this history ends.
    pub(super) fn leaves(&self, timeline: u32, end: Lsn) -> Option<Lsn> {
        if timeline == self.timeline { Some(end) } else { self.left.get(&timeline).copied() }
    }

    /// True when two servers on the same timeline have made it together.
    pub(super) fn agrees(&self, other: &History) -> bool {
        self.timeline != other.timeline || self.left == other.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_tells_branches_apart() {
        let history = History::parse(3, "1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tno recovery target specified\n");
        let lsn = |text: &str| text.parse::<Lsn>().unwrap();
        let end = lsn("0/7000000");
        assert_eq!(history.leaves(1, end), Some(lsn("0/3000148")));
        assert_eq!(history.leaves(2, end), Some(lsn("0/5000000")));
        assert_eq!(history.leaves(3, end), Some(end));
        assert_eq!(history.leaves(4, end), None);
        assert!(history.agrees(&history) && !history.agrees(&History::parse(3, "1\t0/1\tx\n2\t0/2\tx\n")));
        assert!(history.agrees(&History::parse(2, "")));
    }

    #[test]
    fn a_place_is_read_of_source_and_replica() {
        let row = |words: [Option<&str>; 6]| words.map(|word| word.map(str::to_owned)).to_vec();
        let source = Place::of(&row([Some("7"), Some("f"), Some("0000000A"), Some("0/10"), None, Some("16777216")])).unwrap();
        assert_eq!((source.is_standby, source.timeline, source.at, source.received), (false, 10, Lsn(16), Lsn(16)));
        let replica = Place::of(&row([Some("7"), Some("t"), Some("00000001"), Some("0/10"), Some("0/20"), Some("16777216")])).unwrap();
        assert_eq!((replica.is_standby, replica.at, replica.received), (true, Lsn(16), Lsn(32)));
        assert_eq!(Place::of(&row([Some("7"), Some("t"), Some("00000001"), None, None, Some("1")])), None);
    }
}
