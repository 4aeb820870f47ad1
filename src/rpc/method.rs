//! What is fixed about each RPC method: where it runs, who serves it, who hears of its end, what becomes of it when the agent ends.

use crate::managers::Facet;

/// Where a request runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Changes nothing: runs at once, beside everything else.
    Read,
    /// Changes the instance: one at a time, in the order of arrival; journalled before it is acknowledged.
    Write,
    /// A backup: one at a time, beside the changes; journalled likewise.
    Backup,
    /// Publishes a log, which may take as long: one at a time, beside changes and backups; journalled likewise.
    Logs,
}

/// What to do with a request that the agent's end cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Run it again, whatever its caller thinks of it by now.
    Repeat,
    /// Run it again if it is a cast, or a call whose caller still waits.
    RepeatInTime,
    /// Tell that it was cut short.
    Report,
    /// Remove what it left, then tell that it was cut short.
    Undo,
}

/// The properties of one method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Where it runs.
    pub lane: Lane,
    /// The part of the datastore that serves it.
    pub facet: Facet,
    /// True when the Python agent tells the conductor of its end (`EndNotification`, trove/common/notification.py).
    pub notifies_its_end: bool,
    /// What to do with it when the agent ended in the middle.
    pub after_interruption: Resume,
}

impl Method {
    /// Changes nothing.
    pub(super) const fn read(facet: Facet) -> Self {
        Method { lane: Lane::Read, facet, notifies_its_end: false, after_interruption: Resume::Report }
    }

    /// Changes the instance.
    pub(super) const fn change(facet: Facet) -> Self {
        Method { lane: Lane::Write, ..Method::read(facet) }
    }

    /// Makes a backup. One that was cut short is removed.
    pub(super) const fn backup(facet: Facet) -> Self {
        Method { lane: Lane::Backup, after_interruption: Resume::Undo, ..Method::read(facet) }
    }

    /// Switches and publishes a log.
    pub(super) const fn logs(facet: Facet) -> Self {
        Method { lane: Lane::Logs, ..Method::read(facet) }
    }

    /// The conductor hears of its end.
    pub(super) const fn notified(self) -> Self {
        Method { notifies_its_end: true, ..self }
    }

    /// Run again, once or more, it comes to the same: so it is, by an agent that finds it half done.
    pub(super) const fn resumed(self, after_interruption: Resume) -> Self {
        Method { after_interruption, ..self }
    }

    /// True for changes inside a running database, which right after the guest's boot may not be up yet.
    pub fn works_in_the_database(&self) -> bool {
        matches!(self.lane, Lane::Write | Lane::Logs) && self.facet != Facet::Core
    }
}
