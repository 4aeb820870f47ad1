//! Clusters, made as the task manager makes one (trove/common/strategies/cluster/experimental/mongodb/taskmanager.py).

use std::time::Duration;

use mongodb::bson::doc;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use trove_guestagent::error::{Error, Result};
use trove_guestagent::managers::{DatastoreManager, MongoDbCluster};
use trove_guestagent::model::{DatabaseSpec, MemberRole, PageRequest, ServiceStatus};
use trove_guestagent::system::address;

use crate::accounts::{names, user};
use crate::router::Router;
use crate::support::{Guest, logged, run};

/// What Trove makes: letters and digits.
pub(crate) const KEY: &str = "planted0Cluster0Key0planted0Cluster0";

pub(crate) fn cluster(guest: &Guest) -> &dyn MongoDbCluster {
    guest.manager.mongodb_cluster().unwrap()
}

pub(crate) fn member(set: &str, key: Option<&str>) -> Value {
    match key {
        Some(key) => json!({"id": "c", "shard_id": "s", "instance_type": "member", "replica_set_name": set, "key": key}),
        None => json!({"id": "c", "shard_id": "s", "instance_type": "member", "replica_set_name": set}),
    }
}

/// A guest in a role.
pub(crate) async fn in_role(name: &str, cluster_config: &Value) -> Guest {
    let guest = Guest::new(name);
    guest.prepare_as(cluster_config).await.unwrap();
    // What `prepare` ends with.
    assert!(!guest.manager.root().unwrap().is_enabled(&guest.op).await.unwrap());
    guest
}

pub(crate) fn host(guest: &Guest) -> String {
    format!("{}:{}", address::own().unwrap(), guest.port)
}

pub(crate) fn hosts(guests: &[Guest]) -> Vec<String> {
    guests.iter().map(host).collect()
}

pub(crate) async fn remove(guests: impl IntoIterator<Item = Guest>) {
    for guest in guests {
        guest.remove().await;
    }
}

/// The guest whose server is the primary.
pub(crate) async fn primary(guests: &[Guest]) -> &Guest {
    let looked = async {
        let mut look = tokio::time::interval(Duration::from_millis(100));
        loop {
            for guest in guests {
                let Ok(session) = guest.manager.client().session(&guest.op).await else { continue };
                let hello = session.run(&guest.op, "test", "admin", doc! { "hello": 1 }).await;
                if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                    return guest;
                }
            }
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looked).await.expect("a set elects a primary")
}

pub(crate) async fn states(guest: &Guest) -> Vec<String> {
    let status = guest.ask("admin", doc! { "replSetGetStatus": 1 }).await;
    let members = status.get_array("members").unwrap().iter();
    members.map(|member| member.as_document().unwrap().get_str("stateStr").unwrap().to_owned()).collect()
}

