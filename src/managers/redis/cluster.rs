//! Membership in a Redis Cluster (trove/common/strategies/cluster/experimental/redis): what the task manager asks each member for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::roles::Roles;
use crate::error::{Error, Result};
use crate::managers::RedisCluster;
use crate::model::MemberRole;
use crate::op::Op;
use crate::strategies::replication::redis::Host;
use crate::system::redis::{Client, Request, Session};

/// Slots of every cluster.
const SLOTS: u16 = 16384;
/// How many are named in one command.
const AT_ONCE: usize = 512;
/// How long a member may take to know another one.
const MEETING: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) client: Client,
    pub(super) roles: Arc<Roles>,
}

/// A line of `CLUSTER NODES`.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    id: String,
    /// Empty while the node itself does not know it.
    host: String,
    port: String,
    flags: Vec<String>,
    slots: BTreeSet<u16>,
}

impl Node {
    /// `<id> <ip>:<port>@<bus port>[,<host name>] <flags> <source> <ping> <pong> <epoch> <link> <slots>...` (redis.io, "CLUSTER NODES").
    fn parse(line: &str) -> Option<Node> {
        let mut words = line.split(' ');
        let (id, address, flags) = (words.next()?, words.next()?, words.next()?);
        let address = address.split(['@', ',']).next()?;
        let (host, port) = address.rsplit_once(':')?;
        let mut slots = BTreeSet::new();
        // One that is being moved is in brackets: it still is where it was.
        for range in words.skip(5).filter(|word| !word.starts_with('[')) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            slots.extend(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?);
        }
        let flags = flags.split(',').map(str::to_owned).collect();
        Some(Node { id: id.to_owned(), host: host.to_owned(), port: port.to_owned(), flags, slots })
    }

    fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }
}

/// A range of slots as a controller sends it: Train's divides without rounding, and its last range ends beyond the last slot.
fn range(first: f64, last: f64) -> Result<Vec<u16>> {
    let (first, last) = (first.floor(), last.floor().min(f64::from(SLOTS - 1)));
    let valid = first >= 0.0 && first <= last;
    let slot = |number: f64| (0..SLOTS).find(|slot| f64::from(*slot) >= number).unwrap_or(SLOTS - 1);
    match valid {
        true => Ok((slot(first)..=slot(last)).collect()),
        false => Err(Error::bad_request(format!("there are no slots from {first} to {last}"))),
    }
}

impl Member {
    async fn nodes(&self, op: &Op, session: &mut Session) -> Result<Vec<Node>> {
        let text: String = session.run(op, "list the members of the cluster", &Request::new("CLUSTER").arg("NODES")).await?;
        let nodes: Option<Vec<Node>> = text.lines().filter(|line| !line.is_empty()).map(Node::parse).collect();
        nodes.ok_or_else(|| Error::guest("the server's list of the cluster's members is none that it gives"))
    }

    /// Its part in the cluster; `None` when it is in none.
    ///
    /// # Errors
    /// The server does not say.
    pub(super) async fn role(&self, op: &Op) -> Result<Option<MemberRole>> {
        let mut session = self.client.session(op).await?;
        if session.info(op, "cluster").await?.get("cluster_enabled").map(String::as_str) != Some("1") {
            return Ok(None);
        }
        let text: String = session.run(op, "ask how the cluster is", &Request::new("CLUSTER").arg("INFO")).await?;
        let facts: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let state = facts.get("cluster_state").copied().unwrap_or("of unknown state").to_owned();
        let members = facts.get("cluster_known_nodes").and_then(|number| number.parse().ok()).unwrap_or_default();
        Ok(Some(MemberRole::ClusterMember { state, members }))
    }

    async fn myself(&self, op: &Op, session: &mut Session) -> Result<Node> {
        let nodes = self.nodes(op, session).await?;
        nodes.into_iter().find(|node| node.is("myself")).ok_or_else(|| Error::guest("the server is not in its own list of members"))
    }
}

#[async_trait]
impl RedisCluster for Member {
    async fn node_address(&self, op: &Op) -> Result<(String, String)> {
        let mut session = self.client.session(op).await?;
        let node = self.myself(op, &mut session).await?;
        // Until it has met somebody it does not know its own address.
        let host = if node.host.is_empty() { self.roles.address()? } else { node.host };
        Ok((host, node.port))
    }

