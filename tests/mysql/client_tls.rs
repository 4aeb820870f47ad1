//! TLS for clients, with real servers: what they show in a handshake, and whom they let in.

use std::os::unix::fs::MetadataExt;

use openssl::x509::X509;
use secrecy::SecretString;
use serde_json::{Value, json};
use trove_guestagent::error::Error;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::mysql::SqlText;
use trove_guestagent::managers::tls::{Container, flow};
use trove_guestagent::model::{ServiceStatus, UserSpec};
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands};

use crate::identity::Identity;
use crate::support::{BASE, Guest, logged, request, with_both};

const PASSWORD: &str = "planted-Client1";

async fn act(guest: &Guest, mode: &str, container: Option<Value>) -> Result<Value, Error> {
    let container: Option<Container> = container.map(|value| serde_json::from_value(value).unwrap());
    let (enable, disable) = (container.is_some(), container.is_none());
    let action = flow::Action { mode: Some(mode), container: container.as_ref(), enable, disable };
    flow::action(&guest.op, guest.manager.tls().unwrap(), &action).await
}

async fn roll_back(guest: &Guest) -> Value {
    flow::rollback(&guest.op, guest.manager.tls().unwrap()).await.unwrap()
}

async fn show(guest: &Guest) -> Value {
    flow::show(&guest.op, guest.manager.tls().unwrap()).await.unwrap()
}

async fn restart(guest: &Guest) {
    guest.manager.stop(&guest.op).await.unwrap();
    guest.manager.start(&guest.op).await.unwrap();
}

/// The certificate of a real handshake.
async fn presented(guest: &Guest) -> Option<X509> {
    let socket = guest.dir.join("run/mysqld.sock");
    let command = CommandSpec::new("openssl").args(["s_client", "-starttls", "mysql", "-unix", socket.as_str()]).accept(&[1]);
    let output = SystemCommands.run(&guest.op, command).await.unwrap();
    X509::from_pem(output.stdout.as_bytes()).ok()
}

/// Logs in over TLS, with the server's certificate verified, and with a certificate of its own.
async fn over_tls(guest: &Guest, authority: &Identity, user: &str, own: Option<&Identity>) -> Result<(), Error> {
    let file = guest.dir.join("client-ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let (tool, verify) = if guest.root.is_mariadb() { ("mariadb", "--ssl") } else { ("mysql", "--ssl-mode=VERIFY_CA") };
    let command = CommandSpec::new(tool).args(["--no-defaults", verify, "--execute=SELECT 1"]);
    let command =
        command.arg(format!("--ssl-ca={file}")).arg(format!("--socket={}/run/mysqld.sock", guest.dir)).arg(format!("--user={user}"));
    let command = match own {
        Some(own) => {
            let (cert, key) = (guest.dir.join("client-cert.pem"), guest.dir.join("client-key.pem"));
            std::fs::write(&cert, own.pem()).unwrap();
            std::fs::write(&key, own.key_pem()).unwrap();
            command.arg(format!("--ssl-cert={cert}")).arg(format!("--ssl-key={key}"))
        }
        None => command,
    };
    guest.manager.service().exec(&guest.op, command.env("MYSQL_PWD", PASSWORD)).await.map(drop)
}

async fn in_the_clear(guest: &Guest, user: &str) -> Result<(), Error> {
    guest.sql_as(user, PASSWORD, SqlText::new("SELECT 1")).await
}

async fn assert_needs_tls(guest: &Guest, authority: &Identity, user: &str) {
    let refused = in_the_clear(guest, user).await.map(|()| format!("{user} got in without TLS")).unwrap_err();
    assert_eq!(refused.database_code(), Some(1045), "{user}: {refused}");
    over_tls(guest, authority, user, None).await.unwrap();
}

async fn create_user(guest: &Guest, name: &str) {
    let user: UserSpec = serde_json::from_value(json!({"_name": name, "_password": PASSWORD})).unwrap();
    guest.manager.users().unwrap().create(&guest.op, &[user]).await.unwrap();
}

fn has_override(guest: &Guest) -> bool {
    guest.dir.join("etc/conf.d/50-system-004-client-tls.cnf").exists()
}

/// What does not hold together is refused with the reason, and changes nothing.
async fn assert_refusals(guest: &Guest, authority: &Identity, good: &Identity) {
    let stranger = Identity::new("stranger", None, None);
    let expired = Identity::with("expired", Some(authority), None, 2048, (-30, -1));
    let early = Identity::with("early", Some(authority), None, 2048, (1, 30));
    let weak = Identity::with("weak", Some(authority), None, 512, (-1, 30));
    let mut locked = good.container(authority);
    locked["private_key"] = json!(good.locked_key_pem());
    let mut wrong_key = good.container(authority);
    wrong_key["private_key"] = json!(stranger.key_pem());
    let mut no_authority = good.container(authority);
    no_authority["ca"] = json!("");
    let mut no_key = good.container(authority);
    no_key["private_key"] = json!(null);
    let garbled = json!({"private_key": "planted-key", "certificate": good.pem(), "ca": null});
    let before = show(guest).await;
    for (mode, container, reason) in [
        ("basic", locked, "passphrase"),
        ("basic", wrong_key, "not the certificate's"),
        ("basic", good.container(&stranger), "does not hold against"),
        ("basic", expired.container(authority), "expired"),
        ("basic", early.container(authority), "not in force before"),
        ("basic", weak.container(authority), "does not take"),
        ("mtls", no_authority, "mtls"),
        ("basic", no_key, "no private key"),
        ("basic", garbled, "private_key is not"),
        ("builtin", good.container(authority), "Unknown SSL mode"),
    ] {
        let error = act(guest, mode, Some(container)).await.unwrap_err();
        assert!(matches!(error, Error::BadRequest { .. }) && error.to_string().contains(reason), "{reason}: {error}");
        assert!(!error.to_string().contains("planted") && !error.to_string().contains("-----"), "{error}");
    }
    let error = flow::rollback(&guest.op, guest.manager.tls().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("nothing to go back to"), "{error}");
    assert!(!has_override(guest) && !guest.dir.join("volume/tls").exists());
    assert_eq!(show(guest).await, before);
}

/// Files and directories are the server's, and nobody else reads the key.
fn assert_private(guest: &Guest) {
    let owner = std::fs::metadata(guest.dir.join("volume/data")).unwrap().uid();
    let current = guest.dir.join("volume/tls/current");
    assert!(current.is_symlink());
    for (path, mode) in [(current.join("server-key.pem"), 0o600), (current.clone(), 0o700), (guest.dir.join("volume/tls"), 0o700)] {
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (owner, mode), "{path}");
    }
}