#[test]
fn three_members_become_a_replica_set_as_trains_task_manager_has_it() {
    run(async {
        let config = member("rs1", Some(KEY));
        let (first, second, third) = tokio::join!(in_role("one", &config), in_role("two", &config), in_role("three", &config));
        let guests = [first, second, third];
        let first = &guests[0];
        // Whatever cut the first one short.
        first.prepare_as(&config).await.unwrap();
        // Before there is a set nobody gets in without the key.
        let nobody = first.user(None).await.unwrap();
        let initiate = nobody.run(&first.op, "test", "admin", doc! { "replSetInitiate": {} }).await.unwrap_err();
        assert_eq!(initiate.database_code(), Some(13), "{initiate}");

        guests[1].manager.stop(&guests[1].op).await.unwrap();
        guests[1].manager.start(&guests[1].op).await.unwrap();
        // Each call again, as after an answer that was lost.
        for _ in 0..2 {
            cluster(first).prepare_primary(&first.op).await.unwrap();
        }
        for _ in 0..2 {
            cluster(first).add_members(&first.op, &hosts(&guests[1..])).await.unwrap();
        }
        assert_eq!(states(first).await, ["PRIMARY", "SECONDARY", "SECONDARY"]);
        for guest in &guests {
            assert_eq!(cluster(guest).replica_set_name(&guest.op).await.unwrap(), "rs1");
            assert_eq!(cluster(guest).key().unwrap().expose_secret(), KEY);
            guest.becomes(ServiceStatus::Running).await;
            assert!(!guest.manager.root().unwrap().is_enabled(&guest.op).await.unwrap());
        }

        assert_eq!(first.manager.role(&first.op).await.unwrap(), Some(MemberRole::Primary { replicas: 2 }));
        let replica = guests[1].manager.role(&guests[1].op).await.unwrap();
        assert_eq!(replica, Some(MemberRole::Replica { source: host(first), trouble: None }));

        // It serves: a user of the primary is one of all members, and of nobody else.
        let users = first.manager.users().unwrap();
        users.create(&first.op, &[user("shop.u1", "planted0User", &["shop"])]).await.unwrap();
        let written = first.user(Some(("shop", "u1", "planted0User"))).await.unwrap();
        let insert = doc! { "insert": "c", "documents": [{ "_id": 1 }], "writeConcern": { "w": 3, "wtimeout": 30_000 } };
        written.run(&first.op, "test", "shop", insert).await.unwrap();
        let second = &guests[1];
        assert!(second.user(Some(("shop", "u1", "planted0User"))).await.is_ok());
        let listed = second.manager.users().unwrap().list(&second.op, &PageRequest::default()).await.unwrap();
        assert_eq!(names(&listed.items), ["shop.u1"]);
        // Whichever member is asked, the primary makes it.
        second.manager.users().unwrap().create(&second.op, &[user("shop.u2", "planted0User", &["shop"])]).await.unwrap();
        assert!(first.user(Some(("shop", "u2", "planted0User"))).await.is_ok());
        let again = second.manager.users().unwrap().create(&second.op, &[user("shop.u2", "planted0Other", &[])]).await.unwrap_err();
        assert!(again.to_string().contains("exists already"), "{again}");
        second.manager.databases().unwrap().create(&second.op, &[DatabaseSpec::named("made")]).await.unwrap();

        // Membership outlives a flavor resize.
        second.manager.start_with_configuration(&second.op, &second.base("net.maxIncomingConnections: 777\n")).await.unwrap();
        assert!(second.file().contains("777") && second.file().contains("replSetName: rs1"), "{}", second.file());
        assert_eq!(cluster(second).replica_set_name(&second.op).await.unwrap(), "rs1");

        let password = cluster(first).admin_password().unwrap();
        for secret in [KEY, "planted0User", password.expose_secret()] {
            assert!(!logged().contains(secret), "a secret is in the log");
        }
        remove(guests).await;
    });
}

#[test]
fn members_without_a_key_become_a_replica_set_as_kilos_task_manager_has_it() {
    run(async {
        let config = member("rs1", None);
        let (first, second) = tokio::join!(in_role("one", &config), in_role("two", &config));
        let guests = [first, second];
        let first = &guests[0];
        cluster(first).add_members(&first.op, &hosts(&guests[1..])).await.unwrap();
        assert_eq!(states(first).await, ["PRIMARY", "SECONDARY"]);
        assert!(matches!(cluster(first).key(), Err(Error::NotFound { .. })));
        assert!(matches!(cluster(first).admin_password(), Err(Error::NotFound { .. })));
        remove(guests).await;
    });
}

