//! Replication between real servers: sources and replicas on ports of their own.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use trove_guestagent::error::Error;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::managers::{DatastoreManager, replication};
use trove_guestagent::model::ReplicaInfo;

use crate::replica_set::{By, Member, REPLICA, SOURCE, become_source, remove, set, text};
use crate::support::{Root, logged, run};

/// Every kind of set.
fn with_all<F: Future<Output = ()> + Send + 'static>(test: impl Fn(Root, By) -> F + Send + 'static) {
    run(async move {
        for (root, by) in [
            (Root::MySql, By::Gtid),
            (Root::MariaDb, By::Gtid),
            (Root::MariaDb11, By::Gtid),
            (Root::MySql, By::Binlog),
            (Root::MariaDb, By::Binlog),
        ] {
            test(root, by).await;
        }
    });
}

#[test]
fn a_replica_follows_keeps_its_role_and_becomes_a_stand_alone() {
    with_all(|root, by| async move {
        let (source, replicas) = set(root, by, 1).await;
        let replica = &replicas[0];
        assert!(source.has_file("master-replication") && replica.has_file("slave-replication"));
        assert!(replica.is_read_only().await);
        // Restart, and a resize with a new base configuration.
        source.restart().await;
        replica.restart().await;
        source.write(10).await;
        replica.catch_up(&source).await;
        assert!(replica.is_read_only().await);
        let last = replica.replication().last_transaction(replica.op()).await.unwrap();
        assert!(last.0.is_some() && last.1 > 0, "{last:?}");
        // The same again changes nothing.
        replica.follow(&source).await.unwrap();
        source.write(11).await;
        replica.catch_up(&source).await;
        assert_eq!(source.replication_users().await, 1);

        let detached = replica.replication().detach(replica.op(), false).await.unwrap();
        assert!(detached["replication_user"].as_str().unwrap().starts_with("slave_"), "{detached}");
        assert_eq!(replica.replication().detach(replica.op(), false).await.unwrap(), json!({"replication_user": null}));
        assert!(!replica.has_file("slave-replication"));
        assert_eq!((replica.is_read_only().await, replica.replication_users().await), (false, 0));
        replica.write(12).await;
        source.write(13).await;
        replica.restart().await;
        assert_eq!(replica.rows().await.len(), source.rows().await.len());
        assert_ne!(replica.rows().await, source.rows().await);
        let last = replica.replication().last_transaction(replica.op()).await.unwrap();
        assert_eq!((last.0, last.1), (None, 0));
        remove(replicas.into_iter().chain([source])).await;
    });
}

/// `promote_to_replica_source` of Trove 2026.1, call by call.
async fn promote(old: &Member, candidate: &Member, others: &[&Member]) {
    old.replication().set_read_only(old.op(), true).await.unwrap();
    let latest = old.replication().latest_transaction(old.op()).await.unwrap();
    candidate.replication().wait_for_transaction(candidate.op(), &latest).await.unwrap();
    candidate.replication().detach(candidate.op(), true).await.unwrap();
    candidate.replication().enable_as_source(candidate.op(), Some(&text(SOURCE))).await.unwrap();
    assert!(candidate.is_read_only().await, "nobody writes before it is said to be the source");
    candidate.replication().set_read_only(candidate.op(), false).await.unwrap();
    candidate.write(1000 + i64::from(candidate.id)).await;
    for other in others {
        other.replication().detach(other.op(), true).await.unwrap();
        other.follow(candidate).await.unwrap();
    }
    old.follow(candidate).await.unwrap();
    old.replication().demote(old.op()).await.unwrap();
}

#[test]
fn a_promotion_there_and_back_loses_nothing_and_leaves_one_account() {
    with_all(|root, by| async move {
        let (first, mut replicas) = set(root, by, 2).await;
        let (third, second) = (replicas.pop().unwrap(), replicas.pop().unwrap());
        first.write(20).await;
        promote(&first, &second, &[&third]).await;
        for member in [&first, &third] {
            member.catch_up(&second).await;
            assert!(member.is_read_only().await);
            assert!(!member.has_file("master-replication"));
        }
        second.write(21).await;
        promote(&second, &first, &[&third]).await;
        first.write(22).await;
        for member in [&second, &third] {
            member.catch_up(&first).await;
        }
        assert_eq!((first.replication_users().await, third.replication_users().await), (1, 1));
        for member in [&first, &second, &third] {
            member.restart().await;
        }
        first.write(23).await;
        for member in [&second, &third] {
            member.catch_up(&first).await;
        }
        remove([first, second, third]).await;
    });
}

