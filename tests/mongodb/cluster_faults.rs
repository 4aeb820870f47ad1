//! Clusters whose servers are away, know another key, or change their roles in the middle.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use trove_guestagent::managers::DatastoreManager;

use crate::accounts::user;
use crate::cluster::{KEY, cluster, host, hosts, in_role, member, primary, remove};
use crate::support::{Guest, logged, run};

/// What a controller's patience is in these tests: the agent answers before it ends.
const SHORT: Duration = Duration::from_secs(5);

/// A set of the first two, and a third member for it, whose servers fail when they are told to (src/mongo/db/fail_point_command).
async fn set_and_one_more() -> [Guest; 3] {
    let member = |name: &'static str| async move {
        let guest = Guest::new(name);
        guest.prepare_with(&member("rs1", Some(KEY)), "setParameter.enableTestCommands: true\n").await.unwrap();
        guest
    };
    let (first, second, third) = tokio::join!(member("first"), member("second"), member("third"));
    cluster(&first).prepare_primary(&first.op).await.unwrap();
    cluster(&first).add_members(&first.op, &[host(&second)]).await.unwrap();
    [first, second, third]
}

/// Has the server treat the next of these commands so, or all of them; returns how many it has treated so far.
async fn fail(guest: &Guest, mode: Bson, data: Document) -> i64 {
    let told = guest.ask("admin", doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data }).await;
    told.get("count").and_then(|count| count.as_i64().or(count.as_i32().map(i64::from))).unwrap()
}

/// Has a primary step down while it holds this command, which comes from `call`.
async fn steps_down_in<T>(guest: &Guest, command: &str, call: impl Future<Output = T>) -> T {
    let held = doc! { "failCommands": [command], "blockConnection": true, "blockTimeMS": 2_000 };
    let before = fail(guest, doc! { "times": 1 }.into(), held).await;
    let wait = doc! { "waitForFailPoint": "failCommand", "timesEntered": before + 1, "maxTimeMS": 30_000 };
    let stepping = async {
        guest.ask("admin", wait).await;
        step_down(guest).await;
    };
    tokio::join!(call, stepping).0
}

#[test]
fn a_primary_that_steps_down_in_the_middle_of_a_call_is_followed() {
    run(async {
        let guests = set_and_one_more().await;
        let first = &guests[0];
        let adding = async { cluster(first).add_members(&first.op, &hosts(&guests[1..])).await };
        steps_down_in(first, "replSetReconfig", adding).await.unwrap();
        let second = primary(&guests).await;
        assert_ne!(second.port, first.port);
        // What is done is found done, although the guest that is asked is not the primary any more.
        cluster(first).add_members(&first.op, &hosts(&guests[1..])).await.unwrap();

        let new = [user("shop.u1", "planted0Step", &["shop"])];
        steps_down_in(second, "createUser", second.manager.users().unwrap().create(&second.op, &new)).await.unwrap();
        let third = primary(&guests).await;
        assert_ne!(third.port, second.port);
        let granted = ["stock".to_owned()];
        steps_down_in(third, "grantRolesToUser", third.manager.users().unwrap().grant_access(&third.op, "shop.u1", None, &granted))
            .await
            .unwrap();
        let last = primary(&guests).await;
        assert_ne!(last.port, third.port);
        // All of it is the set's.
        for database in ["shop", "stock"] {
            let insert = doc! { "insert": "c", "documents": [{ "_id": 1 }], "writeConcern": { "w": 3, "wtimeout": 30_000 } };
            last.user(Some(("shop", "u1", "planted0Step"))).await.unwrap().run(&first.op, "test", database, insert).await.unwrap();
        }
        assert!(!logged().contains("planted0Step"), "a password is in the log");
        remove(guests).await;
    });
}

#[test]
fn a_change_that_nobody_knows_the_end_of_is_made_sure_of_or_told() {
    run(async {
        let guests = set_and_one_more().await;
        let first = &guests[0];
        let users = first.manager.users().unwrap();
        // Done, and then the primary steps down: it says that most members may not have it.
        let unsure = |command: &str| doc! { "failCommands": [command], "writeConcernError": { "code": 189, "errmsg": "stepped down" } };
        fail(first, doc! { "times": 1 }.into(), unsure("createUser")).await;
        users.create(&first.op, &[user("shop.u1", "planted0Sure", &["shop"])]).await.unwrap();
        assert!(first.user(Some(("shop", "u1", "planted0Sure"))).await.is_ok());
        fail(first, doc! { "times": 1 }.into(), unsure("dropUser")).await;
        users.delete(&first.op, &user("shop.u1", "", &[])).await.unwrap();
        assert!(users.get(&first.op, "shop.u1", None).await.unwrap().is_none());
        // A primary that is gone before it answers.
        fail(first, doc! { "times": 1 }.into(), doc! { "failCommands": ["createUser"], "closeConnection": true }).await;
        users.create(&first.op, &[user("shop.u2", "planted0Sure", &["shop"])]).await.unwrap();

        // The set does not come to rest while the caller waits.
        let interrupted = doc! { "failCommands": ["createUser"], "errorCode": 11602 };
        fail(first, "alwaysOn".into(), interrupted).await;
        let hurried = first.op.clone().for_at_most(Some(SHORT));
        let error = users.create(&hurried, &[user("shop.u3", "planted0Sure", &[])]).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("may be there or not") && text.contains("create user shop.u3"), "{text}");
        assert!(text.contains("InterruptedDueToReplStateChange"), "{text}");
        assert_eq!(error.database_code(), Some(11602));
        fail(first, "off".into(), doc! {}).await;
        assert!(users.get(&first.op, "shop.u3", None).await.unwrap().is_none());
        assert!(!logged().contains("planted0Sure"), "a password is in the log");
        remove(guests).await;
    });
}

/// Has a primary hand over to another member (manual, "replSetStepDown").
pub(crate) async fn step_down(guest: &Guest) {
    let session = guest.manager.client().session(&guest.op).await.unwrap();
    let handed_over = async {
        let mut look = tokio::time::interval(Duration::from_millis(200));
        let command = doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 8 };
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
