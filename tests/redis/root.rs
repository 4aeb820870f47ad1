//! The password of the default user.

use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;
use serde_json::json;
use trove_guestagent::managers::{DatastoreManager, RootAccess};

use crate::support::{Guest, logged, run};

fn root(guest: &Guest) -> &dyn RootAccess {
    guest.manager.root().unwrap()
}

#[test]
fn enabled_root_is_the_password_of_the_server() {
    run(async {
        let guest = Guest::prepared("root", "").await;
        assert!(!root(&guest).is_enabled(&guest.op).await.unwrap() && root(&guest).password(&guest.op).await.unwrap().is_none());
        let user = serde_json::to_value(root(&guest).enable(&guest.op, None).await.unwrap()).unwrap();
        assert_eq!((user["_name"].as_str(), user["_password"].as_str().map(str::len)), (Some("-"), Some(36)));
        let password = user["_password"].as_str().unwrap().to_owned();
        assert!(guest.as_user(None, &["PING"]).await.is_err());
        guest.as_user(Some(&password), &["SET", "x", "1"]).await.unwrap();
        // Agent and server may both begin anew.
        let again = guest.agent_again();
        assert_eq!(root(&again).password(&again.op).await.unwrap().unwrap().expose_secret(), password);
        again.manager.stop(&again.op).await.unwrap();
        again.manager.start(&again.op).await.unwrap();
        again.as_user(Some(&password), &["GET", "x"]).await.unwrap();
        assert!(root(&again).is_enabled(&again.op).await.unwrap());
        root(&again).disable(&again.op).await.unwrap();
        again.as_user(None, &["GET", "x"]).await.unwrap();
        assert!(!root(&again).is_enabled(&again.op).await.unwrap() && !again.file().contains(&password));
        assert!(!logged().contains(&password), "the log shows the password");
        again.remove().await;
    });
}

#[test]
fn hostile_passwords_are_taken_as_they_are() {
    run(async {
        let guest = Guest::prepared("hostile", "").await;
        for password in
            ["a b", "\"quoted\" 'twice' \\ #", "new\nline requirepass x", "\r\n*1\r\n$8\r\nFLUSHALL\r\n", "ünïcödé", "%s{}$(id)`id`", "''"]
        {
            root(&guest).enable(&guest.op, Some(password.into())).await.unwrap();
            guest.as_user(Some(password), &["PING"]).await.unwrap();
            guest.manager.stop(&guest.op).await.unwrap();
            guest.manager.start(&guest.op).await.unwrap();
            guest.as_user(Some(password), &["PING"]).await.unwrap();
            assert_eq!(guest.ask(&["PING"]).await, "PONG", "{password:?}");
        }
        assert!(root(&guest).enable(&guest.op, Some("".into())).await.is_err());
        assert!(root(&guest).enable(&guest.op, Some("null\0character".into())).await.is_err());
        guest.remove().await;
    });
}

/// The agent's end between the files and the server, either way.
#[test]
fn a_change_of_password_that_was_cut_short_locks_nobody_out() {
    run(async {
        let guest = Guest::prepared("cut", "").await;
        root(&guest).enable(&guest.op, Some("planted-one".into())).await.unwrap();
        let state = guest.dir.join("state/redis_passwords_before.json");
        assert!(!state.exists());
        // The files say two, the server still wants one: as after a kill before CONFIG SET.
        std::fs::write(&state, json!(["planted-one"]).to_string()).unwrap();
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o600)).unwrap();
        for file in [guest.main_file.clone(), guest.dir.join("etc/overrides/50-system-002-auth_password.rev")] {
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace("planted-one", "planted-two")).unwrap();
        }
        let again = guest.agent_again();
        assert_eq!(again.ask(&["PING"]).await, "PONG");
        root(&again).enable(&again.op, Some("planted-three".into())).await.unwrap();
        again.as_user(Some("planted-three"), &["PING"]).await.unwrap();
        assert!(!state.exists());
        assert!(!logged().contains("planted-"), "the log shows a password");
        again.remove().await;
    });
}