#[test]
fn a_failover_keeps_what_was_sent_and_the_old_source_is_told_apart() {
    with_all(|root, by| async move {
        let (old, mut replicas) = set(root, by, 2).await;
        let (other, best) = (replicas.pop().unwrap(), replicas.pop().unwrap());
        // One is behind: it receives nothing more.
        let stop = |member: &Member| if member.guest.root == Root::MySql { "STOP REPLICA IO_THREAD" } else { "STOP SLAVE IO_THREAD" };
        other.catch_up(&old).await;
        old.write(30).await;
        best.catch_up(&old).await;
        other.catch_up(&old).await;
        if by == By::Gtid {
            other.guest.sql(SqlText::new(stop(&other))).await;
            old.write(31).await;
            best.catch_up(&old).await;
        }
        // Cut off, the source takes one more row that nobody has.
        best.guest.sql(SqlText::new(stop(&best))).await;
        other.guest.sql(SqlText::new(stop(&other))).await;
        old.write(99).await;
        let (of_best, of_other) = (
            best.replication().last_transaction(best.op()).await.unwrap(),
            other.replication().last_transaction(other.op()).await.unwrap(),
        );
        assert_eq!(of_best.0, of_other.0);
        assert!(of_best.1 > of_other.1 || by == By::Binlog, "{of_best:?} {of_other:?}");
        old.guest.manager.stop(old.op()).await.unwrap();

        best.replication().detach(best.op(), true).await.unwrap();
        best.replication().enable_as_source(best.op(), Some(&text(SOURCE))).await.unwrap();
        best.replication().set_read_only(best.op(), false).await.unwrap();
        best.write(40).await;
        other.replication().detach(other.op(), true).await.unwrap();
        other.follow(&best).await.unwrap();
        other.catch_up(&best).await;
        let ids: Vec<_> = best.rows().await.iter().map(|row| row.split('|').next().unwrap().to_owned()).collect();
        assert!(ids.contains(&"30".to_owned()) && !ids.contains(&"99".to_owned()), "{ids:?}");

        // It comes back with a row of its own: refused with a reason, and as it was.
        old.guest.manager.start(old.op()).await.unwrap();
        let error = old.follow(&best).await.unwrap_err().to_string();
        assert!(error.contains("anew"), "{error}");
        assert!(!old.has_file("slave-replication") && !old.is_read_only().await);
        assert!(!old.follows().await);
        remove([old, best, other]).await;
    });
}

#[test]
fn a_wait_is_bounded_and_says_how_far_it_came() {
    with_all(|root, by| async move {
        let (source, replicas) = set(root, by, 1).await;
        let replica = &replicas[0];
        replica.guest.sql(SqlText::new(if root == Root::MySql { "STOP REPLICA IO_THREAD" } else { "STOP SLAVE IO_THREAD" })).await;
        source.write(50).await;
        let latest = source.replication().latest_transaction(source.op()).await.unwrap();
        let op = replica.op().clone().for_at_most(Some(Duration::from_secs(3)));
        match replica.replication().wait_for_transaction(&op, &latest).await {
            Err(Error::Timeout { detail, .. }) => assert!(detail.contains("missing"), "{detail}"),
            other => panic!("{other:?}"),
        }
        replica.replication().wait_for_transaction(&op, "").await.unwrap();
        assert!(replica.replication().wait_for_transaction(&op, "'; DROP").await.is_err());
        // What it received and cannot apply keeps it from being promoted.
        replica.guest.sql(SqlText::new(if root == Root::MySql { "SET GLOBAL super_read_only = OFF" } else { "SELECT 1" })).await;
        let mut session = replica.guest.manager.client().session(replica.op()).await.unwrap();
        session.run(replica.op(), "act alone", &SqlText::new("SET sql_log_bin = 0")).await.unwrap();
        session.run(replica.op(), "act alone", &SqlText::new("INSERT INTO app.t VALUES (51, 'in the way')")).await.unwrap();
        session.close().await;
        replica.guest.sql(SqlText::new(if root == Root::MySql { "START REPLICA" } else { "START SLAVE" })).await;
        source.write(51).await;
        let latest = source.replication().latest_transaction(source.op()).await.unwrap();
        let error = replica.replication().wait_for_transaction(replica.op(), &latest).await.unwrap_err().to_string();
        assert!(error.contains("replication is broken") && error.contains("1062"), "{error}");
        let error = replica.replication().detach(replica.op(), true).await.unwrap_err().to_string();
        assert!(error.contains("cannot be applied") && replica.has_file("slave-replication"), "{error}");
        // For good, it can go nevertheless.
        replica.replication().detach(replica.op(), false).await.unwrap();
        remove(replicas.into_iter().chain([source])).await;
    });
}

#[test]
fn what_somebody_wrote_to_a_replica_is_told_before_it_is_promoted() {
    run(async {
        for root in [Root::MySql, Root::MariaDb] {
            let (source, replicas) = set(root, By::Gtid, 1).await;
            let replica = &replicas[0];
            if root == Root::MySql {
                let insert = SqlText::new("INSERT INTO app.t VALUES (60, 'x')");
                let mut session = replica.guest.manager.client().session(replica.op()).await.unwrap();
                assert!(session.run(replica.op(), "write", &insert).await.is_err(), "not even os_admin writes to a replica");
                session.close().await;
                replica.guest.sql(SqlText::new("SET GLOBAL super_read_only = OFF")).await;
            }
            let latest = source.replication().latest_transaction(source.op()).await.unwrap();
            replica.write(60).await;
            let error = replica.replication().wait_for_transaction(replica.op(), &latest).await.unwrap_err().to_string();
            assert!(error.contains("its source never had"), "{error}");
            remove(replicas.into_iter().chain([source])).await;
        }
    });
}