#[test]
fn certificates_are_checked_offered_changed_and_taken_back() {
    with_both(|root| async move {
        let guest = Guest::new(root, "client-tls", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        create_user(&guest, "earlier").await;
        let authority = Identity::new("authority", None, None);
        let [first, second] = ["first", "second"].map(|name| Identity::new(name, Some(&authority), Some("192.0.2.1")));
        let own = presented(&guest).await;
        let shown = show(&guest).await;
        // MySQL makes certificates of its own.
        assert_eq!((own.is_some(), shown["status"] == "on"), (!root.is_mariadb(), !root.is_mariadb()), "{shown}");
        assert_refusals(&guest, &authority, &first).await;

        // On: at once where the server can, else with its next start.
        let answer = act(&guest, "enforced", Some(first.container(&authority))).await.unwrap();
        assert_eq!(answer, json!({"restart_required": root.is_mariadb()}));
        if root.is_mariadb() {
            guest.becomes(ServiceStatus::RestartRequired).await;
            restart(&guest).await;
        }
        assert_private(&guest);
        assert_eq!(presented(&guest).await.unwrap(), first.certificate);
        let shown = show(&guest).await;
        assert_eq!((&shown["status"], &shown["mode"], &shown["certificate"]["cn"]), (&json!("on"), &json!("enforced"), &json!("first")));
        assert_eq!(shown["certificate"]["san"], json!(["DNS:db.example", "IP Address:192.0.2.1"]));
        assert_eq!(shown["certificate"]["payload"], first.pem());
        create_user(&guest, "later").await;
        guest.manager.root().unwrap().enable(&guest.op, Some(SecretString::from(PASSWORD))).await.unwrap();
        for user in ["earlier", "later"] {
            assert_needs_tls(&guest, &authority, user).await;
        }
        let root_must = "SELECT CONVERT(ssl_type USING utf8mb4) FROM mysql.user WHERE User = 'root' AND Host = '%'";
        assert_eq!(guest.column(SqlText::new(root_must)).await, [Some("ANY".to_owned())]);

        // Changed without a restart, with connections that stay.
        let pid = guest.pid().await;
        let answer = act(&guest, "basic", Some(second.container(&authority))).await.unwrap();
        assert_eq!(answer, json!({"restart_required": false}));
        assert_eq!(presented(&guest).await.unwrap(), second.certificate);
        in_the_clear(&guest, "later").await.unwrap();
        // Made again, the way back is the same.
        act(&guest, "basic", Some(second.container(&authority))).await.unwrap();
        let back = json!({"status": "on", "restart_required": false, "mode": "enforced"});
        assert_eq!((roll_back(&guest).await, roll_back(&guest).await), (back.clone(), back));
        assert_eq!(presented(&guest).await.unwrap(), first.certificate);
        assert_needs_tls(&guest, &authority, "later").await;
        assert_eq!(guest.pid().await, pid);
        let kept: Vec<_> =
            guest.dir.join("volume/tls").read_dir_utf8().unwrap().map(|entry| entry.unwrap().file_name().to_owned()).collect();
        assert!(kept.len() == 3 && kept.iter().any(|name| name == "1"), "{kept:?}");

        let back = only_with_certificates(&guest, &authority, &second).await;
        assert_eq!(back, json!({"status": "on", "restart_required": false, "mode": "enforced"}));
        assert_needs_tls(&guest, &authority, "later").await;
        assert_eq!(guest.pid().await, pid);

        if root.is_mariadb() {
            off_and_back(&guest).await
        } else {
            refused_by_the_server(&guest, &authority).await
        }
        assert_eq!(presented(&guest).await.unwrap(), first.certificate);
        assert_eq!(show(&guest).await["mode"], "enforced");
        assert_needs_tls(&guest, &authority, "later").await;
        assert!(!logged().contains("PRIVATE KEY") && !logged().contains(PASSWORD));
        assert!(!first.key_pem().lines().skip(1).take(3).any(|line| logged().contains(line)));
        guest.remove().await;
    });
}

/// In mode `mtls`, clients with a certificate of the authorities get in, and nobody else; returns the way back's answer.
async fn only_with_certificates(guest: &Guest, authority: &Identity, server: &Identity) -> Value {
    let (client, stranger) = (Identity::new("client", Some(authority), None), Identity::new("stranger", None, None));
    let answer = act(guest, "mtls", Some(server.container(authority))).await.unwrap();
    assert_eq!(answer, json!({"restart_required": false}));
    for user in ["earlier", "later"] {
        over_tls(guest, authority, user, Some(&client)).await.unwrap();
        let refused = over_tls(guest, authority, user, None).await.unwrap_err().to_string();
        assert!(refused.contains("ERROR 1045"), "{user}: {refused}");
        let refused = in_the_clear(guest, user).await.unwrap_err();
        assert_eq!(refused.database_code(), Some(1045), "{user}: {refused}");
        // The handshake fails: the client may hear of that when it has said all it had to say.
        let refused = over_tls(guest, authority, user, Some(&stranger)).await.unwrap_err().to_string();
        assert!(refused.contains("ERROR 20"), "{user}: {refused}");
    }
    roll_back(guest).await
}

/// A server that can be without.
async fn off_and_back(guest: &Guest) {
    assert_eq!(act(guest, "basic", None).await.unwrap(), json!({"restart_required": true}));
    in_the_clear(guest, "later").await.unwrap();
    restart(guest).await;
    assert_eq!(presented(guest).await, None);
    assert_eq!(show(guest).await, json!({"status": "off"}));
    assert_eq!(roll_back(guest).await, json!({"status": "on", "restart_required": true, "mode": "enforced"}));
    restart(guest).await;
}

/// A server that cannot; and what it refuses halfway is taken back.
async fn refused_by_the_server(guest: &Guest, authority: &Identity) {
    let refused = act(guest, "basic", None).await.unwrap_err().to_string();
    assert!(refused.contains("8.0") && refused.contains("ssl_rollback"), "{refused}");
    guest.sql(SqlText::new("SET GLOBAL super_read_only = ON")).await;
    let other = Identity::new("other", Some(authority), None);
    let error = act(guest, "mtls", Some(other.container(authority))).await.unwrap_err();
    assert_eq!(error.database_code(), Some(1290), "{error}");
    guest.sql(SqlText::new("SET GLOBAL read_only = OFF")).await;
}

#[test]
fn certificates_stay_with_the_data_and_go_with_a_new_instance() {
    with_both(|root| async move {
        let guest = Guest::new(root, "tls-rebuild", |_| ());
        guest.manager.prepare_server(&guest.op, &request(BASE)).await.unwrap();
        let authority = Identity::new("authority", None, None);
        let server = Identity::new("server", Some(&authority), None);
        let own = presented(&guest).await;
        act(&guest, "basic", Some(server.container(&authority))).await.unwrap();
        guest.becomes(if root.is_mariadb() { ServiceStatus::RestartRequired } else { ServiceStatus::Running }).await;
        // MySQL is back at its own certificates without a restart, and MariaDB has not begun with others yet.
        let on = if root.is_mariadb() { "off" } else { "on" };
        assert_eq!(roll_back(&guest).await, json!({"status": on, "restart_required": false, "mode": null}));
        guest.becomes(ServiceStatus::Running).await;
        assert!(!has_override(&guest));
        assert_eq!(presented(&guest).await, own);
        act(&guest, "basic", Some(server.container(&authority))).await.unwrap();

        // Another root disk: the configuration is gone.
        guest.manager.stop(&guest.op).await.unwrap();
        std::fs::remove_file(guest.dir.join("etc/conf.d/50-system-004-client-tls.cnf")).unwrap();
        let again = guest.agent_again();
        again.manager.upgrades().unwrap().finish(&again.op).await.unwrap();
        assert_eq!(presented(&again).await.unwrap(), server.certificate);
        // And with another base configuration.
        again.manager.stop(&again.op).await.unwrap();
        again.manager.start_with_configuration(&again.op, BASE).await.unwrap();
        assert_eq!(presented(&again).await.unwrap(), server.certificate);

        again.manager.prepare_server(&again.op, &request(BASE)).await.unwrap();
        assert!(!has_override(&guest) && !guest.dir.join("volume/tls").exists());
        assert_eq!(presented(&again).await, own);
        again.remove().await;
    });
}
