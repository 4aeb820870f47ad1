//! Streaming replication over TLS, between real servers with certificates that `ssl_action` has given them.

use serde_json::{Value, json};
use trove_guestagent::managers::{DatastoreManager, replication, upgrade};
use trove_guestagent::system::postgresql::SqlText;

use crate::backup::{beside, source};
use crate::client_tls::{act, until_presented};
use crate::identity::Identity;
use crate::replication::{assert_rewound, attach, context, equal_under_load, info, make_replica, slots, strategy};
use crate::support::{Guest, logged, run, user};
use crate::upgrade::{moved, no_volume};

const AUTHORITY: &str = "etc/replication-source-ca.pem";

async fn told(replica: &Guest) -> String {
    replica.parameter("primary_conninfo").await
}

/// How the connected replicas of a source speak with it.
async fn is_encrypted(source: &Guest) -> Vec<Option<String>> {
    let sql = "SELECT ssl FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) WHERE state = 'streaming'";
    source.rows(&SqlText::new(sql)).await.into_iter().map(|mut row| row.remove(0)).collect()
}

async fn write(source: &Guest, number: u32) {
    source.as_tls_user("u", "p", "shop", &format!("INSERT INTO t VALUES ({number})")).await.unwrap();
}

/// The certificate is another one from now on, and replicas have to connect again.
async fn renew(source: &Guest, authority: &Identity, server: &Identity) {
    demand(source, authority, server).await;
    source.rows(&SqlText::new("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")).await;
}

async fn refused(replica: &Guest, told: Value, reason: &str) {
    let error = replication::attach(&replica.op, &replica.manager, &info(told), None).await.unwrap_err().to_string();
    assert!(error.contains(reason) && error.contains("ssl_ca_file") && !error.contains("Planted"), "{error}");
}

async fn loaded(authority: &Identity) -> (Guest, Identity) {
    let guest = source("tls-source", None).await;
    guest.create_databases(&["shop"]).await;
    guest.users().create(&guest.op, &[user("u", "p", &["shop"])]).await.unwrap();
    guest.as_user("u", "p", "shop", "CREATE TABLE t (i INT PRIMARY KEY)").await.unwrap();
    let server = Identity::new("source", Some(authority), Some("127.0.0.1"));
    demand(&guest, authority, &server).await;
    strategy(&guest).enable_as_source(&guest.op, None).await.unwrap();
    (guest, server)
}

#[test]
fn replicas_are_made_follow_and_are_rewound_over_tls_and_verify_their_source() {
    run(async {
        let authority = Identity::new("authority", None, None);
        let (source, _) = loaded(&authority).await;
        let context_of_source = context(&source).await;
        assert_eq!(context_of_source["master"]["tls"]["ca"], json!(authority.pem()));
        assert!(!context_of_source.to_string().contains("PRIVATE KEY"));
        // In the clear, nobody gets in with the account: what follows is encrypted, the copy among it.
        let password = context_of_source["replica_conf"]["replication_user"]["password"].as_str().unwrap();
        let refusal = source.as_user("replicator", password, "postgres", "SELECT 1").await.unwrap_err();
        assert!(refusal.contains("no encryption"), "{refusal}");
        let replica = beside("tls-replica", &source);
        make_replica(&replica, &source, None).await;
        let conninfo = told(&replica).await;
        assert!(conninfo.contains("sslmode=verify-full") && conninfo.contains(AUTHORITY), "{conninfo}");
        assert_eq!(is_encrypted(&source).await, [Some("t".to_owned())]);

        // On another root disk it verifies its source as before.
        let replica = moved(replica).await;
        std::fs::create_dir(replica.dir.join("state")).unwrap();
        let (base, volume) = (replica.base(""), no_volume(&replica));
        upgrade::rebuild(&replica.op, &replica.manager, replica.manager.upgrades().unwrap(), &volume, Some(&base), None).await.unwrap();
        assert_eq!(std::fs::read_to_string(replica.dir.join(AUTHORITY)).unwrap(), authority.pem());

        // New certificates of the source: the replica goes on.
        renew(&source, &authority, &Identity::new("renewed", Some(&authority), Some("127.0.0.1"))).await;
        write(&source, 1).await;
        equal_under_load(&source, &[&replica]).await;
        assert_eq!(is_encrypted(&source).await, [Some("t".to_owned())]);
        wrong_authorities(&source, &replica, &authority).await;
        taken_over(source, replica, &authority).await;
        assert!(!logged().contains("PRIVATE KEY"));
    });
}

