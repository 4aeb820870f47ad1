//! `prepare` of a real MongoDB, and the calls that make a replica set of two, killed in front of one step of each kind, or of every one.

use std::sync::Arc;

use camino::Utf8Path;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, doc};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trove_guestagent::op::Op;
use trove_guestagent::system::address;
use trove_guestagent::system::mongodb::{Access, Address, Client, Login, Session};

use crate::support::{Guest, PLANTED, Wire, free_port, until};
use crate::sweeps::{
    OPTIONS, answered_at_each_point, assert_covered, backups_killed_at_each_point, call, called_killed_at, cast_prepare_with, mortal,
    prepare_killed_at, serves, stored_in, sweep, told,
};

fn options() -> String {
    format!("{OPTIONS}\ndatastore_manager=mongodb")
}

fn contents(port: u16) -> String {
    let quick = "setParameter.shutdownTimeoutMillisForSignaledShutdown: 0";
    format!("storage.journal.enabled: true\nstorage.wiredTiger.engineConfig.cacheSizeGB: 0.25\n{quick}\nnet.port: {port}\n")
}

async fn session(guest: &Guest, login: Option<(&str, &str, &str)>) -> Session {
    let is_socket = |name: &str| name.starts_with("mongodb-") && name.ends_with(".sock");
    let names = guest.dir.join("run").read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned());
    let socket = guest.dir.join("run").join(names.into_iter().find(|name| is_socket(name)).unwrap());
    let login = login.map(|(database, user, password)| Login { database: database.into(), user: user.into(), password: password.into() });
    Client::new(Arc::new(Access { address: Address::Socket(socket), login })).session(&op()).await.unwrap()
}

fn op() -> Op {
    Op::internal(CancellationToken::new())
}

pub(crate) async fn begin(guest: &Guest, wire: &Wire) {
    begin_with(guest, wire, Value::Null).await;
}

/// From a backup, or new.
pub(crate) async fn begin_with(guest: &Guest, wire: &Wire, backup: Value) {
    cast_prepare_with(guest, wire, contents(free_port()), json!({"net.maxIncomingConnections": 77}), "db1.u1", backup).await;
}

pub(crate) async fn assert_lets_in(guest: &Guest, login: (&str, &str, &str)) {
    session(guest, Some(login)).await;
}