#[test]
fn a_failed_attachment_leaves_a_clean_server_and_no_secret() {
    with_all(|root, by| async move {
        let (source, replicas) = set(root, by, 1).await;
        let alone = Member::new(root, by, 120).await;
        let mut context = source.context().await;
        let password = context["replica_conf"]["replication_user"]["password"].as_str().unwrap().to_owned();
        context["replica_conf"]["replication_user"]["password"] = json!("Planted-wrong-1");
        context["dataset"] = json!({"dataset_size": 0.01, "log_executed_gtid_set": "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"});
        std::fs::write(alone.guest.dir.join("volume/data/xtrabackup_binlog_info"), "mariadb-bin.000001\t4\t0-77-1\n").unwrap();
        let info: ReplicaInfo = serde_json::from_value(context.clone()).unwrap();
        let op = alone.op().clone().for_at_most(Some(Duration::from_secs(20)));
        let error = replication::attach(&op, &alone.guest.manager, &info, Some(&text(REPLICA))).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1") && error.to_lowercase().contains("access denied"), "{error}");
        assert!(!error.contains("Planted"));
        assert!(!alone.has_file("slave-replication") && !alone.is_read_only().await);
        assert!(!alone.follows().await);
        alone.restart().await;
        alone.guest.sql(SqlText::new("CREATE DATABASE it_works")).await;

        // Of another kind, or too big: nothing is touched.
        context["replication_strategy"] = json!("SomethingElse");
        let error = alone.attach_with(context.clone()).await.unwrap_err();
        assert_eq!(error.trove_class().class, "IncompatibleReplicationStrategy");
        context.as_object_mut().unwrap().remove("replication_strategy");
        context["dataset"]["dataset_size"] = json!(1e9);
        assert_eq!(alone.attach_with(context).await.unwrap_err().trove_class().class, "InsufficientSpaceForReplica");

        for member in [&source, &replicas[0], &alone] {
            let log = std::fs::read_to_string(member.guest.dir.join("state/mysqld.log")).unwrap();
            assert!(!log.contains(&password) && !log.contains("Planted-wrong"), "a password is in the server's log");
        }
        assert!(!logged().contains(&password) && !logged().contains("Planted-wrong"));
        remove(replicas.into_iter().chain([source, alone])).await;
    });
}

/// What the source has of servers that are long gone, tagged ids and gaps included, or of another domain.
async fn history_of_others(source: &Member) {
    let mut statements = Vec::new();
    if source.guest.root.is_mariadb() {
        statements.extend(["SET SESSION gtid_domain_id = 1", "SET SESSION server_id = 50"].map(SqlText::new));
        statements.extend((15..18).map(|id| SqlText::new("INSERT INTO app.t VALUES (").number(id).raw(", 'of another domain')")));
    } else {
        let (gone, tagged) = ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "4d2b1c30-71ca-11e1-9e33-c80aa9429562:tag");
        for id in [format!("{gone}:1"), format!("{gone}:7"), format!("{tagged}:3"), "AUTOMATIC".to_owned()] {
            statements.push(SqlText::new("SET gtid_next = ").literal(&id));
            if id != "AUTOMATIC" {
                statements.extend(["BEGIN", "COMMIT"].map(SqlText::new));
            }
        }
    }
    let mut session = source.guest.manager.client().session(source.op()).await.unwrap();
    for statement in statements {
        session.run(source.op(), "act as another server", &statement).await.unwrap();
    }
    session.close().await;
}

/// The parts of a variable of GTIDs; servers do not order domains.
async fn gtids(member: &Member, variable: &'static str) -> BTreeSet<String> {
    let text = member.guest.column(SqlText::new("SELECT ").raw(variable)).await.pop().flatten().unwrap();
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_backup_with_transactions_of_many_servers_goes_on_in_a_server_that_has_some_of_its_own() {
    run(async {
        for root in [Root::MySql, Root::MariaDb, Root::MariaDb11] {
            let source = Member::new(root, By::Gtid, 150).await;
            become_source(&source).await;
            history_of_others(&source).await;
            let replica = Member::new(root, By::Gtid, 151).await;
            let (has, done, origins) =
                if root.is_mariadb() { ("@@gtid_slave_pos", "@@gtid_binlog_pos", 2) } else { ("@@gtid_executed", "@@gtid_executed", 3) };
            // Of before the restore, and of no backup.
            replica.guest.sql(SqlText::new("CREATE DATABASE of_its_own")).await;
            assert!(root.is_mariadb() || !gtids(&replica, has).await.is_empty());
            replica.seed(&source, By::Gtid).await;
            source.write(20).await;
            replica.catch_up(&source).await;
            let everything = gtids(&source, done).await;
            assert_eq!(gtids(&replica, has).await, everything);
            assert!(everything.len() >= origins, "{everything:?}");
            remove([replica, source]).await;
        }
    });
}
