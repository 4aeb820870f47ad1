//! Another server on the data of an instance, as after a new root disk, and the log it writes.

use secrecy::ExposeSecret;
use serde_json::json;
use trove_guestagent::managers::logs::{self, LogDetails, LogEnv};
use trove_guestagent::managers::upgrade;
use trove_guestagent::managers::{DatastoreManager, RootAccess};
use trove_guestagent::model::Release;
use trove_guestagent::system::command::SystemCommands;
use trove_guestagent::volume::Volume;

use crate::support::{Guest, logged, run, values};

/// An instance without a volume of its own.
pub(crate) fn no_volume(guest: &Guest) -> Volume {
    Volume::new(guest.dir.join("no-device"), &guest.settings.volume, std::sync::Arc::new(SystemCommands))
}

/// What a new root disk has: nothing of the instance's.
fn new_disk(guest: &Guest) {
    std::fs::remove_dir_all(guest.dir.join("etc")).unwrap();
    std::fs::remove_dir_all(guest.dir.join("state")).ok();
}

/// An instance with data, a password and a group.
async fn instance(name: &str) -> (Guest, String) {
    let guest = Guest::prepared(name, "").await;
    let group = values(json!({"timeout": 77}));
    guest.manager.config().unwrap().update(&guest.op, &group, false).await.unwrap();
    let user = guest.manager.root().unwrap().enable(&guest.op, None).await.unwrap();
    let password = user.password.unwrap().expose_secret().to_owned();
    guest.as_user(Some(&password), &["SET", "kept", "4711"]).await.unwrap();
    (guest, password)
}

async fn assert_kept(guest: &Guest, password: &str) {
    assert_eq!(guest.ask(&["GET", "kept"]).await, "4711");
    guest.as_user(Some(password), &["GET", "kept"]).await.unwrap();
    assert!(guest.as_user(None, &["GET", "kept"]).await.is_err());
    assert_eq!(guest.parameter("timeout").await, "77");
    let root: &dyn RootAccess = guest.manager.root().unwrap();
    assert_eq!(root.password(&guest.op).await.unwrap().unwrap().expose_secret(), password);
    assert!(!logged().contains(password), "the log shows the password");
}

#[test]
fn an_instance_moves_to_the_next_root_disk() {
    run(async {
        let (guest, password) = instance("moved").await;
        let saved = upgrade::leave(&guest.op, &guest.manager, guest.manager.upgrades().unwrap(), &no_volume(&guest)).await.unwrap();
        let saved = serde_json::to_value(saved).unwrap();
        assert_eq!(saved["mount_point"], guest.dir.join("volume").as_str());
        new_disk(&guest);
        let next = guest.agent_again();
        upgrade::arrive(&next.op, &next.manager, next.manager.upgrades().unwrap(), None).await.unwrap();
        assert_kept(&next, &password).await;
        assert!(!next.dir.join("volume/.trove-upgrade").exists());
        next.remove().await;
    });
}

#[test]
fn a_rebuild_keeps_the_password_that_no_controller_sends() {
    run(async {
        let (guest, password) = instance("rebuilt").await;
        guest.manager.stop(&guest.op).await.unwrap();
        new_disk(&guest);
        let next = guest.agent_again();
        let (base, group) = (next.base("maxclients 77\n"), values(json!({"timeout": 77})));
        let rebuild = async |guest: &Guest| {
            let upgrades = guest.manager.upgrades().unwrap();
            upgrade::rebuild(&guest.op, &guest.manager, upgrades, &no_volume(guest), Some(&base), Some(&group)).await
        };
        rebuild(&next).await.unwrap();
        assert_kept(&next, &password).await;
        assert_eq!(next.parameter("maxclients").await, "77");
        // One that was taken away stays away.
        next.manager.root().unwrap().disable(&next.op).await.unwrap();
        next.manager.stop(&next.op).await.unwrap();
        new_disk(&next);
        let last = next.agent_again();
        rebuild(&last).await.unwrap();
        last.as_user(None, &["GET", "kept"]).await.unwrap();

        // Data of a newer server, or none at all, are refused before anything is started on them.
        last.manager.stop(&last.op).await.unwrap();
        // Data of Valkey are newer than any Redis.
        let newer = if last.product == "Valkey" { "Valkey 99.0.0" } else { "Valkey 9.0.0" };
        std::fs::write(last.dir.join("volume/.trove-server"), format!("{newer}\n")).unwrap();
        let error = rebuild(&last).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("the data are of {newer}, which {} ", last.product)) && error.contains("Nothing was changed"),
            "{error}"
        );
        std::fs::rename(last.dir.join("volume"), last.dir.join("aside")).unwrap();
        let error = rebuild(&last).await.unwrap_err().to_string();
        assert!(error.contains("there is no database in"), "{error}");
        std::fs::remove_dir_all(last.dir.join("volume")).ok();
        std::fs::rename(last.dir.join("aside"), last.dir.join("volume")).unwrap();
        last.remove().await;
    });
}

#[test]
fn the_servers_messages_are_published_in_pieces() {
    run(async {
        let guest = Guest::new("logs", |settings| settings.guest_log.exposed = Some(vec!["redis".to_owned()]));
        guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
        let action = async |what: &str| -> trove_guestagent::Result<LogDetails> {
            let env =
                LogEnv { settings: guest.settings.clone(), release: Release::Train, exposed: guest.manager.descriptor().exposed_logs };
            let arguments = serde_json::from_value(json!({"log_name": "redis", what: true})).unwrap();
            logs::action(&guest.op, &env, guest.manager.logs().unwrap(), &arguments).await
        };
        let details = action("publish").await.unwrap();
        let folder = guest.dir.join("backups").join(&details.container);
        let published = || -> String {
            let mut files: Vec<_> = folder.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path()).collect();
            files.retain(|path| path.file_name().unwrap().starts_with(&details.prefix.replace('/', "%2F")));
            files.sort();
            files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
        };
        let first = published();
        assert!(first.contains("Ready to accept connections"), "{first}");
        guest.manager.stop(&guest.op).await.unwrap();
        guest.manager.start(&guest.op).await.unwrap();
        action("publish").await.unwrap();
        let second = published();
        assert!(second.starts_with(&first) && second.contains("ready to exit, bye bye"), "{second}");
        let error = action("disable").await.unwrap_err().to_string();
        assert!(error.contains("redis"), "{error}");
        guest.remove().await;
    });
}