#[test]
fn config_servers_become_a_set_and_a_router_serves_its_calls_with_a_scripted_stand_in_of_mongos() {
    run(async {
        let role = |kind: &str| json!({"id": "c", "instance_type": kind, "key": KEY});
        let of_config = role("config_server");
        let (one, two) = tokio::join!(in_role("config1", &of_config), in_role("config2", &of_config));
        let config = [one, two];
        let router = in_role("router", &role("query_router")).await;
        // It waits, and says what for.
        let early = router.manager.start(&router.op).await.unwrap_err().to_string();
        assert!(early.contains("no config servers yet"), "{early}");
        router.becomes(ServiceStatus::Shutdown).await;
        let stand_in = Router::listen(&router.dir.join(format!("run/mongodb-{}.sock", router.port)), config[0].port);

        for _ in 0..2 {
            cluster(&router).add_config_servers(&router.op, &hosts(&config)).await.unwrap();
        }
        assert_eq!(states(&config[0]).await, ["PRIMARY", "SECONDARY"]);
        let written = std::fs::read_to_string(router.dir.join("etc/mongos.conf")).unwrap();
        assert!(written.contains(&format!("configDB: \"configsvr/{}\"", hosts(&config).join(","))), "{written}");
        assert!(!written.contains("storage") && !written.contains("authorization"), "{written}");
        router.becomes(ServiceStatus::Running).await;

        let password = "planted0Admin".into();
        for _ in 0..2 {
            cluster(&router).create_admin(&router.op, &password).await.unwrap();
        }
        // An account of the cluster is one of its config servers.
        assert!(config[0].user(Some(("admin", "os_admin", "planted0Admin"))).await.is_ok());
        assert_eq!(cluster(&router).admin_password().unwrap().expose_secret(), "planted0Admin");
        cluster(&router).add_shard(&router.op, "rs1", "192.0.2.1").await.unwrap();
        let asked = stand_in.asked("addShard");
        assert_eq!(asked[0].get_str("addShard").unwrap(), format!("rs1/192.0.2.1:{}", router.port));
        assert!(cluster(&router).is_shard_active(&router.op, "rs1").await.unwrap());
        assert!(!cluster(&router).is_shard_active(&router.op, "rs2").await.unwrap());
        let refused = cluster(&router).add_shard(&router.op, "nobody", "192.0.2.1").await.unwrap_err();
        assert_eq!(refused.database_code(), Some(133), "{refused}");

        // A second router is told the password, and users are made through either.
        cluster(&router).store_admin_password(&password).unwrap();
        let root = router.manager.root().unwrap().enable(&router.op, Some("planted0Root".into())).await.unwrap();
        assert_eq!(root.name, "admin.root");
        assert!(router.manager.root().unwrap().is_enabled(&router.op).await.unwrap());
        assert!(config[0].user(Some(("admin", "root", "planted0Root"))).await.is_ok());
        for secret in [KEY, "planted0Admin", "planted0Root"] {
            assert!(!logged().contains(secret), "a secret is in the log");
        }
        drop(stand_in);
        remove(config.into_iter().chain([router])).await;
    });
}

#[test]
fn what_is_no_role_no_name_or_no_address_is_refused_and_says_why() {
    run(async {
        let guest = Guest::new("bad");
        let of = |config: Value| (config.clone(), format!("{config}"));
        for (config, shown) in [
            json!({}),
            json!({"instance_type": "master"}),
            json!({"instance_type": "member"}),
            member("a/b", None),
            member("rs1", Some("no key!")),
        ]
        .map(of)
        {
            assert!(guest.prepare_as(&config).await.is_err(), "{shown}");
            assert!(!guest.dir.join("etc/overrides").exists(), "{shown}");
        }
        // Outside of a cluster the calls say so.
        guest.prepare("").await.unwrap();
        let refusals: [Result<()>; 4] = [
            cluster(&guest).add_members(&guest.op, &["192.0.2.1".to_owned()]).await,
            cluster(&guest).add_config_servers(&guest.op, &["192.0.2.1".to_owned()]).await,
            cluster(&guest).store_admin_password(&"planted0Wrong".into()),
            cluster(&guest).prepare_primary(&guest.op).await,
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Err(Error::BadRequest { .. })), "{refusal:?}");
        }
        assert!(cluster(&guest).key().is_err(), "the key of a server of its own is nobody's");
        guest.remove().await;
    });
}