/// Somebody else with the source's address is refused before anything changes; a certificate that names no address is taken by its authority.
async fn wrong_authorities(source: &Guest, replica: &Guest, authority: &Identity) {
    let nameless = Identity::new("nameless", Some(authority), None);
    renew(source, authority, &nameless).await;
    let stranger = Identity::new("authority", None, None);
    let mut wrong = context(source).await;
    wrong["master"]["tls"]["ca"] = json!(stranger.pem());
    refused(replica, wrong.clone(), "certificate verify failed").await;
    wrong["master"]["tls"]["ca"] = json!("none");
    let error = replication::attach(&replica.op, &replica.manager, &info(wrong), None).await.unwrap_err().to_string();
    assert!(error.contains("no certificate in PEM"), "{error}");
    assert!(told(replica).await.contains("sslmode=verify-full"));
    assert_eq!(std::fs::read_to_string(replica.dir.join(AUTHORITY)).unwrap(), authority.pem());
    as_another_agent_tells(source, replica, [authority, &nameless, &stranger]).await;
}

/// As one of 2026.1 does.
async fn as_another_agent_tells(source: &Guest, replica: &Guest, [authority, nameless, stranger]: [&Identity; 3]) {
    let mut other = context(source).await;
    other["master"].as_object_mut().unwrap().remove("tls");
    other["ssl_mode"] = json!("enforced");
    other["cert_container"] = json!({"private_key": "Planted-key-1", "certificate": nameless.pem(), "ca": stranger.pem()});
    refused(replica, other.clone(), "certificate verify failed").await;
    other["cert_container"]["ca"] = json!(authority.pem());
    replication::attach(&replica.op, &replica.manager, &info(other), None).await.unwrap();
    assert!(told(replica).await.contains("sslmode=verify-ca"));
    write(source, 2).await;
    equal_under_load(source, &[replica]).await;
}

/// The replica becomes the source, with a certificate of its own; what the old one alone has is undone, over TLS.
async fn taken_over(old: Guest, new: Guest, authority: &Identity) {
    let server = Identity::new("new", Some(authority), Some("127.0.0.1"));
    demand(&new, authority, &server).await;
    promote(&new).await;
    comes_back(&old, &new).await;
    assert_eq!((told(&old).await.contains("sslmode=verify-full"), is_encrypted(&new).await), (true, vec![Some("t".to_owned())]));
    switched_off(&old, &new).await;
    // A source that does not say so may want TLS all the same.
    demand(&new, authority, &server).await;
    strategy(&old).detach(&old.op, false).await.unwrap();
    assert_eq!(slots(&new).await, Vec::<String>::new());
    new.remove().await;
    old.remove().await;
}

/// Nobody gets in without TLS from here on.
async fn demand(guest: &Guest, authority: &Identity, server: &Identity) {
    act(guest, "enforced", Some(server.container(authority))).await.unwrap();
    until_presented(guest, Some(server)).await;
}

async fn comes_back(old: &Guest, new: &Guest) {
    write(old, 3).await;
    write(new, 4).await;
    attach(old, new).await.unwrap();
    strategy(old).demote(&old.op).await.unwrap();
    assert_rewound();
    equal_under_load(new, &[old]).await;
}

async fn promote(replica: &Guest) {
    strategy(replica).detach(&replica.op, true).await.unwrap();
    strategy(replica).enable_as_source(&replica.op, None).await.unwrap();
    strategy(replica).set_read_only(&replica.op, false).await.unwrap();
}

/// Attached again, a replica has nothing of it any more.
async fn switched_off(replica: &Guest, source: &Guest) {
    act(source, "enforced", None).await.unwrap();
    until_presented(source, None).await;
    assert!(context(source).await["master"].get("tls").is_none());
    attach(replica, source).await.unwrap();
    let left = [AUTHORITY, "mnt/.trove-replica/replication-source-ca.pem"].map(|file| replica.dir.join(file).exists());
    assert_eq!((told(replica).await.contains("ssl"), left), (false, [false, false]));
}