    async fn id_for_removal(&self, op: &Op) -> Result<Option<String>> {
        let mut session = self.client.session(op).await?;
        let node = self.myself(op, &mut session).await?;
        Ok((node.slots.is_empty() && node.is("master")).then_some(node.id))
    }

    async fn remove_nodes(&self, op: &Op, ids: &[String]) -> Result<()> {
        let mut session = self.client.session(op).await?;
        for id in ids {
            // One that is not known any more is what is wanted.
            let known = self.nodes(op, &mut session).await?.iter().any(|node| node.id == *id);
            if known {
                session.command(op, "remove a member from the cluster", &Request::new("CLUSTER").args(["FORGET", id])).await?;
            }
        }
        Ok(())
    }

    async fn meet(&self, op: &Op, host: &str, port: &str) -> Result<()> {
        let mut session = self.client.session(op).await?;
        session.command(op, "meet a member of the cluster", &Request::new("CLUSTER").args(["MEET", host, port])).await?;
        let patience = op.patience(MEETING);
        let deadline = Instant::now() + patience;
        let mut look = tokio::time::interval(LOOK);
        loop {
            let nodes = self.nodes(op, &mut session).await?;
            // A member that has been met by another address than its own is there under that.
            let met = |node: &Node| node.host == host && node.port == port && !node.is("handshake") && !node.is("myself");
            if nodes.iter().any(met) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let detail = "it does not answer: are its port and the one 10000 above it open?".to_owned();
                return Err(Error::Timeout { action: format!("wait for the cluster's member {host}:{port}"), after: patience, detail });
            }
            op.until_cancelled("meet a member of the cluster", look.tick()).await?;
        }
    }

    async fn add_slots(&self, op: &Op, first: f64, last: f64) -> Result<()> {
        let wanted = range(first, last)?;
        let mut session = self.client.session(op).await?;
        // What an earlier call that was cut short has added is found done.
        let mine = self.myself(op, &mut session).await?.slots;
        let missing: Vec<String> = wanted.iter().filter(|slot| !mine.contains(slot)).map(u16::to_string).collect();
        for some in missing.chunks(AT_ONCE) {
            let request = Request::new("CLUSTER").arg("ADDSLOTS").args(some.iter().cloned());
            session.command(op, "take slots of the cluster", &request).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_every_release_are_read() {
        let old = "07c3 127.0.0.1:30004 slave e7d1 0 1426238317239 4 connected";
        let new = "e7d1 [::1]:30001@31001,host.example myself,master - 0 0 1 connected 0-2 9 [5->-67ed]";
        let alone = "e7d1 :6379@16379 myself,master - 0 0 0 connected";
        let (old, new, alone) = (Node::parse(old).unwrap(), Node::parse(new).unwrap(), Node::parse(alone).unwrap());
        assert_eq!((old.host.as_str(), old.port.as_str(), old.is("slave")), ("127.0.0.1", "30004", true));
        assert_eq!((new.host.as_str(), new.slots), ("[::1]", BTreeSet::from([0, 1, 2, 9])));
        assert_eq!((alone.host.as_str(), alone.port.as_str()), ("", "6379"));
        assert_eq!(Node::parse("nonsense"), None);
    }

    /// trove/common/strategies/cluster/experimental/redis/taskmanager.py: `create_cluster`, under either Python.
    #[test]
    fn every_division_of_a_controller_covers_every_slot_once() {
        for nodes in 2..=12_u32 {
            for whole in [true, false] {
                let share = f64::from(SLOTS) / f64::from(nodes);
                let share = if whole { share.floor() } else { share };
                let (mut left, mut first, mut covered) = (u32::from(SLOTS) % nodes, 0.0, Vec::new());
                for _ in 0..nodes {
                    let mut last = first + share;
                    if left > 0 {
                        left -= 1
                    } else {
                        last -= 1.0
                    }
                    covered.extend(range(first, last).unwrap());
                    first = last + 1.0;
                }
                assert_eq!(covered, (0..SLOTS).collect::<Vec<_>>(), "{nodes} {whole}");
            }
        }
        assert!(range(5.0, 4.0).is_err() && range(-1.0, 4.0).is_err() && range(f64::NAN, 1.0).is_err());
    }
}
