//! Replication over TLS, between real servers with certificates of their own.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use serde_json::{Value, json};
use trove_guestagent::config::TlsMode;
use trove_guestagent::managers::mysql::SqlText;

use crate::identity::Identity;
use crate::replica_set::{By, Member, become_source, remove};
use crate::support::{Root, run};

/// Gives a server certificates, as an operator does; it has them after its next start.
fn certify(member: &Member, authority: &Identity, server: &Identity) {
    let data = member.guest.dir.join("volume/data");
    let owner = std::fs::metadata(&data).unwrap();
    let key = String::from_utf8(server.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    for (name, text) in [("own-ca.pem", authority.pem()), ("own-cert.pem", server.pem()), ("own-key.pem", key)] {
        let path = data.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let options = format!("[mysqld]\nssl_ca = {data}/own-ca.pem\nssl_cert = {data}/own-cert.pem\nssl_key = {data}/own-key.pem\n");
    std::fs::write(member.guest.dir.join("etc/conf.d/90-tls.cnf"), options).unwrap();
}

async fn status(member: &Member, column: &str) -> String {
    let words = if member.guest.root.is_mariadb() { "SHOW SLAVE STATUS" } else { "SHOW REPLICA STATUS" };
    let mut session = member.guest.manager.client().session(member.op()).await.unwrap();
    let rows: Vec<mysql_async::Row> = session.rows(member.op(), "look", &SqlText::new(words)).await.unwrap();
    session.close().await;
    rows[0].get(column).unwrap()
}

#[test]
fn replicas_speak_tls_with_a_source_that_asks_for_it_and_verify_its_certificate() {
    run(async {
        for root in [Root::MySql, Root::MariaDb, Root::MariaDb11] {
            let authority = Identity::new("authority", None, None);
            let server = Identity::new("source", Some(&authority), Some("127.0.0.1"));
            let source = Member::with(root, By::Gtid, 140, |settings| settings.tls_mode = Some(TlsMode::Enforced)).await;
            certify(&source, &authority, &server);
            source.restart().await;
            become_source(&source).await;
            let replica = Member::new(root, By::Gtid, 141).await;
            let context = source.context().await;
            assert_eq!(context["master"]["tls"]["ca"], json!(authority.pem()));
            assert!(!context.to_string().contains("PRIVATE KEY"));
            replica.seed(&source, By::Gtid).await;
            replica.catch_up(&source).await;
            let prefix = if root.is_mariadb() { "Master" } else { "Source" };
            assert_eq!(status(&replica, &format!("{prefix}_SSL_Allowed")).await, "Yes");
            assert_eq!(status(&replica, &format!("{prefix}_SSL_Verify_Server_Cert")).await, "Yes", "the certificate names 127.0.0.1");
            // In the clear, nobody gets in with the account.
            let user = &context["replica_conf"]["replication_user"];
            let (name, password) = (user["name"].as_str().unwrap(), user["password"].as_str().unwrap());
            let refused = source.guest.sql_as(name, password, SqlText::new("SELECT 1")).await.unwrap_err().to_string();
            assert!(refused.contains("1045"), "{refused}");

            // It goes on after both ends were restarted, and without a name for the address, by the authority alone.
            let nameless = Identity::new("nameless", Some(&authority), None);
            certify(&source, &authority, &nameless);
            source.restart().await;
            replica.restart().await;
            replica.follow(&source).await.unwrap();
            source.write(10).await;
            replica.catch_up(&source).await;
            assert_eq!(status(&replica, &format!("{prefix}_SSL_Verify_Server_Cert")).await, "No");

            // Somebody else with the source's address: refused at once, and told why.
            let stranger = Identity::new("authority", None, None);
            let mut wrong = source.context().await;
            wrong["master"]["tls"]["ca"] = json!(stranger.pem());
            refused_for(&replica, wrong, "certificate").await;
            // As an agent of 2026.1 tells of it.
            let mut other = source.context().await;
            other["master"].as_object_mut().unwrap().remove("tls");
            other["ssl_mode"] = json!("enforced");
            other["cert_container"] = json!({"private_key": "Planted-key-1", "certificate": nameless.pem(), "ca": stranger.pem()});
            refused_for(&replica, other.clone(), "certificate").await;
            other["cert_container"]["ca"] = json!(authority.pem());
            replica.attach_with(other).await.unwrap();
            source.write(11).await;
            replica.catch_up(&source).await;
            remove([replica, source]).await;
        }
    });
}

/// The attachment fails in no time, with `word` in its reason, and leaves nothing behind.
async fn refused_for(replica: &Member, info: Value, word: &str) {
    let began = std::time::Instant::now();
    let error = replica.attach_with(info).await.unwrap_err().to_string();
    assert!(error.contains(word) && error.contains("ssl_ca") && !error.contains("Planted"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(60), "it waited although no waiting helps");
    assert!(!replica.has_file("slave-replication") && !replica.follows().await);
}
