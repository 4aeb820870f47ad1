//! TLS for clients: what the server shows in a handshake, whom it lets in, and replicas that verify their source.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use serde_json::{Value, json};
use trove_guestagent::error::Error;
use trove_guestagent::managers::tls::{Container, flow};
use trove_guestagent::managers::{DatastoreManager, replication, upgrade};
use trove_guestagent::model::ReplicaInfo;
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands};

use crate::identity::Identity;
use crate::replication::{attach, context, strategy, wait_for_value};
use crate::support::{Guest, logged, run};
use crate::upgrade::no_volume;

const LAYER: &str = "etc/overrides/50-system-900-client-tls.rev";

async fn act(guest: &Guest, mode: &str, container: Option<Value>) -> Result<Value, Error> {
    let container: Option<Container> = container.map(|value| serde_json::from_value(value).unwrap());
    let (enable, disable) = (container.is_some(), container.is_none());
    let action = flow::Action { mode: Some(mode), container: container.as_ref(), enable, disable };
    flow::action(&guest.op, guest.manager.tls().unwrap(), &action).await
}

async fn show(guest: &Guest) -> Value {
    flow::show(&guest.op, guest.manager.tls().unwrap()).await.unwrap()
}

/// The certificate of a real handshake; none where nobody listens.
async fn presented(port: u16) -> Option<X509> {
    let shaken = tokio::task::spawn_blocking(move || {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        let stream = builder.build().configure().unwrap().verify_hostname(false).connect("127.0.0.1", stream).ok()?;
        stream.ssl().peer_certificate()
    });
    tokio::time::timeout(Duration::from_secs(60), shaken).await.unwrap().unwrap()
}

