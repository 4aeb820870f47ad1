//! Clusters whose servers are away, know another key, or change their roles in the middle.

use std::time::Duration;

use mongodb::bson::doc;
use trove_guestagent::managers::DatastoreManager;

use crate::accounts::user;
use crate::cluster::{KEY, cluster, host, hosts, in_role, member, primary, remove};
use crate::support::{Guest, logged, run};

/// What a controller's patience is in these tests: the agent answers before it ends.
const SHORT: Duration = Duration::from_secs(5);

#[test]
fn a_primary_that_steps_down_is_followed() {
    run(async {
        let config = member("rs1", Some(KEY));
        let (first, second, third) = tokio::join!(in_role("first", &config), in_role("second", &config), in_role("third", &config));
        let guests = [first, second, third];
        let first = &guests[0];
        cluster(first).prepare_primary(&first.op).await.unwrap();
        cluster(first).add_members(&first.op, &hosts(&guests[1..2])).await.unwrap();
        // The primary is another one than the guest that is asked.
        step_down(first).await;
        cluster(first).add_members(&first.op, &hosts(&guests[1..])).await.unwrap();
        let successor = primary(&guests).await;
        assert_ne!(successor.port, first.port);
        // Users made after it are the set's.
        successor.manager.users().unwrap().create(&successor.op, &[user("shop.u1", "planted0Step", &["shop"])]).await.unwrap();
        let insert = doc! { "insert": "c", "documents": [{ "_id": 1 }], "writeConcern": { "w": 3, "wtimeout": 30_000 } };
        successor.user(Some(("shop", "u1", "planted0Step"))).await.unwrap().run(&first.op, "test", "shop", insert).await.unwrap();
        remove(guests).await;
    });
}

/// Has a primary hand over to another member (manual, "replSetStepDown").
async fn step_down(guest: &Guest) {
    let session = guest.manager.client().session(&guest.op).await.unwrap();
    let handed_over = async {
        let mut look = tokio::time::interval(Duration::from_millis(200));
        let command = doc! { "replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 10 };
        // A member that is new has no vote yet.
        while session.run(&guest.op, "test", "admin", command.clone()).await.is_err() {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), handed_over).await.expect("a primary can hand over");
}

#[test]
fn a_member_that_is_cut_off_or_has_another_key_is_named_and_can_be_added_later() {
    run(async {
        let config = member("rs1", Some(KEY));
        let other_key = member("rs1", Some("planted0Other0Key"));
        let (first, away, foreign) = tokio::join!(in_role("here", &config), in_role("away", &config), in_role("foreign", &other_key));
        cluster(&first).prepare_primary(&first.op).await.unwrap();
        away.manager.stop(&away.op).await.unwrap();
        let hurried = || first.op.clone().for_at_most(Some(SHORT));
        let error = cluster(&first).add_members(&hurried(), &[host(&away)]).await.unwrap_err().to_string();
        assert!(error.contains(&host(&away)) && error.contains("Connection refused"), "{error}");
        away.manager.start(&away.op).await.unwrap();
        cluster(&first).add_members(&first.op, &[host(&away)]).await.unwrap();

        let error = cluster(&first).add_members(&hurried(), &[host(&away), host(&foreign)]).await.unwrap_err().to_string();
        assert!(error.contains(&host(&foreign)) && error.contains("Authentication failed"), "{error}");
        // The others serve.
        first.manager.users().unwrap().create(&first.op, &[user("shop.u1", "planted0Kept", &[])]).await.unwrap();
        assert!(!logged().contains("planted0Other0Key") && !logged().contains(KEY), "a key is in the log");
        remove([first, away, foreign]).await;
    });
}
