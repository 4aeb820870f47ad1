//! Detaching: for good, or to be promoted or attached elsewhere.

use std::time::Duration;

use serde_json::{Value, json};

use super::host::Role;
use super::place::Place;
use super::source::Remote;
use super::strategy::{PostgreSqlReplication, WAIT};
use super::{account, slots};
use crate::error::{Error, Result, ResultExt};
use crate::model::{Opaque, ReplicationUser, Source};
use crate::op::Op;
use crate::system::postgresql::{Lsn, SqlText};
use crate::wait::Wait;

/// How long an instance that is detached for good may take to apply the rest. A promotion does it anyway.
const GRACE: Duration = Duration::from_secs(30);
/// How long to wait for a source that is to hear that nobody follows it. It may be gone.
const FAREWELL: Duration = Duration::from_secs(5);
/// Looks in a row that find nothing applied before a rest counts as a piece of a record, cut off with its source.
const IDLE_LOOKS: u32 = 20;

/// See [`crate::strategies::replication::ReplicationStrategy::detach`].
pub(super) async fn run(strategy: &PostgreSqlReplication, op: &Op, for_failover: bool) -> Result<Value> {
    let host = &*strategy.host;
    host.ensure_running(op).await?;
    if host.is_standby() {
        leave(strategy, op, if for_failover { WAIT } else { GRACE }, for_failover).await?;
        if !for_failover {
            strategy.promote(op).await?;
        }
    }
    if !for_failover {
        host.drop_role(op, Role::Replica).await?;
        let mut memory = strategy.memory()?;
        if memory.source.take().is_some() {
            account::drop_it(op, &strategy.session(op).await?).await?;
            memory.password = None;
            strategy.remember(&memory)?;
        }
    }
    Ok(json!({"replication_user": account::NAME, "slot": slots::name(host.guest_id())}))
}

/// Receives nothing more, and applies what there is.
async fn leave(strategy: &PostgreSqlReplication, op: &Op, at_most: Duration, for_failover: bool) -> Result<()> {
    let host = &*strategy.host;
    if !host.is_following()? {
        return Ok(());
    }
    if for_failover {
        refuse_paused(strategy, op).await.action("detach the replica, which stays attached")?;
    }
    host.follow_nobody(op).await?;
    match drain(strategy, op, at_most).await {
        Ok(()) => {}
        Err(error) if op.cancel.is_cancelled() => return Err(error),
        // What was received is on the disk: nothing else can be promoted before it is applied.
        Err(error) => tracing::warn!(%error, "detaching a replica that has not applied everything it received yet"),
    }
    if let Err(error) = say_farewell(strategy, op).await {
        tracing::warn!(%error, "the former source keeps the slot of this replica: what it keeps for it is bounded, and demoting or attaching it drops the slot");
    }
    Ok(())
}

/// A replica whose applying somebody has paused, or that its settings have stopped, does not become a source.
async fn refuse_paused(strategy: &PostgreSqlReplication, op: &Op) -> Result<()> {
    let sql = SqlText::new("SELECT 'paused' WHERE pg_is_wal_replay_paused()");
    if strategy.session(op).await?.texts(op, "look whether the replica applies", &sql).await?.is_empty() {
        return Ok(());
    }
    let place = strategy.place(op).await?;
    Err(Error::guest(format!(
        "applying is paused at {}, with everything up to {} received: see the server's log, then pg_wal_replay_resume(), or promote another one",
        place.at, place.received
    )))
}

async fn drain(strategy: &PostgreSqlReplication, op: &Op, at_most: Duration) -> Result<()> {
    let session = strategy.session(op).await?;
    let mut wait = Wait::new(op, "apply what was received from the source", at_most);
    let (mut last, mut idle) = (Lsn::default(), 0);
    loop {
        let place = Place::read(op, &session).await?;
        let sql = SqlText::new("SELECT status FROM pg_stat_wal_receiver");
        let is_receiving = !session.texts(op, "look whether the replica still receives", &sql).await?.is_empty();
        idle = if is_receiving || place.at != last { 0 } else { idle + 1 };
        last = place.at;
        if !is_receiving && (place.at >= place.received || idle >= IDLE_LOOKS) {
            return Ok(());
        }
        wait.next(op, format!("it is at {} of {}", place.at, place.received)).await?;
    }
}

/// Drops this replica's slot at its source, which would keep its log for nobody.
async fn say_farewell(strategy: &PostgreSqlReplication, op: &Op) -> Result<()> {
    let memory = strategy.memory()?;
    let (Some((host, port)), Some(password)) = (memory.source, memory.password) else { return Ok(()) };
    let source = Source { host, port, extra: Opaque::default() };
    let user = ReplicationUser { name: account::NAME.to_owned(), password };
    let remote = Remote::new(&source, &user, memory.tls.as_ref())?;
    drop_slot(op, &remote, &slots::name(strategy.host.guest_id())).await
}

/// Drops a slot at a source, as soon as nobody uses it.
pub(super) async fn drop_slot(op: &Op, remote: &Remote, slot: &str) -> Result<()> {
    let late = |_| Error::Timeout { action: "take leave of the source".into(), after: FAREWELL, detail: String::new() };
    let dropped = async {
        let session = remote.session(op).await?;
        let mut wait = Wait::new(op, "wait until nobody uses the slot", FAREWELL);
        while slots::is_active(op, &session, slot).await? {
            wait.next(op, format!("the slot {slot} is in use")).await?;
        }
        slots::drop_one(op, &session, slot).await
    };
    tokio::time::timeout(FAREWELL, dropped).await.map_err(late)?
}