/// Database, user, root and group are there, and nobody else is let in.
async fn check(guest: &Guest) {
    let op = op();
    let user = session(guest, Some(("db1", "u1", PLANTED))).await;
    user.run(&op, "test", "db1", doc! {"insert": "c", "documents": [{}]}).await.unwrap();
    let root = session(guest, Some(("admin", "root", &format!("{PLANTED}-R1")))).await;
    let options = root.run(&op, "test", "admin", doc! {"getCmdLineOpts": 1}).await.unwrap();
    assert_eq!(options.get_document("parsed").unwrap().get_document("net").unwrap().get_i32("maxIncomingConnections").unwrap(), 77);
    let nobody = session(guest, None).await;
    assert!(nobody.run(&op, "test", "admin", doc! {"createUser": "x", "pwd": "y", "roles": []}).await.is_err());
    assert!(!guest.dir.join("data/.trove-private").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn prepare_of_mongodb_is_finished_whichever_step_it_is_killed_at() {
    let named = ["/state/.trove-new-", "/etc/.trove-new-", "/etc/overrides/.trove-new-", "command createUser", "command create"];
    let options = options();
    sweep("prepare of MongoDB", &named, |kind, number| prepare_killed_at(kind, number, &options, begin, check)).await;
}

/// On what a new root disk leaves of an instance, with data of the series before: their mark is what the server goes by.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_of_mongodb_comes_to_its_end_whichever_step_it_is_killed_at() {
    let (guest, mut wire) = mortal(&options()).await;
    let port = free_port();
    let group = json!({"net.maxIncomingConnections": 77});
    cast_prepare_with(&guest, &wire, contents(port), group.clone(), "db1.u1", Value::Null).await;
    serves(&guest, &mut wire).await;
    let root = format!("{PLANTED}-R1");
    let new_disk = async |wire: &mut Wire| {
        let session = session(&guest, Some(("admin", "root", &root))).await;
        session.run(&op(), "test", "admin", doc! {"setFeatureCompatibilityVersion": "5.0"}).await.unwrap();
        drop(session);
        call(wire, "stop_db", json!({"do_not_start_on_reboot": false})).await;
        std::fs::remove_dir_all(guest.dir.join("etc")).unwrap();
        std::fs::remove_file(guest.dir.join("state/os_mongo_admin_creds.json")).unwrap();
    };
    let args = |_| json!({"ds_version": "6.0", "config_contents": contents(port), "config_overrides": group});
    let steps = answered_at_each_point(&guest, &mut wire, "rebuild", args, new_disk, async |wire, _| {
        told(wire, "running").await;
        check(&guest).await;
        let session = session(&guest, Some(("admin", "root", &root))).await;
        let ask = doc! {"getParameter": 1, "featureCompatibilityVersion": 1};
        let version = session.run(&op(), "test", "admin", ask).await.unwrap();
        assert_eq!(version.get_document("featureCompatibilityVersion").unwrap().get_str("version").unwrap(), "6.0");
    })
    .await;
    assert_covered(
        &steps,
        &["/etc/.trove-new-", "/etc/overrides/.trove-new-", "command setFeatureCompatibilityVersion", "/data/.trove-new-", "journal"],
    );
}

/// A member of a shard that is no set yet, and its address.
async fn member() -> (Guest, Wire, String) {
    let (guest, mut wire) = mortal(&options()).await;
    let port = free_port();
    let role = json!({"id": "c", "shard_id": "s", "instance_type": "member", "replica_set_name": "rs1", "key": "planted0Cluster0Key"});
    let args = json!({"packages": [], "databases": [], "users": [], "memory_mb": 512, "device_path": null, "mount_point": guest.dir.join("data"),
                      "config_contents": contents(port), "cluster_config": role});
    let more =
        json!({"_context_tenant": "T", "_context_roles": [], "_context_trove_notification": {"server_type": "guest", "request_id": "r"}});
    wire.cast_with("prepare", args, more).await;
    wire.cast("notify_end").await;
    (guest, wire, format!("{}:{port}", address::own().unwrap()))
}

/// Waits until the set's members are so, as the agent's administrator sees them with the password that a controller is told.
async fn becomes(guest: &Guest, wire: &mut Wire, wanted: &[&str]) {
    let password = call(wire, "get_admin_password", json!({})).await;
    let session = session(guest, Some(("admin", "os_admin", password.as_str().unwrap()))).await;
    until(&format!("the states {wanted:?}"), async || {
        let status = session.run(&op(), "test", "admin", doc! { "replSetGetStatus": 1 }).await.ok()?;
        let members = status.get_array("members").unwrap().iter();
        let states: Vec<&str> = members.map(|member| member.as_document().unwrap().get_str("stateStr").unwrap()).collect();
        (states == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_mongodb_has_its_primary_whichever_step_prep_primary_is_killed_at() {
    let named = ["command replSetInitiate", "command createUser", "/state/.trove-new-", "journal"];
    let run = async |kind: String, number: usize| {
        let (guest, mut wire, _) = member().await;
        let ended = called_killed_at(&guest, &mut wire, "prep_primary", json!({}), &kind, number).await;
        becomes(&guest, &mut wire, &["PRIMARY"]).await;
        ended
    };
    sweep("prep_primary", &named, run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_mongodb_is_whole_whichever_step_add_members_is_killed_at() {
    let run = async |kind: String, number: usize| {
        let ((first, mut wire, _), (_second, _, host)) = tokio::join!(member(), member());
        call(&mut wire, "prep_primary", json!({})).await;
        let ended = called_killed_at(&first, &mut wire, "add_members", json!({"members": [host]}), &kind, number).await;
        becomes(&first, &mut wire, &["PRIMARY", "SECONDARY"]).await;
        ended
    };
    sweep("add_members", &["command replSetReconfig", "journal"], run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_of_mongodb_has_the_password_told_whichever_step_it_is_killed_at() {
    let (guest, mut wire, _) = member().await;
    call(&mut wire, "prep_primary", json!({})).await;
    let args = |round: usize| json!({"password": format!("{PLANTED}-{round}")});
    let nothing = async |_: &mut Wire| ();
    let steps = answered_at_each_point(&guest, &mut wire, "create_admin_user", args, nothing, async |wire, round| {
        assert_eq!(call(wire, "get_admin_password", json!({})).await, args(round)["password"]);
        becomes(&guest, wire, &["PRIMARY"]).await;
    })
    .await;
    assert_covered(&steps, &["command updateUser", "/state/.trove-new-", "journal"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_mongodb_through_the_driver_is_told_of_whichever_step_it_is_killed_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let (guest, mut wire) = mortal(&format!("{}\ndatastore_manager=mongodb", stored_in(folder))).await;
    begin(&guest, &wire).await;
    serves(&guest, &mut wire).await;
    // Some segments of what cannot be compressed.
    let random = |_| {
        let bytes: Vec<u8> = (0..1280).flat_map(|_| *uuid::Uuid::new_v4().as_bytes()).collect();
        Bson::from(doc! {"b": Binary { subtype: BinarySubtype::Generic, bytes }})
    };
    let documents: Vec<Bson> = (0..20).map(random).collect();
    let user = session(&guest, Some(("db1", "u1", PLANTED))).await;
    user.run(&op(), "test", "db1", doc! {"insert": "c", "documents": documents}).await.unwrap();
    let named = ["/state/journal/.trove-new-", "/state/.trove-new-", "database_backups/.trove-new-"];
    backups_killed_at_each_point("create_backup of MongoDB", &guest, &mut wire, folder, &named, || ()).await;
}
