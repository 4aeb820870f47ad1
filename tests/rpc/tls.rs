//! TLS to the broker: every option, and what is said when it does not work.

use camino::Utf8PathBuf;

use crate::certificates::{Authority, EXPIRED, Issued, VALID};
use crate::rabbit::Rabbit;
use crate::support::{Guest, free_port};

/// A broker with a port for TLS beside the plain one, and the authority its certificate is from.
struct Secured {
    rabbit: Rabbit,
    authority: Authority,
    port: u16,
    server: Issued,
    _dir: tempfile::TempDir,
    dir: Utf8PathBuf,
}

impl Secured {
    async fn start(names: &[&str], validity: (i64, i64), lines: &str, plugins: &str) -> Secured {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        let authority = Authority::new(&dir, "rightful");
        let server = authority.issue("broker.test", names, validity);
        let port = free_port();
        let lines = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n{lines}",
            authority.file, server.cert, server.key
        );
        let rabbit = Rabbit::start_with(&lines, plugins).await;
        Secured { rabbit, authority, port, server, _dir: temp, dir }
    }

    /// A guest that comes over TLS, with these options; the test's own wire does not.
    fn guest(&self, host: &str, options: &str) -> Guest {
        guest_at(host, self.port, options, &self.rabbit)
    }

    /// Likewise, trusting the right authority.
    fn trusting(&self, host: &str, options: &str) -> Guest {
        self.guest(host, &format!("ssl=true\nssl_ca_file={}\n{options}", self.authority.file))
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        self.dir.join(name)
    }
}

fn guest_at(host: &str, port: u16, options: &str, rabbit: &Rabbit) -> Guest {
    let mut guest = Guest::new(
        &format!("amqp://guest:guest@{host}:{port}/%2F"),
        &format!("[oslo_messaging_rabbit]\nrabbit_retry_backoff=0\n{options}"),
    );
    guest.broker = rabbit.url();
    guest
}

async fn serves(guest: Guest) {
    guest.start();
    guest.consuming(1).await;
    guest.wire().await.ping().await;
}