/// The server's own client, which verifies it.
async fn ping(guest: &Guest, port: u16, authority: &Identity, own: Option<&Identity>) -> Result<String, Error> {
    let file = guest.dir.join("client-ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let program = format!("{}-cli", guest.product.to_lowercase());
    let port = port.to_string();
    let command = CommandSpec::new(program).args(["-e", "-h", "127.0.0.1", "-p", &port, "--tls", "--cacert", file.as_str()]);
    let command = match own {
        None => command,
        Some(own) => {
            let (cert, key) = (guest.dir.join("client-cert.pem"), guest.dir.join("client-key.pem"));
            std::fs::write(&cert, own.pem()).unwrap();
            std::fs::write(&key, own.key_pem()).unwrap();
            command.args(["--cert", cert.as_str(), "--key", key.as_str()])
        }
    };
    SystemCommands.run(&guest.op, command.arg("PING")).await.map(|output| output.stdout.trim().to_owned())
}

async fn in_the_clear(guest: &Guest) -> bool {
    guest.as_user(None, &["PING"]).await.is_ok()
}

#[test]
fn certificates_are_offered_changed_and_taken_back_and_ports_follow_the_mode() {
    run(async {
        let guest = Guest::prepared_with_two_ports("client-tls").await;
        let (own, next) = (guest.port, guest.port + 1);
        let authority = Identity::new("authority", None, None);
        let of = |name: &str| Identity::new(name, Some(&authority), Some("127.0.0.1"));
        let (first, second) = (of("first"), of("second"));
        assert_eq!(show(&guest).await, json!({"status": "off"}));
        refused(&guest, &first, &authority).await;

        assert_eq!(act(&guest, "basic", Some(first.container(&authority))).await.unwrap(), json!({"restart_required": false}));
        assert_eq!(presented(next).await.unwrap().to_der().unwrap(), first.certificate.to_der().unwrap());
        assert_eq!((show(&guest).await["status"].as_str(), show(&guest).await["mode"].as_str()), (Some("on"), Some("basic")));
        assert_eq!(ping(&guest, next, &authority, None).await.unwrap(), "PONG");
        assert!(in_the_clear(&guest).await);
        let key = std::fs::metadata(guest.dir.join("volume/tls/current/server-key.pem")).unwrap();
        assert_eq!((key.uid(), key.mode() & 0o777), (std::fs::metadata(guest.dir.join("volume")).unwrap().uid(), 0o600));

        // Other certificates, and nobody without TLS: at the instance's own port, over restarts.
        act(&guest, "enforced", Some(second.container(&authority))).await.unwrap();
        assert_eq!(ping(&guest, own, &authority, None).await.unwrap(), "PONG");
        assert!(!in_the_clear(&guest).await && presented(next).await.is_none());
        guest.manager.stop(&guest.op).await.unwrap();
        guest.manager.start(&guest.op).await.unwrap();
        assert_eq!(presented(own).await.unwrap().to_der().unwrap(), second.certificate.to_der().unwrap());
        // Renewed under the same names of files.
        let renewed = of("renewed");
        act(&guest, "enforced", Some(renewed.container(&authority))).await.unwrap();
        assert_eq!(presented(own).await.unwrap().to_der().unwrap(), renewed.certificate.to_der().unwrap());
        let back = flow::rollback(&guest.op, guest.manager.tls().unwrap()).await.unwrap();
        assert_eq!(back, json!({"status": "on", "restart_required": false, "mode": "enforced"}));
        assert_eq!(presented(own).await.unwrap().to_der().unwrap(), second.certificate.to_der().unwrap());

        act(&guest, "mtls", Some(first.container(&authority))).await.unwrap();
        assert!(ping(&guest, own, &authority, None).await.is_err());
        assert_eq!(ping(&guest, own, &authority, Some(&of("ann"))).await.unwrap(), "PONG");
        let guest = on_another_disk(guest).await;
        assert!(ping(&guest, own, &authority, None).await.is_err());
        assert_eq!(ping(&guest, own, &authority, Some(&of("ann"))).await.unwrap(), "PONG");

        act(&guest, "mtls", None).await.unwrap();
        assert!(in_the_clear(&guest).await && presented(next).await.is_none() && !guest.dir.join(LAYER).exists());
        assert_eq!(show(&guest).await, json!({"status": "off"}));
        // On the instance's own port alone, there is no other, not even for a moment.
        let taken = std::net::TcpListener::bind(("0.0.0.0", next)).unwrap();
        act(&guest, "enforced", Some(first.container(&authority))).await.unwrap();
        assert_eq!(ping(&guest, own, &authority, None).await.unwrap(), "PONG");
        act(&guest, "enforced", None).await.unwrap();
        drop(taken);
        assert!(in_the_clear(&guest).await);
        // A new instance has nothing of it.
        guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
        assert!(!guest.dir.join("volume/tls").exists());
        assert!(!logged().contains("BEGIN PRIVATE KEY") && !logged().contains("BEGIN RSA PRIVATE"));
        guest.remove().await;
    });
}

/// What the server refuses leaves all as it was.
async fn refused(guest: &Guest, identity: &Identity, authority: &Identity) {
    let mut wrong_key = identity.container(authority);
    wrong_key["private_key"] = json!(authority.key_pem());
    let mut locked = identity.container(authority);
    locked["private_key"] = json!(identity.locked_key_pem());
    for (container, reason) in [(wrong_key, "not the certificate's"), (locked, "passphrase")] {
        let error = act(guest, "basic", Some(container)).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let taken = std::net::TcpListener::bind(("0.0.0.0", guest.port + 1)).unwrap();
    let error = act(guest, "basic", Some(identity.container(authority))).await.unwrap_err().to_string();
    assert!(error.contains("have the server offer its certificates") && error.contains("tls-port"), "{error}");
    drop(taken);
    assert_eq!(
        (show(guest).await, guest.parameter("tls-port").await, guest.parameter("tls-cert-file").await),
        (json!({"status": "off"}), "0".into(), String::new())
    );
    assert!(in_the_clear(guest).await && !guest.dir.join(LAYER).exists());
}

/// `rebuild`: the volume is the same, and the root disk has nothing of the instance.
async fn on_another_disk(guest: Guest) -> Guest {
    guest.manager.stop(&guest.op).await.unwrap();
    std::fs::remove_dir_all(guest.dir.join("etc")).unwrap();
    std::fs::remove_dir_all(guest.dir.join("state")).unwrap();
    let guest = guest.agent_again();
    let upgrades = guest.manager.upgrades().unwrap();
    upgrade::rebuild(&guest.op, &guest.manager, upgrades, &no_volume(&guest), Some(&guest.base("")), None).await.unwrap();
    guest
}

async fn follow(replica: &Guest, told: Value) -> Result<(), Error> {
    let info: ReplicaInfo = serde_json::from_value(told).unwrap();
    replication::attach(&replica.op, &replica.manager, &info, None).await
}

async fn link(replica: &Guest) -> String {
    let info = replica.ask(&["INFO", "replication"]).await;
    info.lines().find_map(|line| line.strip_prefix("master_link_status:")).unwrap_or_default().trim().to_owned()
}

#[test]
fn replicas_follow_over_tls_and_verify_their_source() {
    run(async {
        let (source, replica) = (Guest::prepared_with_two_ports("tls-source").await, Guest::prepared_with_two_ports("tls-replica").await);
        let authority = Identity::new("authority", None, None);
        let certificate = |name: &str| Identity::new(name, Some(&authority), None).container(&authority);
        // As long as there is a way without, replicas take it.
        act(&source, "basic", Some(certificate("source"))).await.unwrap();
        assert!(context(&source).await["master"].get("tls").is_none());
        act(&source, "enforced", Some(certificate("source"))).await.unwrap();
        let told = context(&source).await;
        assert_eq!(
            (told["master"]["port"].as_u64(), told["master"]["tls"]["ca"].as_str()),
            (Some(source.port.into()), Some(authority.pem().as_str()))
        );
        assert!(!told.to_string().contains("PRIVATE KEY"));
        source.ask(&["SET", "x", "1"]).await;

        // Somebody else with the source's address is refused at once, and nothing has changed.
        let mut wrong = told.clone();
        wrong["master"]["tls"]["ca"] = json!(Identity::new("authority", None, None).pem());
        let error = tokio::time::timeout(Duration::from_secs(60), follow(&replica, wrong)).await.unwrap().unwrap_err().to_string();
        assert!(error.contains("certificate verify failed") && error.contains("ssl_show"), "{error}");
        let mut unknown = told.clone();
        unknown["master"]["tls"]["ca"] = Value::Null;
        assert!(follow(&replica, unknown).await.unwrap_err().to_string().contains("names no authority"));
        assert_eq!((replica.parameter("tls-replication").await.as_str(), link(&replica).await.as_str()), ("no", ""));

        // A replica without a certificate of its own.
        attach(&replica, &source).await.unwrap();
        assert_eq!(replica.parameter("tls-replication").await, "yes");
        let key = std::fs::metadata(replica.dir.join("volume/.trove-source-tls/key.pem")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        wait_for_value(&replica, "x", "1").await;
        // It goes on with new certificates of its source, and over restarts of both.
        act(&source, "enforced", Some(certificate("renewed"))).await.unwrap();
        for guest in [&replica, &source] {
            guest.manager.stop(&guest.op).await.unwrap();
            guest.manager.start(&guest.op).await.unwrap();
        }
        source.ask(&["SET", "x", "2"]).await;
        wait_for_value(&replica, "x", "2").await;

        // With certificates of its own it goes on, too, and becomes a source over TLS.
        act(&replica, "enforced", Some(certificate("replica"))).await.unwrap();
        source.ask(&["SET", "x", "3"]).await;
        wait_for_value(&replica, "x", "3").await;
        strategy(&replica).detach(&replica.op, false).await.unwrap();
        assert!(!replica.dir.join("volume/.trove-source-tls").exists());
        assert_eq!(replica.parameter("tls-replication").await, "no");
        replica.ask(&["SET", "x", "4"]).await;
        attach(&source, &replica).await.unwrap();
        wait_for_value(&source, "x", "4").await;
        assert!(!logged().contains("BEGIN PRIVATE KEY") && !logged().contains("BEGIN RSA PRIVATE"));
        for guest in [source, replica] {
            guest.remove().await;
        }
    });
}
