//! Another server on the data of an instance, as after a new root disk.

use mongodb::bson::doc;
use secrecy::ExposeSecret;
use serde_json::json;
use trove_guestagent::error::Result;
use trove_guestagent::managers::{DatastoreManager, Upgrades, upgrade};
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::volume::Volume;

use crate::accounts::user;
use crate::cluster::{KEY, cluster, member, primary};
use crate::support::{Guest, QUICK, logged, run, values};

const PASSWORD: &str = "planted0Password0of0a0user";

/// An instance without a volume of its own.
fn no_volume(guest: &Guest) -> Volume {
    Volume::new(guest.dir.join("no-device"), &guest.settings.volume, std::sync::Arc::new(SystemCommands))
}

/// What a new root disk has: nothing of the instance's.
fn new_disk(guest: &Guest) -> Guest {
    std::fs::remove_dir_all(guest.dir.join("etc")).unwrap();
    std::fs::remove_dir_all(guest.dir.join("state")).unwrap();
    guest.agent_again()
}

/// Data of the series before, whose server is not to be had here: what the next one finds of them is this mark.
async fn data_of_the_series_before(guest: &Guest) {
    guest.ask("admin", doc! {"setFeatureCompatibilityVersion": "5.0"}).await;
    guest.manager.stop(&guest.op).await.unwrap();
    std::fs::write(guest.dir.join("volume/.trove-server"), "MongoDB 5.0.32\n").unwrap();
}

/// An instance with data, a user and a group.
async fn instance(name: &str) -> Guest {
    let guest = Guest::prepared(name).await;
    let group = values(json!({"net.maxIncomingConnections": 77}));
    guest.manager.config().unwrap().update(&guest.op, &group, false).await.unwrap();
    guest.manager.users().unwrap().create(&guest.op, &[user("a.u", PASSWORD, &["a"])]).await.unwrap();
    let session = guest.user(Some(("a", "u", PASSWORD))).await.unwrap();
    session.run(&guest.op, "test", "a", doc! {"insert": "c", "documents": [{"kept": 4711}]}).await.unwrap();
    guest
}

async fn assert_kept(guest: &Guest) {
    let session = guest.user(Some(("a", "u", PASSWORD))).await.unwrap();
    let found = session.documents(&guest.op, "test", "a", doc! {"find": "c"}).await.unwrap();
    assert_eq!(found.first().unwrap().get_i32("kept").unwrap(), 4711);
    assert!(guest.user(None).await.unwrap().run(&guest.op, "test", "a", doc! {"find": "c"}).await.is_err());
    let options = guest.ask("admin", doc! {"getCmdLineOpts": 1}).await;
    assert_eq!(options.get_document("parsed").unwrap().get_document("net").unwrap().get_i32("maxIncomingConnections").unwrap(), 77);
    let version = guest.parameter("featureCompatibilityVersion").await;
    assert_eq!(version.as_document().unwrap().get_str("version").unwrap(), "6.0", "the next server reads the data of this one only");
    let note = std::fs::read_to_string(guest.dir.join("volume/.trove-server")).unwrap();
    assert!(note.starts_with("MongoDB 6.0."), "{note}");
    assert!(!logged().contains(PASSWORD), "the log shows the password");
}

fn upgrades(guest: &Guest) -> &dyn Upgrades {
    guest.manager.upgrades().unwrap()
}

#[test]
fn an_instance_moves_to_the_next_root_disk_and_series() {
    run(async {
        let guest = instance("moved").await;
        data_of_the_series_before(&guest).await;
        let saved = upgrade::leave(&guest.op, &guest.manager, upgrades(&guest), &no_volume(&guest)).await.unwrap();
        assert_eq!(serde_json::to_value(saved).unwrap()["mount_point"], guest.dir.join("volume").as_str());
        let next = new_disk(&guest);
        upgrade::arrive(&next.op, &next.manager, upgrades(&next), None).await.unwrap();
        assert_kept(&next).await;
        assert!(!next.dir.join("volume/.trove-upgrade").exists());
        next.remove().await;
    });
}

