//! Waiting for a replica: bounded, and saying how far it came.

use super::coordinates::Coordinates;
use super::gtid_position::GtidPosition;
use super::gtid_set::GtidSet;
use super::server::Server;
use super::strategy::{MySqlReplication, Positioning, WAIT};
use crate::error::{Error, Result};
use crate::op::Op;
use crate::wait::Wait;

/// What a replica was asked to reach.
enum Goal {
    Set(GtidSet),
    Position(GtidPosition),
    Place(Coordinates),
}

/// See [`crate::strategies::replication::ReplicationStrategy::wait_for_transaction`].
pub(super) async fn wait_for(strategy: &MySqlReplication, op: &Op, transaction: &str) -> Result<()> {
    if transaction.trim().is_empty() {
        return Ok(());
    }
    let mut server = strategy.server(op).await?;
    let goal = match strategy.positioning {
        Positioning::Gtid if server.dialect.0.is_mariadb() => Goal::Position(GtidPosition::parse(transaction)?),
        Positioning::Gtid => Goal::Set(GtidSet::parse(transaction)?),
        Positioning::Binlog => Goal::Place(Coordinates::parse(transaction)?),
    };
    refuse_errant(strategy, op, &mut server, &goal, transaction).await?;
    let mut wait = Wait::new(op, "wait for the replica to apply what its source has done", WAIT);
    while let Some(missing) = missing(op, &mut server, &goal).await? {
        let Some(following) = server.following(op).await? else {
            return Err(Error::guest(format!("this instance follows nobody and will never have {missing}")));
        };
        if let Some(reason) = following.broken() {
            return Err(Error::guest(format!("replication is broken, with {missing} missing: {reason}")));
        }
        let missing = format!("{missing} missing");
        wait.next(op, following.trouble.map_or_else(|| missing.clone(), |trouble| format!("{missing}; {trouble}"))).await?;
    }
    server.close().await;
    Ok(())
}

async fn missing(op: &Op, server: &mut Server<'_>, goal: &Goal) -> Result<Option<String>> {
    match goal {
        Goal::Set(goal) => {
            let rest = goal.minus(&server.executed(op).await?);
            Ok((!rest.is_empty()).then(|| format!("{} of {} transactions ({rest})", rest.count(), goal.count())))
        }
        Goal::Position(goal) => {
            // Not the replicated one alone: this server may have been the source of the last ones itself.
            let here = server.position(op, "gtid_current_pos").await?;
            let rest = goal.beyond(&here);
            Ok((!rest.is_empty()).then(|| format!("everything from {here} to {rest}")))
        }
        Goal::Place(goal) => {
            let here = server.following(op).await?.and_then(|following| following.applied);
            let reached = here.as_ref().is_some_and(|here| here.ordinal() >= goal.ordinal());
            Ok((!reached)
                .then(|| format!("everything from {} to {goal}", here.map_or_else(|| "nowhere".to_owned(), |here| here.to_string()))))
        }
    }
}

/// The caller is about to promote this replica: what it has done by itself while it should have followed, nobody else has.
async fn refuse_errant(strategy: &MySqlReplication, op: &Op, server: &mut Server<'_>, goal: &Goal, transaction: &str) -> Result<()> {
    let source_has = if matches!(goal, Goal::Place(_)) { None } else { Some(transaction) };
    match errant(strategy, op, server, source_has).await? {
        None => Ok(()),
        Some(errant) => Err(Error::guest(format!(
            "this replica has transactions that its source never had, and is not to be promoted as it is: {errant}. Somebody wrote to it; compare \
             the data, and make the replica anew, or promote another one"
        ))),
    }
}

/// Transactions this server has done by itself since it began to follow, but for those `source_has`; `None` when there are none, or nobody
/// can tell.
pub(super) async fn errant(
    strategy: &MySqlReplication,
    op: &Op,
    server: &mut Server<'_>,
    source_has: Option<&str>,
) -> Result<Option<String>> {
    let Some(own) = server.own(op).await? else { return Ok(None) };
    let memory = strategy.memory()?;
    let known: Vec<&str> = memory.own_at_attach.as_deref().into_iter().chain(source_has).collect();
    if known.is_empty() {
        return Ok(None);
    }
    let errant = own.beyond(&known)?;
    Ok((!errant.is_empty()).then_some(errant))
}
