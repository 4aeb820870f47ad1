//! TLS for clients: what the server shows in a handshake, and whom it lets in.

use std::os::unix::fs::MetadataExt;

use openssl::x509::X509;
use serde_json::{Value, json};
use trove_guestagent::error::Error;
use trove_guestagent::managers::DatastoreManager;
use trove_guestagent::managers::tls::{Container, flow};
use trove_guestagent::system::command::{CommandRunner, CommandSpec, SystemCommands};

use crate::identity::Identity;
use crate::support::{Guest, logged, run, user};

const PASSWORD: &str = "planted-Client1";

pub(crate) async fn act(guest: &Guest, mode: &str, container: Option<Value>) -> Result<Value, Error> {
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

/// The certificate of a real handshake. The server has its files read again by its main process, a moment after it was told.
pub(crate) async fn until_presented(guest: &Guest, wanted: Option<&Identity>) {
    let presented = async {
        let mut look = tokio::time::interval(std::time::Duration::from_millis(100));
        loop {
            look.tick().await;
            let connect = format!("127.0.0.1:{}", guest.port);
            let command = CommandSpec::new("openssl").args(["s_client", "-starttls", "postgres", "-connect", &connect]).accept(&[1]);
            let output = SystemCommands.run(&guest.op, command).await.unwrap();
            let found = X509::from_pem(output.stdout.as_bytes()).ok();
            if found.as_ref().map(|found| found.to_der().unwrap()) == wanted.map(|wanted| wanted.certificate.to_der().unwrap()) {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), presented).await.unwrap();
}

/// Logs in with the server's own client.
async fn log_in(guest: &Guest, options: &str, with_password: bool) -> Result<String, Error> {
    let connection = format!("host=127.0.0.1 port={} user=ann dbname=shop {options}", guest.port);
    let command = CommandSpec::new("psql").args(["--no-psqlrc", "--no-password", "--tuples-only", "--command"]);
    let command = command.arg("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").arg(connection);
    let command = if with_password { command.env("PGPASSWORD", PASSWORD) } else { command };
    SystemCommands.run(&guest.op, command).await.map(|output| output.stdout.trim().to_owned())
}

async fn in_the_clear(guest: &Guest) -> Result<String, Error> {
    log_in(guest, "sslmode=disable", true).await
}

fn verifying(guest: &Guest, authority: &Identity) -> String {
    let file = guest.dir.join("client-ca.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    format!("sslmode=verify-full sslrootcert={file} sslcert=/nowhere")
}

fn with_own(guest: &Guest, authority: &Identity, own: &Identity) -> String {
    let (cert, key) = (guest.dir.join("client-cert.pem"), guest.dir.join("client-key.pem"));
    std::fs::write(&cert, own.pem()).unwrap();
    std::fs::write(&key, own.key_pem()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    format!("{} sslcert={cert} sslkey={key}", verifying(guest, authority).replace(" sslcert=/nowhere", ""))
}

#[test]
fn certificates_are_checked_offered_changed_and_taken_back() {
    run(async {
        let guest = Guest::prepared("client-tls", "").await;
        guest.create_databases(&["shop"]).await;
        guest.users().create(&guest.op, &[user("ann", PASSWORD, &["shop"])]).await.unwrap();
        assert_eq!(show(&guest).await, json!({"status": "off"}));
        let authority = Identity::new("authority", None, None);
        let (first, second) = (
            Identity::new("db.example", Some(&authority), Some("127.0.0.1")),
            Identity::new("db2.example", Some(&authority), Some("127.0.0.1")),
        );
        let mut wrong_key = first.container(&authority);
        wrong_key["private_key"] = json!(authority.key_pem());
        let mut locked = first.container(&authority);
        locked["private_key"] = json!(first.locked_key_pem());
        for (container, reason) in [(wrong_key, "not the certificate's"), (locked, "passphrase")] {
            let refused = act(&guest, "basic", Some(container)).await.unwrap_err();
            assert!(refused.to_string().contains(reason), "{refused}");
        }
        let change = guest.dir.join("etc/conf.d/50-system-004-client-tls.conf");
        assert!(!change.exists() && !guest.dir.join("mnt/tls").exists());

        assert_eq!(act(&guest, "basic", Some(first.container(&authority))).await.unwrap(), json!({"restart_required": false}));
        until_presented(&guest, Some(&first)).await;
        assert_eq!((show(&guest).await["status"].as_str(), show(&guest).await["mode"].as_str()), (Some("on"), Some("basic")));
        assert_eq!(log_in(&guest, &verifying(&guest, &authority), true).await.unwrap(), "t");
        assert_eq!(in_the_clear(&guest).await.unwrap(), "f");
        let key = std::fs::metadata(guest.dir.join("mnt/tls/current/server-key.pem")).unwrap();
        let owner = std::fs::metadata(guest.dir.join("mnt/data/pgdata")).unwrap().uid();
        assert_eq!((key.uid(), key.mode() & 0o777), (owner, 0o600));

        // Other certificates, and nobody without TLS.
        act(&guest, "enforced", Some(second.container(&authority))).await.unwrap();
        until_presented(&guest, Some(&second)).await;
        assert!(in_the_clear(&guest).await.unwrap_err().to_string().contains("no encryption"));
        assert_eq!(log_in(&guest, &verifying(&guest, &authority), true).await.unwrap(), "t");
        assert_eq!(roll_back(&guest).await, json!({"status": "on", "restart_required": false, "mode": "basic"}));
        until_presented(&guest, Some(&first)).await;
        assert_eq!(in_the_clear(&guest).await.unwrap(), "f");

        // The name in the certificate is the role's.
        act(&guest, "mtls", Some(first.container(&authority))).await.unwrap();
        let (ann, bob) = (Identity::new("ann", Some(&authority), None), Identity::new("bob", Some(&authority), None));
        assert!(log_in(&guest, &verifying(&guest, &authority), true).await.is_err());
        assert_eq!(log_in(&guest, &with_own(&guest, &authority, &ann), false).await.unwrap(), "t");
        assert!(log_in(&guest, &with_own(&guest, &authority, &bob), true).await.is_err());
        // It stays so.
        guest.manager.start_with_configuration(&guest.op, &guest.base("")).await.unwrap();
        assert_eq!(log_in(&guest, &with_own(&guest, &authority, &ann), false).await.unwrap(), "t");
        assert!(in_the_clear(&guest).await.is_err());

        act(&guest, "mtls", None).await.unwrap();
        until_presented(&guest, None).await;
        assert_eq!((show(&guest).await, in_the_clear(&guest).await.unwrap()), (json!({"status": "off"}), "f".to_owned()));
        // A new instance has nothing of it.
        guest.manager.prepare_server(&guest.op, &guest.request("")).await.unwrap();
        assert!(!change.exists() && !guest.dir.join("mnt/tls").exists());
        let log = logged();
        assert!(!log.contains(PASSWORD) && !log.contains("BEGIN PRIVATE KEY") && !log.contains("BEGIN RSA PRIVATE"));
        guest.remove().await;
    });
}
