//! Detaching: for good, or to be promoted or attached elsewhere.

use std::time::Duration;

use serde_json::{Value, json};

use super::coordinates::Coordinates;
use super::gtid_position::GtidPosition;
use super::gtid_set::GtidSet;
use super::host::Role;
use super::memory::{Handover, Memory};
use super::progress::errant;
use super::server::Server;
use super::status::Following;
use super::strategy::{MySqlReplication, Positioning, WAIT};
use super::user;
use crate::error::{Error, Result, ResultExt};
use crate::op::Op;
use crate::wait::Wait;

/// How long an instance that is detached for good may take to apply the rest. It need not.
const GRACE: Duration = Duration::from_secs(30);
/// Looks in a row that find nothing applied before a rest counts as a piece of a transaction, cut off with its source.
const IDLE_LOOKS: u32 = 20;

/// See [`crate::strategies::replication::ReplicationStrategy::detach`].
pub(super) async fn run(strategy: &MySqlReplication, op: &Op, for_failover: bool) -> Result<Value> {
    let mut server = strategy.server(op).await?;
    let following = server.following(op).await?;
    let was_replica = strategy.host.has_role(Role::Replica)?;
    if let Some(following) = &following {
        let drained = drain(strategy, op, &mut server, if for_failover { WAIT } else { GRACE }).await;
        if let Err(error) = drained {
            if for_failover || op.cancel.is_cancelled() {
                go_on(op, &mut server).await;
                return Err(error).action("detach the replica, which stays attached");
            }
            tracing::warn!(%error, "detaching a replica that has not applied everything it received");
        }
        leave(strategy, op, &mut server, following).await?;
    }
    if !for_failover && (following.is_some() || was_replica) {
        let sql = server.dialect.set_read_only(false);
        server.run(op, "let everybody write again", &sql).await?;
        if !strategy.host.has_role(Role::Source)? {
            user::drop_leftovers(op, &mut server, None).await?;
        }
        strategy.remember(&Memory { own_at_attach: None, ..strategy.memory()? })?;
    }
    server.close().await;
    // Last: until then the same call finds that there is something to finish.
    strategy.host.drop_role(Role::Replica)?;
    Ok(json!({"replication_user": following.and_then(|following| following.user)}))
}

/// Notes where the source was left, and leaves it.
async fn leave(strategy: &MySqlReplication, op: &Op, server: &mut Server<'_>, following: &Following) -> Result<()> {
    if let Some(errant) = errant(strategy, op, server, None).await? {
        tracing::error!(
            transactions = errant,
            "this replica has transactions that its source never had: others that follow it get them, too"
        );
    }
    let sql = server.dialect.stop();
    server.run(op, "stop replication", &sql).await?;
    if strategy.positioning == Positioning::Binlog {
        let applied = server.following(op).await?.and_then(|following| following.applied);
        if let (Some(left), Some(source)) = (applied, following.source.clone()) {
            let own = server.log_end(op).await?;
            strategy.remember(&Memory { handover: Some(Handover { source, left, own }), ..strategy.memory()? })?;
        }
    }
    let sql = server.dialect.forget_source();
    server.run(op, "forget the source", &sql).await
}

/// Receives nothing more, and applies what there is.
///
/// # Errors
/// Something is left.
async fn drain(strategy: &MySqlReplication, op: &Op, server: &mut Server<'_>, at_most: Duration) -> Result<()> {
    let sql = server.dialect.stop_receiving();
    server.run(op, "stop receiving", &sql).await?;
    let following = server.following(op).await?;
    if following.is_some_and(|following| !following.applying && following.apply_error.is_none()) {
        let sql = server.dialect.start_applying();
        server.run(op, "start applying", &sql).await?;
    }
    let mut idle = Idle::default();
    let mut wait = Wait::new(op, "apply what was received from the source", at_most);
    while let Some(following) = server.following(op).await? {
        let Some(missing) = unapplied(strategy, op, server, &following, &mut idle).await? else { break };
        if let Some(reason) = &following.apply_error {
            return Err(Error::guest(format!("{missing} was received and cannot be applied: {reason}")));
        }
        wait.next(op, format!("{missing} was received and is not applied yet")).await?;
    }
    Ok(())
}

/// What was received and is not applied, in words.
async fn unapplied(
    strategy: &MySqlReplication,
    op: &Op,
    server: &mut Server<'_>,
    following: &Following,
    idle: &mut Idle,
) -> Result<Option<String>> {
    match strategy.positioning {
        Positioning::Gtid if server.dialect.0.is_mariadb() => {
            let rest = GtidPosition::parse(&following.received_position)?.beyond(&server.position(op, "gtid_slave_pos").await?);
            Ok((!rest.is_empty()).then(|| format!("everything up to {rest}")))
        }
        Positioning::Gtid => {
            let rest = GtidSet::parse(&following.received_set)?.minus(&server.executed(op).await?);
            Ok((!rest.is_empty()).then(|| rest.to_string()))
        }
        Positioning::Binlog => {
            if following.received == following.applied || idle.for_long(following) {
                return Ok(None);
            }
            let place = |place: &Option<Coordinates>| place.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            Ok(Some(format!("{} of {}", place(&following.received), place(&following.applied))))
        }
    }
}

/// Notices that everything that can be applied is: a source that was cut off may have sent the beginning of a transaction.
#[derive(Debug, Default)]
struct Idle {
    place: Option<Coordinates>,
    looks: u32,
}

impl Idle {
    fn for_long(&mut self, following: &Following) -> bool {
        if following.applying && following.all_read && following.applied == self.place {
            self.looks += 1;
        } else {
            (self.looks, self.place) = (0, following.applied.clone());
        }
        self.looks >= IDLE_LOOKS
    }
}

/// It stays a replica: it receives again.
async fn go_on(op: &Op, server: &mut Server<'_>) {
    let sql = server.dialect.start();
    if let Err(error) = server.run(op, "start replication again", &sql).await {
        tracing::error!(%error, "a replica that was not detached does not go on either");
    }
}