/// The agent says `words`, once for each of its two connections, however often it tries.
async fn says(guest: Guest, words: &[&str]) {
    guest.start();
    guest.logged("failed to connect to the message broker", 5).await;
    let log = guest.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN") && line.contains("failed to connect")).collect();
    assert!((1..=2).contains(&warnings.len()), "{log}");
    for word in words {
        assert!(warnings.iter().all(|line| line.contains(word)), "{word:?} is missing:\n{log}");
    }
    assert!(!log.contains("consuming queue="), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_broker_is_verified_as_far_as_the_options_say() {
    let versions: String =
        [(1, "tlsv1.3"), (2, "tlsv1.2"), (3, "tlsv1.1")].map(|(n, name)| format!("ssl_options.versions.{n} = {name}\n")).concat();
    let broker = Secured::start(&["broker.test", "127.0.0.1"], VALID, &versions, "").await;
    // An address the certificate names.
    serves(broker.trusting("127.0.0.1", "")).await;
    // A name it does not.
    says(
        broker.trusting("localhost", ""),
        &["(broker.test)", "not for 'localhost' but for broker.test, 127.0.0.1", "ssl_enforce_hostname_verification"],
    )
    .await;
    serves(broker.trusting("localhost", "ssl_enforce_hostname_verification=false")).await;
    // Another authority, with and without a look at the name.
    let other = Authority::new(&broker.dir, "other");
    for check in ["true", "false"] {
        let options = format!("ssl=true\nssl_ca_file={}\nssl_enforce_hostname_verification={check}", other.file);
        says(broker.guest("127.0.0.1", &options), &["not signed by an authority in ssl_ca_file", other.file.as_str()]).await;
    }
    for version in ["tlsv1_1", "tlsv1_2", "sslv23", ""] {
        serves(broker.trusting("127.0.0.1", &format!("ssl_version={version}"))).await;
    }
    says(broker.trusting("127.0.0.1", "ssl_version=tlsv1"), &["no version of TLS in common"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authority_nothing_is_verified_and_that_is_said_once() {
    let broker = Secured::start(&[], EXPIRED, "", "").await;
    let guest = broker.guest("127.0.0.1", "ssl=true");
    guest.start();
    guest.consuming(1).await;
    guest.wire().await.ping().await;
    assert_eq!(guest.log().matches("Set ssl_ca_file").count(), 1, "{}", guest.log());
    drop(guest);
    // With one, an expired certificate is refused.
    says(
        broker.trusting("127.0.0.1", "ssl_enforce_hostname_verification=false"),
        &["the broker's certificate (broker.test) has expired on"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_use_are_named() {
    let broker = Secured::start(&["127.0.0.1"], VALID, "", "").await;
    let (own, foreign) = (broker.authority.issue("guest", &[], VALID), &broker.server);
    let (absent, garbage, locked) = (broker.path("absent.pem"), broker.path("garbage.pem"), broker.path("locked.key"));
    std::fs::write(&garbage, "no PEM").unwrap();
    let key = openssl::pkey::PKey::private_key_from_pem(&std::fs::read(&own.key).unwrap()).unwrap();
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    std::fs::write(&locked, key.private_key_to_pem_pkcs8_passphrase(cipher, uuid::Uuid::new_v4().as_bytes()).unwrap()).unwrap();
    says(
        broker.guest("127.0.0.1", &format!("ssl=true\nssl_ca_file={garbage}")),
        &["ssl_ca_file", garbage.as_str(), "no certificate in PEM"],
    )
    .await;
    let pairs = [
        (&own.cert, &foreign.key, "does not belong to the certificate in ssl_cert_file"),
        (&own.cert, &absent, "read ssl_key_file"),
        (&absent, &own.key, "read ssl_cert_file"),
        (&garbage, &own.key, "holds no certificate in PEM"),
        (&own.cert, &garbage, "not a private key in PEM"),
        (&own.cert, &locked, "locked with a passphrase"),
    ];
    for (cert, key, words) in pairs {
        says(broker.trusting("127.0.0.1", &format!("ssl_cert_file={cert}\nssl_key_file={key}")), &[words]).await;
    }
    says(broker.trusting("127.0.0.1", &format!("ssl_key_file={}", own.key)), &["of no use without ssl_cert_file"]).await;

    // What is put right is found without a restart.
    let guest = broker.guest("127.0.0.1", &format!("ssl=true\nssl_ca_file={absent}"));
    guest.start();
    guest.logged(&format!("read ssl_ca_file {absent}"), 1).await;
    std::fs::copy(&broker.authority.file, &absent).unwrap();
    guest.consuming(1).await;
    guest.wire().await.ping().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_kinds_of_port_are_told_apart() {
    let broker = Secured::start(&["127.0.0.1"], VALID, "", "").await;
    let plain_port = guest_at("127.0.0.1", broker.rabbit.port, "ssl=true", &broker.rabbit);
    says(plain_port, &["does not speak TLS", "ssl = false"]).await;
    says(broker.guest("127.0.0.1", "ssl=false"), &["set ssl = true"]).await;
}

/// `versions` is for the broker; what is said of a missing certificate differs.
async fn a_strict_broker(version: &str, not_spoken: &str, missing: &str, unknown: &str) {
    let lines = format!(
        "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\nssl_options.versions.1 = {version}\n\
         auth_mechanisms.1 = EXTERNAL\nauth_mechanisms.2 = PLAIN\nauth_mechanisms.3 = AMQPLAIN\nssl_cert_login_from = common_name\n"
    );
    let broker = Secured::start(&["localhost"], VALID, &lines, "rabbitmq_auth_mechanism_ssl").await;
    // The common name is the user.
    let own = broker.authority.issue("guest", &[], VALID);
    let pair = |issued: &Issued| format!("ssl_cert_file={}\nssl_key_file={}", issued.cert, issued.key);
    serves(broker.trusting("localhost", &pair(&own))).await;
    serves(broker.trusting("localhost", &format!("{}\nrabbit_login_method=EXTERNAL", pair(&own)))).await;
    // Python takes the key from the certificate's file, when that is all there is.
    let both = broker.path("both.pem");
    std::fs::write(&both, [std::fs::read(&own.cert).unwrap(), std::fs::read(&own.key).unwrap()].concat()).unwrap();
    serves(broker.trusting("localhost", &format!("ssl_cert_file={both}"))).await;

    says(broker.trusting("localhost", ""), &[missing]).await;
    let stranger = Authority::new(&broker.dir, "stranger").issue("guest", &[], VALID);
    says(broker.trusting("localhost", &pair(&stranger)), &[unknown]).await;
    let late = broker.authority.issue("late", &[], EXPIRED);
    says(broker.trusting("localhost", &pair(&late)), &["certificate in ssl_cert_file has expired"]).await;
    let nobody = broker.authority.issue("nobody", &[], VALID);
    says(broker.trusting("localhost", &format!("{}\nrabbit_login_method=EXTERNAL", pair(&nobody))), &["rabbit_login_method"]).await;
    says(broker.trusting("localhost", &format!("{}\nssl_version={not_spoken}", pair(&own))), &["no version of TLS in common"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_demands_a_certificate_with_tls_1_3() {
    a_strict_broker("tlsv1.3", "tlsv1_2", "set ssl_cert_file and ssl_key_file", "does not know the authority that signed ssl_cert_file")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_demands_a_certificate_with_tls_1_2() {
    a_strict_broker("tlsv1.2", "tlsv1_1", "set ssl_cert_file and ssl_key_file", "does not know the authority that signed ssl_cert_file")
        .await;
}
