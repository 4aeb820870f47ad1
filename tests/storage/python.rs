//! What python-swiftclient stores is read, and what is stored here it reads.

use secrecy::ExposeSecret;
use serde_json::Value;
use trove_guestagent::model::BackupMetadata;

use crate::support::{Place, noise, python};

/// Runs the peer; returns what it prints.
pub(crate) async fn peer(place: &Place, verb: &str, object: &str, path: &std::path::Path, kind: &str) -> String {
    let location = place.storage.location(&place.name(object));
    let url = location.strip_suffix(&format!("/{}/{object}", place.container)).unwrap();
    let mut command = python();
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/storage/swiftclient_peer.py"));
    command.args([verb, &place.container, object]).arg(path).arg(kind);
    command.env("STORAGE_URL", url).env("TOKEN", place.token.expose_secret());
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), command.output()).await.expect("swiftclient ends").unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn uploads_of_swiftclient_are_read_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content");
    let content = noise(450_000, 21);
    std::fs::write(&path, &content).unwrap();
    for kind in ["slo", "dlo"] {
        let place = Place::swift("").await;
        let object = format!("by-python-{kind}.gz");
        peer(&place, "upload", &object, &path, kind).await;
        let name = place.name(&object);
        let found = place.storage.inspect(&place.op, &place.location(&name)).await.unwrap();
        assert_eq!(found.parts.len(), 5);
        assert_eq!(found.metadata["parent_checksum"], "größer 7");
        assert_eq!(place.load(&name).await, content);
        place.storage.delete(&place.op, &name).await.unwrap();
        assert!(place.storage.read(&place.op, &found.parts[4], 0).await.is_err(), "a segment is left");
    }
}

#[tokio::test]
async fn swiftclient_downloads_what_is_stored_here() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise(250_000, 22);
    let thirds: Vec<&[u8]> = content.chunks(100_000).collect();
    let many: Vec<&[u8]> = content.chunks(10_000).collect();
    let kept = BackupMetadata::from([("datastore_version".to_owned(), "größer 100%41".to_owned())]);
    for (kind, contents) in [("slo", &thirds), ("dlo", &thirds), ("slo", &vec![content.as_slice()]), ("slo", &many)] {
        let place = Place::swift(&format!("backup_manifest = {kind}")).await;
        let object = format!("by-rust-{kind}{}.gz", contents.len());
        place.store(&place.name(&object), contents, &kept).await;
        let path = folder.path().join(&object);
        let headers: Value = serde_json::from_str(&peer(&place, "download", &object, &path, kind).await).unwrap();
        assert_eq!(headers["x-object-meta-datastore-version"], "größer 100%41");
        assert!(std::fs::read(&path).unwrap() == content, "{kind}");
    }
}
