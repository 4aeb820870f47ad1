//! [`GtidPosition`]: how far a MariaDB server has come, as `gtid_slave_pos` and its like have it.

use std::fmt;

use crate::error::{Error, Result};

/// `domain-server-sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gtid {
    pub(super) domain: u32,
    pub(super) server: u32,
    pub(super) sequence: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

/// The last transactions of each domain; of `gtid_binlog_state`, of each server in each domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GtidPosition(Vec<Gtid>);

impl GtidPosition {
    /// Reads `0-1-100,1-7-5`.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn parse(text: &str) -> Result<GtidPosition> {
        let bad = || Error::invalid(format!("'{}' is not a GTID position of MariaDB", text.escape_debug()));
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let gtid = |part: &str| {
            let mut fields = part.split('-');
            let (domain, server, sequence) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            fields.next().is_none().then_some(Gtid { domain, server, sequence })
        };
        let mut all = parts.map(|part| gtid(part).ok_or_else(bad)).collect::<Result<Vec<_>>>()?;
        all.sort_unstable();
        Ok(GtidPosition(all))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last one of a domain.
    fn of(&self, domain: u32) -> Option<Gtid> {
        self.0.iter().filter(|gtid| gtid.domain == domain).max_by_key(|gtid| gtid.sequence).copied()
    }

    /// The greatest sequence number, whatever its domain: Trove's instances have one domain.
    pub(super) fn last(&self) -> u64 {
        self.0.iter().map(|gtid| gtid.sequence).max().unwrap_or_default()
    }

    /// What a server wrote last.
    #[must_use]
    pub(super) fn by(&self, server: u32) -> GtidPosition {
        GtidPosition(self.0.iter().filter(|gtid| gtid.server == server).copied().collect())
    }

    /// What of this has not been reached at `other`. Numbers of a domain ascend whoever writes them.
    #[must_use]
    pub(super) fn beyond(&self, other: &GtidPosition) -> GtidPosition {
        let reached = |gtid: &&Gtid| other.of(gtid.domain).is_some_and(|there| there.sequence >= gtid.sequence);
        GtidPosition(self.0.iter().filter(|gtid| !reached(gtid)).copied().collect())
    }

    /// What of this the other cannot have in its history: beyond it, or another transaction of the same number.
    #[must_use]
    pub(super) fn unknown_to(&self, other: &GtidPosition) -> GtidPosition {
        let same = |gtid: &Gtid| other.of(gtid.domain).is_some_and(|there| there.sequence == gtid.sequence && there.server != gtid.server);
        let GtidPosition(mut unknown) = self.beyond(other);
        unknown.extend(self.0.iter().filter(|gtid| same(gtid)));
        GtidPosition(unknown)
    }

    /// What of this is not in a log whose `gtid_binlog_state` is `state`: the log has transactions of the same server, and the last of them is an earlier one.
    /// Its numbers may be greater all the same: those of a server that went on.
    #[must_use]
    pub(super) fn missing_in(&self, state: &GtidPosition) -> GtidPosition {
        let is_missing = |gtid: &&Gtid| {
            let same_writer = |there: &&Gtid| (there.domain, there.server) == (gtid.domain, gtid.server);
            state.0.iter().find(same_writer).is_some_and(|there| there.sequence < gtid.sequence)
        };
        GtidPosition(self.0.iter().filter(is_missing).copied().collect())
    }
}

impl fmt::Display for GtidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, gtid)| write!(f, "{}{gtid}", if index == 0 { "" } else { "," }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> GtidPosition {
        GtidPosition::parse(text).unwrap()
    }

    #[test]
    fn positions_are_read_and_compared_by_domain() {
        assert_eq!(at("1-7-5, 0-1-100\n").to_string(), "0-1-100,1-7-5");
        assert!(at("").is_empty());
        for bad in ["0-1", "0-1-2-3", "x-1-2", "0-1-'", "4294967296-1-1"] {
            assert!(GtidPosition::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(at("0-1-100,1-7-5").beyond(&at("0-2-100,1-7-4")).to_string(), "1-7-5");
        assert!(at("0-1-100").beyond(&at("0-2-150")).is_empty());
        assert_eq!(at("0-1-100,2-1-1").beyond(&at("0-2-150")).to_string(), "2-1-1");
        assert_eq!(at("0-1-100").unknown_to(&at("0-2-100")).to_string(), "0-1-100");
        assert!(at("0-1-100").unknown_to(&at("0-1-100")).is_empty());
        // The one whose log it is went on where server 2 was at 100.
        assert_eq!(at("0-2-103").missing_in(&at("0-1-160,0-2-100")).to_string(), "0-2-103");
        assert!(at("0-2-100,1-2-9").missing_in(&at("0-1-160,0-2-100")).is_empty());
        assert_eq!((at("0-1-100,0-2-120").by(1).to_string(), at("0-1-100,0-2-120").last()), ("0-1-100".into(), 120));
    }
}
