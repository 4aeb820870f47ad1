//! The agent's end at every step of every call of a promotion: the call, repeated in its next life, finishes the work.

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use trove_guestagent::error::{Error, Result};
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::managers::{DatastoreManager, replication};
use trove_guestagent::model::{BackupMetadata, Opaque, ReplicaInfo, ServiceStatus};
use trove_guestagent::op::Op;

use crate::replica_set::{By, Member, REPLICA, SOURCE, remove, set, text};
use crate::support::{Root, run};

/// Drops an operation at its `after`-th pause, as the end of the agent's process does. True when it ended before.
async fn dropped_at(after: usize, operation: impl Future<Output = Result<()>>) -> bool {
    let (mut operation, mut pauses) = (std::pin::pin!(operation), 0);
    std::future::poll_fn(|context| {
        let polled = operation.as_mut().poll(context);
        pauses += usize::from(polled.is_pending());
        match polled {
            std::task::Poll::Ready(ended) => {
                ended.unwrap();
                std::task::Poll::Ready(true)
            }
            std::task::Poll::Pending if pauses >= after => std::task::Poll::Ready(false),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}

/// The next number of pauses to end a call after. The steps at the beginning are logins and looks: the later ones are taken in turn.
fn later(after: usize) -> usize {
    after + 1 + after / 4
}

/// A call of a promotion or an ejection.
#[derive(Debug)]
enum Call {
    ReadOnly(bool),
    LatestTransaction,
    LastTransaction,
    TransactionCount,
    WaitFor(String),
    Detach { for_failover: bool },
    Enable,
    Context,
    PlaceOfBackup(BackupMetadata),
    Attach(Box<ReplicaInfo>),
    Demote,
    Forget(Opaque),
}

impl Call {
    async fn run(&self, member: &Member) -> Result<()> {
        let (replication, op) = (member.replication(), member.op());
        match self {
            Call::ReadOnly(read_only) => replication.set_read_only(op, *read_only).await,
            Call::LatestTransaction => replication.latest_transaction(op).await.map(drop),
            Call::LastTransaction => replication.last_transaction(op).await.map(drop),
            Call::TransactionCount => replication.transaction_count(op).await.map(drop),
            Call::WaitFor(transaction) => replication.wait_for_transaction(op, transaction).await,
            Call::Detach { for_failover } => replication.detach(op, *for_failover).await.map(drop),
            Call::Enable => replication.enable_as_source(op, Some(&text(SOURCE))).await,
            Call::Context => replication.context(op).await.map(drop),
            Call::PlaceOfBackup(metadata) => replication.place_of_backup(op, metadata).await.map(drop),
            Call::Attach(info) => replication::attach(op, &member.guest.manager, info, Some(&text(REPLICA))).await,
            Call::Demote => replication.demote(op).await,
            Call::Forget(info) => replication.forget_replica(op, info).await,
        }
    }

    /// Ends the agent at the `after`-th pause, and repeats the call in its next life. True when it had ended before.
    async fn killed(&self, after: usize, member: &mut Member) -> bool {
        let ended = dropped_at(after, self.run(member)).await;
        member.guest = member.guest.agent_again();
        // Nobody may repeat it: the server is up without that.
        member.guest.manager.finish_restart(member.op()).await.unwrap();
        member.guest.becomes(ServiceStatus::Running).await;
        self.run(member).await.unwrap_or_else(|error| panic!("{self:?} on {}, repeated after pause {after}: {error}", member.id));
        ended
    }
}

/// A promotion in which the agent is ended at the `after`-th pause of every call; true when no call is that long.
async fn promote_killed(after: usize, old: &mut Member, candidate: &mut Member) -> bool {
    let mut ended = Call::ReadOnly(true).killed(after, old).await;
    assert!(old.is_read_only().await);
    ended &= Call::LatestTransaction.killed(after, old).await;
    let latest = old.replication().latest_transaction(old.op()).await.unwrap();
    for call in [Call::WaitFor(latest), Call::LastTransaction, Call::TransactionCount, Call::Detach { for_failover: true }] {
        ended &= call.killed(after, candidate).await;
    }
    assert!(!candidate.has_file("slave-replication") && candidate.is_read_only().await);
    ended &= enable_killed(after, candidate).await;
    ended & demote_killed(after, old, candidate).await
}

/// The candidate becomes the source.
async fn enable_killed(after: usize, candidate: &mut Member) -> bool {
    let mut ended = Call::Enable.killed(after, candidate).await;
    assert!(candidate.has_file("master-replication") && candidate.is_read_only().await);
    ended &= Call::ReadOnly(false).killed(after, candidate).await;
    assert!(!candidate.is_read_only().await);
    ended & Call::Context.killed(after, candidate).await
}

/// The second half of a promotion: the old source follows the new one.
async fn demote_killed(after: usize, old: &mut Member, candidate: &mut Member) -> bool {
    let info = serde_json::from_value(candidate.context().await).unwrap();
    let mut ended = Call::Attach(Box::new(info)).killed(after, old).await;
    ended &= Call::Demote.killed(after, old).await;
    assert!(!old.has_file("master-replication") && old.has_file("slave-replication") && old.is_read_only().await);
    // An account of somebody who is gone for good.
    let gone = "slave_0a1b2c3d";
    candidate.guest.sql(SqlText::new("CREATE USER ").literal(gone).raw("@'%' IDENTIFIED BY 'Planted-gone-1'")).await;
    let info = Opaque(json!({"replication_user": gone}).as_object().unwrap().clone());
    ended & Call::Forget(info).killed(after, candidate).await
}

#[test]
fn a_promotion_whose_agents_are_ended_at_any_step_is_finished_by_repeating_the_calls() {
    run(async {
        for (root, by) in [(Root::MySql, By::Gtid), (Root::MariaDb, By::Gtid), (Root::MySql, By::Binlog)] {
            let (mut source, mut replicas) = set(root, by, 1).await;
            let mut replica = replicas.pop().unwrap();
            let (mut after, mut ended) = (1, false);
            while !ended {
                ended = promote_killed(after, &mut source, &mut replica).await;
                std::mem::swap(&mut source, &mut replica);
                source.write(3000 + i64::try_from(after).unwrap()).await;
                replica.catch_up(&source).await;
                for member in [&source, &replica] {
                    assert_eq!(member.replication_users().await, 1, "accounts pile up");
                }
                after = later(after);
            }
            assert!(after > 20, "{after}");
            remove([source, replica]).await;
        }
    });
}

/// `get_replication_snapshot` of an instance that was no source before; what is between, is a backup (tests/e2e: killed with the whole agent).
#[test]
fn a_source_whose_agent_is_ended_at_any_step_of_becoming_one_is_finished_by_repeating_the_calls() {
    run(async {
        for root in [Root::MySql, Root::MariaDb] {
            let mut member = Member::new(root, By::Gtid, 130).await;
            let (mut after, mut ended) = (1, false);
            while !ended {
                ended = Call::Enable.killed(after, &mut member).await;
                assert!(member.has_file("master-replication") && !member.is_read_only().await);
                ended &= Call::Context.killed(after, &mut member).await;
                assert_eq!(member.replication_users().await, 1);
                let first = "SELECT CONCAT(SUBSTRING_INDEX(@@log_bin_basename, '/', -1), '.000001')";
                let file = member.guest.column(SqlText::new(first)).await.pop().unwrap().unwrap();
                let metadata = BackupMetadata::from([("binlog_file".to_owned(), file), ("binlog_position".to_owned(), "4".to_owned())]);
                ended &= Call::PlaceOfBackup(metadata).killed(after, &mut member).await;
                // As it was before: MariaDB has its binary log again only after a restart.
                Call::Demote.run(&member).await.unwrap();
                let (user, log) = ("SELECT User FROM mysql.user WHERE User LIKE 'slave\\_%'", "SELECT IF(@@log_bin, 'yes', 'no')");
                let user = member.guest.column(SqlText::new(user)).await.pop().unwrap().unwrap();
                member.guest.sql(SqlText::new("DROP USER ").literal(&user)).await;
                member.restart().await;
                assert!(root == Root::MySql || member.guest.column(SqlText::new(log)).await[0].as_deref() == Some("no"));
                // Every time with two restarts: fewer of them.
                after += 1 + after / 2;
            }
            assert!(after > 10, "{after}");
            remove([member]).await;
        }
    });
}

/// A snapshot is given up when the agent is told to end; the restart that it may be in is not.
#[test]
fn a_restart_that_is_cancelled_comes_to_its_end() {
    run(async {
        let member = Member::new(Root::MariaDb, By::Gtid, 131).await;
        let (before, op) = (member.guest.pid().await, Op::internal(CancellationToken::new()));
        let note = member.guest.dir.join("state/restarting");
        let cancel = async {
            let mut look = tokio::time::interval(Duration::from_millis(1));
            while !note.exists() {
                look.tick().await;
            }
            op.cancel.cancel();
        };
        let config = text(SOURCE);
        let (ended, ()) = tokio::join!(member.replication().enable_as_source(&op, Some(&config)), cancel);
        let error = ended.unwrap_err();
        assert!(matches!(error, Error::Cancelled { .. } | Error::During { .. }), "{error:?}");
        assert!(!note.exists() && member.has_file("master-replication"));
        assert_ne!(member.guest.pid().await, before);
        member.guest.becomes(ServiceStatus::Running).await;
        remove([member]).await;
    });
}

#[test]
fn a_replica_whose_agent_is_ended_at_any_step_of_going_and_being_made_anew_is_finished_by_repeating_the_calls() {
    run(async {
        for (root, by) in [(Root::MySql, By::Gtid), (Root::MariaDb, By::Gtid), (Root::MySql, By::Binlog)] {
            let (source, mut replicas) = set(root, by, 1).await;
            let mut replica = replicas.pop().unwrap();
            let (mut after, mut ended) = (1, false);
            while !ended {
                ended = Call::Detach { for_failover: false }.killed(after, &mut replica).await;
                assert!(!replica.has_file("slave-replication") && !replica.is_read_only().await, "after pause {after}");
                assert_eq!((replica.replication_users().await, replica.follows().await), (0, false), "after pause {after}");

                replica.bring_account(&source).await;
                let info = serde_json::from_value(replica.snapshot(&source, by).await).unwrap();
                ended &= Call::Attach(Box::new(info)).killed(after, &mut replica).await;
                source.write(2000 + i64::try_from(after).unwrap()).await;
                replica.catch_up(&source).await;
                assert!(replica.has_file("slave-replication") && replica.is_read_only().await, "after pause {after}");
                after = later(after);
            }
            assert!(after > 20, "{after}");
            remove([source, replica]).await;
        }
    });
}
