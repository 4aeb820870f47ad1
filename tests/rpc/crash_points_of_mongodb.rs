//! `prepare` of a real MongoDB, killed in front of one step of each kind, or of every one.

use std::sync::Arc;

use mongodb::bson::doc;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trove_guestagent::op::Op;
use trove_guestagent::system::mongodb::{Access, Address, Client, Login};

use crate::crash_points::{OPTIONS, cast_prepare_with, prepare_killed_at, sweep};
use crate::support::{Guest, PLANTED, Wire, free_port};

async fn begin(guest: &Guest, wire: &Wire) {
    let contents = format!("storage.journal.enabled: true\nstorage.wiredTiger.engineConfig.cacheSizeGB: 0.25\nnet.port: {}\n", free_port());
    cast_prepare_with(guest, wire, contents, json!({"net.maxIncomingConnections": 77}), "db1.u1", Value::Null).await;
}

/// Database, user, root and group are there, and nobody else is let in.
async fn check(guest: &Guest) {
    let op = Op::internal(CancellationToken::new());
    let is_socket = |name: &str| name.starts_with("mongodb-") && name.ends_with(".sock");
    let names = guest.dir.join("run").read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned());
    let socket = guest.dir.join("run").join(names.into_iter().find(|name| is_socket(name)).unwrap());
    let session = async |login: Option<(&str, &str, &str)>| {
        let login =
            login.map(|(database, user, password)| Login { database: database.into(), user: user.into(), password: password.into() });
        Client::new(Arc::new(Access { address: Address::Socket(socket.clone()), login })).session(&op).await
    };
    let user = session(Some(("db1", "u1", PLANTED))).await.unwrap();
    user.run(&op, "test", "db1", doc! {"insert": "c", "documents": [{}]}).await.unwrap();
    let root = session(Some(("admin", "root", &format!("{PLANTED}-R1")))).await.unwrap();
    let options = root.run(&op, "test", "admin", doc! {"getCmdLineOpts": 1}).await.unwrap();
    assert_eq!(options.get_document("parsed").unwrap().get_document("net").unwrap().get_i32("maxIncomingConnections").unwrap(), 77);
    let nobody = session(None).await.unwrap();
    assert!(nobody.run(&op, "test", "admin", doc! {"createUser": "x", "pwd": "y", "roles": []}).await.is_err());
    assert!(!guest.dir.join("data/.trove-private").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn prepare_of_mongodb_is_finished_whichever_step_it_is_killed_at() {
    let named = ["/state/.trove-new-", "/etc/.trove-new-", "/etc/overrides/.trove-new-", "command createUser", "command create"];
    let options = format!("{OPTIONS}\ndatastore_manager=mongodb");
    sweep("prepare of MongoDB", &named, |kind, number| prepare_killed_at(kind, number, &options, begin, check)).await;
}
