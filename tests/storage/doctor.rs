//! `trove-guestctl doctor` and the storage: with a token, with an account of the guest's own, and without either.

use secrecy::ExposeSecret;
use serde_json::Value;

use crate::keystone::{keystone, password, right_password};
use crate::support::{login, text};

/// What it finds of a check, as `verdict: found`.
#[expect(clippy::disallowed_methods, reason = "a harness starts programs of its own")]
async fn findings(conf: &str, check: &str, options: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    // Port 1 is nobody's: the broker is not what this is about.
    let text = format!("[DEFAULT]\nguest_id=g\ndatastore_manager=mysql\ntransport_url=rabbit://127.0.0.1:1/\nstate_dir=/nowhere\n{conf}\n");
    std::fs::write(dir.path().join("guest.conf"), text).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trove-guestctl"));
    command.arg("--config-dir").arg(dir.path()).args(["doctor", "--json"]).args(options);
    let output = command.output().await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let of = |finding: &Value| format!("{}: {}", finding["verdict"].as_str().unwrap(), finding["found"].as_str().unwrap());
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check).map(of).collect()
}

#[tokio::test]
async fn the_store_is_asked_with_a_token() {
    let (token, url) = login("user").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), token.expose_secret()).unwrap();
    let path = file.path().to_str().unwrap();
    let found = findings("", "storage", &["--token-file", path, "--swift-url", &url]).await;
    assert!(found.len() == 1 && found[0].starts_with(&format!("ok: {url} lets this guest in")), "{found:?}");
    std::fs::write(file.path(), "no-token-of-anybody").unwrap();
    let found = findings("", "storage", &["--token-file", path, "--swift-url", &url]).await;
    assert!(found.len() == 1 && found[0].starts_with("failed: ") && found[0].contains("401"), "{found:?}");
    let found = findings("", "storage", &[]).await;
    assert!(found.len() == 1 && found[0].starts_with("skipped: ") && found[0].contains("--token-file"), "{found:?}");
    // A folder alone does not make a guest one that keeps its backups there.
    let found = findings("backup_local_dir=/nowhere", "storage", &[]).await;
    assert!(found.len() == 1 && found[0].starts_with("skipped: ") && found[0].contains("--token-file"), "{found:?}");
    let found = findings("storage_strategy=local\nbackup_local_dir=/nowhere", "storage", &[]).await;
    assert!(found.len() == 1 && found[0].starts_with("failed: ") && found[0].contains("/nowhere"), "{found:?}");
}

#[tokio::test]
async fn the_store_is_asked_with_the_guests_own_account() {
    let right = right_password(&text(&keystone(), "auth_url"));
    let found = findings(&right, "storage", &[]).await;
    assert!(found.len() == 1 && found[0].starts_with("ok: http"), "{found:?}");
    let found = findings(&password(&text(&keystone(), "auth_url"), "pl4nted-wrong"), "storage", &[]).await;
    assert!(
        found.len() == 1 && found[0].contains("refuses the account of [backup_credentials]") && !found[0].contains("pl4nted"),
        "{found:?}"
    );
}
