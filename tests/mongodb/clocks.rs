//! Clusters whose members do not agree about the time: real servers, each with a clock of its own (`clock.c`).

use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use mongodb::bson::doc;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::model::ServiceStatus;

use crate::accounts::user;
use crate::backup::back_up;
use crate::cluster::{KEY, cluster, host, hosts, member, primary, remove, states};
use crate::cluster_faults::step_down;
use crate::support::{Guest, logged, run};

const HOUR: i64 = 3600;
const YEARS: i64 = 70_000_000;

/// A member of a shard whose server is so many seconds ahead of the machine.
async fn member_ahead(name: &str, seconds: i64) -> Guest {
    static LIBRARY: OnceLock<Utf8PathBuf> = OnceLock::new();
    let guest = Guest::with_program(name, |program: &Utf8Path| {
        // Beside the program: its account may not look into the build's directory.
        let library = program.with_extension("so");
        std::fs::copy(LIBRARY.get_or_init(|| crate::preload::build("tests/mongodb/clock.c")), &library).unwrap();
        let script = format!("#!/bin/sh\nLD_PRELOAD={library} CLOCK_SKEW={seconds} exec /usr/local/bin/mongod \"$@\"\n");
        std::fs::write(program, script).unwrap();
        std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
    });
    guest.prepare_as(&member("rs1", Some(KEY))).await.unwrap();
    guest
}

#[test]
fn members_whose_clocks_are_an_hour_apart_are_a_set_that_works() {
    run(async {
        let (first, ahead, behind) = tokio::join!(member_ahead("now", 0), member_ahead("ahead", HOUR), member_ahead("behind", -HOUR));
        let guests = [first, ahead, behind];
        let [first, ahead, behind] = &guests;
        cluster(first).prepare_primary(&first.op).await.unwrap();
        cluster(first).add_members(&first.op, &hosts(&guests[1..])).await.unwrap();
        assert_eq!(states(first).await, ["PRIMARY", "SECONDARY", "SECONDARY"]);
        for other in &guests[1..] {
            assert!(logged().contains(&host(other)), "whose clock is off is told");
        }
        // The time of the set goes an hour ahead with its primary, and the others go along.
        behind.ask("admin", doc! { "replSetFreeze": 120 }).await;
        step_down(first).await;
        assert_eq!(primary(&guests).await.port, ahead.port);
        first.manager.users().unwrap().create(&first.op, &[user("shop.u1", "planted0Clock", &["shop"])]).await.unwrap();
        let insert = doc! { "insert": "c", "documents": [{ "_id": 1 }], "writeConcern": { "w": 3, "wtimeout": 30_000 } };
        ahead.user(Some(("shop", "u1", "planted0Clock"))).await.unwrap().run(&ahead.op, "test", "shop", insert).await.unwrap();
        for guest in &guests {
            guest.becomes(ServiceStatus::Running).await;
            assert!(guest.user(Some(("shop", "u1", "planted0Clock"))).await.is_ok());
        }
        back_up(behind, None).await.unwrap();
        // They end at once, whatever their clocks say.
        remove(guests).await;
    });
}

#[test]
fn a_member_whose_clock_is_years_off_is_named_and_does_not_get_into_the_set() {
    run(async {
        let (first, past, future) = tokio::join!(member_ahead("now", 0), member_ahead("past", -YEARS), member_ahead("future", YEARS));
        cluster(&first).prepare_primary(&first.op).await.unwrap();
        for (other, word) in [(&past, "behind"), (&future, "ahead of")] {
            let error = cluster(&first).add_members(&first.op, &[host(other)]).await.unwrap_err().to_string();
            assert!(error.contains(&format!("the clock of {}", host(other))) && error.contains(word), "{error}");
            assert!(error.contains("time server"), "{error}");
        }
        // With a member that is away it would not be the primary for long.
        assert_eq!(states(&first).await, ["PRIMARY"]);
        remove([first, past, future]).await;
    });
}
