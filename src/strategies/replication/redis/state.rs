//! [`State`]: what a server says of its replication (`INFO replication`).

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::op::Op;
use crate::system::redis::Session;

/// A server's part, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// Whom it follows.
    pub(super) source: Option<String>,
    /// The connection to it is up, and all data are there.
    pub(super) following: bool,
    /// How far the data are.
    pub(super) offset: u64,
    /// How far what it has received is; servers before 7 do not tell it apart.
    pub(super) received: u64,
    /// Changes while it gets the data.
    pub(super) progress: String,
    /// How many follow it.
    pub(super) replicas: u64,
}

impl State {
    pub(super) async fn read(op: &Op, session: &mut Session) -> Result<State> {
        let fields = session.info(op, "replication").await?;
        State::of(&fields).ok_or_else(|| Error::guest("the server does not say how its replication is"))
    }

    fn of(fields: &BTreeMap<String, String>) -> Option<State> {
        let text = |name: &str| fields.get(name).map(String::as_str);
        let number = |name: &str| text(name)?.parse::<i64>().ok();
        // A replica that has never reached its source says -1 or 0.
        let offset = |name: &str| number(name).map(|number| u64::try_from(number).unwrap_or_default());
        if text("role")? == "master" {
            let offset = offset("master_repl_offset")?;
            let replicas = number("connected_slaves").and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
            return Some(State { source: None, following: false, offset, received: offset, progress: String::new(), replicas });
        }
        let up = text("master_link_status") == Some("up") && text("master_sync_in_progress") != Some("1");
        let done = offset("slave_repl_offset")?;
        let progress = ["master_sync_read_bytes", "master_sync_left_bytes", "slave_repl_offset"].map(|name| text(name).unwrap_or_default());
        Some(State {
            source: Some(text("master_host")?.to_owned()),
            following: up,
            offset: done,
            received: offset("slave_read_repl_offset").unwrap_or(done),
            progress: progress.join(" "),
            replicas: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<State> {
        State::of(&text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn both_parts_are_read() {
        let source = of("role:master\nconnected_slaves:1\nmaster_repl_offset:42\n").unwrap();
        assert_eq!((source.source, source.offset, source.received, source.replicas), (None, 42, 42, 1));
        let text = "role:slave\nmaster_host:198.51.100.7\nmaster_link_status:up\nmaster_sync_in_progress:0\nslave_read_repl_offset:50\nslave_repl_offset:49\n";
        let replica = of(text).unwrap();
        assert_eq!((replica.source.as_deref(), replica.following, replica.offset, replica.received), (Some("198.51.100.7"), true, 49, 50));
        assert!(!of(&text.replace("status:up", "status:down")).unwrap().following);
        assert_eq!(of(&text.replace("slave_repl_offset:49", "slave_repl_offset:-1")).unwrap().offset, 0);
        assert_eq!(of("loading:1\n"), None);
    }
}