async fn rebuilt(guest: &Guest) -> Result<()> {
    let (base, group) = (guest.base(""), values(json!({"net.maxIncomingConnections": 77})));
    upgrade::rebuild(&guest.op, &guest.manager, upgrades(guest), &no_volume(guest), Some(&base), Some(&group)).await
}

#[test]
fn a_rebuild_goes_on_with_data_that_the_installed_server_reads() {
    run(async {
        let guest = instance("rebuilt").await;
        data_of_the_series_before(&guest).await;
        let next = new_disk(&guest);
        rebuilt(&next).await.unwrap();
        assert_kept(&next).await;
        // It may be sent again, and on an instance that an earlier agent has made.
        std::fs::remove_dir_all(next.dir.join("volume/.trove-kept")).unwrap();
        next.manager.stop(&next.op).await.unwrap();
        let next = new_disk(&next);
        rebuilt(&next).await.unwrap();
        assert_kept(&next).await;

        next.manager.stop(&next.op).await.unwrap();
        let note = next.dir.join("volume/.trove-server");
        for (server, reason) in [("MongoDB 99.0.0", "a downgrade is not possible"), ("MongoDB 4.4.29", "each series in between")] {
            std::fs::write(&note, format!("{server}\n")).unwrap();
            let error = rebuilt(&next).await.unwrap_err().to_string();
            assert!(error.contains(server) && error.contains(reason) && error.contains("Nothing was changed"), "{error}");
        }
        std::fs::rename(next.dir.join("volume"), next.dir.join("aside")).unwrap();
        let error = rebuilt(&next).await.unwrap_err().to_string();
        assert!(error.contains("there is no database in"), "{error}");
        std::fs::remove_dir_all(next.dir.join("volume")).ok();
        std::fs::rename(next.dir.join("aside"), next.dir.join("volume")).unwrap();
        let here = upgrades(&next).installed(&next.op).await.unwrap();
        assert!(upgrades(&next).check_step(&here, "7.0").is_ok() && upgrades(&next).check_step(&here, "6.0.27").is_ok());
        let error = upgrades(&next).check_step(&here, "8.0.4").unwrap_err().to_string();
        assert!(error.contains("each series in between"), "{error}");
        next.remove().await;
    });
}

#[test]
fn a_rebuilt_member_is_in_its_set_again_with_its_key_and_its_administrator() {
    run(async {
        let guest = Guest::new("rebuilt-member");
        guest.prepare_as(&member("rs1", Some(KEY))).await.unwrap();
        cluster(&guest).prepare_primary(&guest.op).await.unwrap();
        let password = cluster(&guest).admin_password().unwrap();
        guest.manager.stop(&guest.op).await.unwrap();
        let next = new_disk(&guest);
        let base = next.base(QUICK);
        upgrade::rebuild(&next.op, &next.manager, upgrades(&next), &no_volume(&next), Some(&base), None).await.unwrap();
        let guests = [next];
        let next = primary(&guests).await;
        assert_eq!(cluster(next).replica_set_name(&next.op).await.unwrap(), "rs1");
        assert_eq!(cluster(next).admin_password().unwrap().expose_secret(), password.expose_secret());
        assert_eq!(cluster(next).key().unwrap().expose_secret(), KEY);
        assert!(!logged().contains(password.expose_secret()));
        crate::cluster::remove(guests).await;
    });
}

#[test]
fn a_rebuilt_query_router_without_config_servers_waits_for_them_again() {
    run(async {
        let guest = Guest::new("rebuilt-router");
        std::fs::create_dir_all(guest.dir.join("volume")).unwrap();
        guest.prepare_as(&json!({"id": "c", "instance_type": "query_router", "key": KEY})).await.unwrap();
        let next = new_disk(&guest);
        let base = next.base("");
        upgrade::rebuild(&next.op, &next.manager, upgrades(&next), &no_volume(&next), Some(&base), None).await.unwrap();
        assert_eq!(cluster(&next).key().unwrap().expose_secret(), KEY);
        let error = next.manager.start(&next.op).await.unwrap_err().to_string();
        assert!(error.contains("no config servers yet"), "{error}");
        std::fs::remove_dir_all(&next.dir).unwrap();
    });
}
