//! A cluster of six, made as the task manager makes one (trove/common/strategies/cluster/experimental/redis/taskmanager.py).

use serde_json::json;
use trove_guestagent::managers::{DatastoreManager, RedisCluster};
use trove_guestagent::model::PrepareRequest;

use crate::support::{Guest, run};

fn member(guest: &Guest) -> &dyn RedisCluster {
    guest.manager.redis_cluster().unwrap()
}

async fn prepared(name: &str) -> Guest {
    let guest = Guest::new(name, |_| ());
    let request: PrepareRequest = serde_json::from_value(json!({
        "config_contents": guest.base("cluster-node-timeout 5000\n"),
        "cluster_config": {"id": "c", "instance_type": "member"},
    }))
    .unwrap();
    guest.manager.prepare_server(&guest.op, &request).await.unwrap();
    guest
}

async fn fact(guest: &Guest, name: &str) -> String {
    let facts = guest.ask(&["CLUSTER", "INFO"]).await;
    facts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().to_owned()
}

async fn wait_for(guest: &Guest, name: &str, wanted: &str) {
    let reached = async {
        let mut look = tokio::time::interval(std::time::Duration::from_millis(50));
        while fact(guest, name).await != wanted {
            look.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("{name} is never {wanted}"));
}

#[test]
fn six_servers_become_a_cluster_that_grows_and_shrinks() {
    run(async {
        let mut members = Vec::new();
        for number in 0..6 {
            members.push(prepared(&format!("member{number}")).await);
        }
        let head = &members[0];
        // A member on its own knows no address: the guest's is told, and the server's port.
        let (host, port) = member(head).node_address(&head.op).await.unwrap();
        assert!(host.parse::<std::net::IpAddr>().is_ok() && port == head.port.to_string(), "{host} {port}");
        for guest in &members[1..] {
            member(guest).meet(&guest.op, "127.0.0.1", &head.port.to_string()).await.unwrap();
            // Again, as after an answer that was lost.
            member(guest).meet(&guest.op, "127.0.0.1", &head.port.to_string()).await.unwrap();
        }
        // The division of a task manager under Python 3.
        let share = 16384.0 / 6.0;
        let (mut left, mut first) = (16384 % 6, 0.0);
        for guest in &members {
            let mut last = first + share;
            if left > 0 {
                left -= 1
            } else {
                last -= 1.0
            }
            member(guest).add_slots(&guest.op, first, last).await.unwrap();
            member(guest).add_slots(&guest.op, first, last).await.unwrap();
            first = last + 1.0;
        }
        for guest in &members {
            wait_for(guest, "cluster_state", "ok").await;
            wait_for(guest, "cluster_slots_assigned", "16384").await;
            wait_for(guest, "cluster_known_nodes", "6").await;
        }
        let taken = member(head).add_slots(&head.op, 16000.0, 16383.0).await.unwrap_err().to_string();
        assert!(taken.contains("already busy"), "{taken}");

        // It serves: a key is where its slot is, and elsewhere the user is sent there.
        let mut served = 0;
        for guest in &members {
            match guest.as_user(None, &["SET", "x", "1"]).await {
                Ok(_) => served += 1,
                Err(error) => assert_eq!(error.code(), Some("MOVED"), "{error}"),
            }
        }
        assert_eq!(served, 1);

        // Grow: the head says where it is, the new member meets it.
        let new = prepared("grown").await;
        let (_, port) = member(head).node_address(&head.op).await.unwrap();
        member(&new).meet(&new.op, "127.0.0.1", &port).await.unwrap();
        wait_for(head, "cluster_known_nodes", "7").await;
        wait_for(&new, "cluster_state", "ok").await;

        // Shrink: only who has no slots may go, and everybody who stays forgets it.
        assert_eq!(member(head).id_for_removal(&head.op).await.unwrap(), None);
        let id = member(&new).id_for_removal(&new.op).await.unwrap().unwrap();
        for guest in &members {
            member(guest).remove_nodes(&guest.op, std::slice::from_ref(&id)).await.unwrap();
            member(guest).remove_nodes(&guest.op, &[id.clone(), "0".repeat(40)]).await.unwrap();
            assert!(!guest.ask(&["CLUSTER", "NODES"]).await.contains(&id));
        }

        // Membership outlives agent and server, and a flavor resize.
        let again = members[1].agent_again();
        again.manager.start_with_configuration(&again.op, &again.base("cluster-node-timeout 5000\nmaxclients 66\n")).await.unwrap();
        wait_for(&again, "cluster_state", "ok").await;
        assert!(again.dir.join("volume/cluster.conf").exists() && again.parameter("maxclients").await == "66");
        again.manager.stop(&again.op).await.unwrap();
        new.remove().await;
        for guest in members {
            guest.remove().await;
        }
    });
}

#[test]
fn a_server_outside_a_cluster_says_so() {
    run(async {
        let guest = Guest::prepared("lonely", "").await;
        let error = member(&guest).node_address(&guest.op).await.unwrap_err().to_string();
        assert!(error.contains("cluster support disabled"), "{error}");
        assert!(member(&guest).meet(&guest.op, "127.0.0.1", "1").await.is_err());
        guest.remove().await;
    });
}
