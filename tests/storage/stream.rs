//! Whole backups over the real Swift: stored by the stock tools and python-swiftclient and restored here, and the other way round.

use std::fs;
use std::sync::Arc;

use camino::Utf8Path;
use secrecy::SecretString;
use trove_guestagent::model::BackupMetadata;
use trove_guestagent::progress::Progress;
use trove_guestagent::strategies::backup::{Decoding, Encoding, Limits, Retry, download, encode, upload};
use trove_guestagent::strategies::storage::ObjectName;

use crate::python::peer;
use crate::support::{Place, collect};
use crate::tools::{directory, dump, gunzip, gzip, openssl, password};

const KINDS: [&str; 2] = ["slo", "dlo"];

/// What `download` makes of an object of which only its place and the password are known.
async fn restored(place: &Place, name: &ObjectName, key: &SecretString) -> Vec<u8> {
    let object = place.storage.inspect(&place.op, &place.location(name)).await.unwrap();
    assert!(object.parts.len() > 1, "{name} is not large");
    let how = Decoding { checksum: Some(object.checksum.clone()), key: Some(key.clone()), retry: Retry::default() };
    let content = download(&place.op, place.storage.clone(), object, how, Progress::new("restore")).await.unwrap();
    collect(content).await.unwrap()
}

/// Encrypts with every derivation, uploads both kinds of large object, and restores with no option set.
async fn every_derivation_of(source: &Utf8Path, content: &[u8]) {
    let derivations: [&[&str]; 4] = [&["-md", "md5"], &["-md", "sha256"], &["-pbkdf2"], &["-pbkdf2", "-md", "sha512"]];
    for derivation in derivations {
        let (key, sealed) = (password(), source.with_extension("enc"));
        openssl(derivation, &key, source, &sealed).await;
        for kind in KINDS {
            let place = Place::swift("").await;
            peer(&place, "upload", "b1", sealed.as_std_path(), kind).await;
            assert!(restored(&place, &place.name("b1"), &key).await == content, "{derivation:?}, {kind}");
        }
    }
}

#[tokio::test]
async fn gzip_and_openssl_by_swiftclient_are_restored() {
    let (_guard, directory) = directory();
    let content = dump(1_500_000);
    fs::write(directory.join("content"), &content).unwrap();
    let packed = gzip(&directory.join("content")).await;
    every_derivation_of(&packed, &content).await;
}

#[tokio::test]
async fn openssl_alone_by_swiftclient_is_restored() {
    let (_guard, directory) = directory();
    let content = dump(300_000);
    fs::write(directory.join("content"), &content).unwrap();
    every_derivation_of(&directory.join("content"), &content).await;
}

/// Few segments, and more than this Swift takes in one manifest.
#[tokio::test]
async fn what_is_stored_here_is_read_by_swiftclient_openssl_and_gzip() {
    let content = dump(2_000_000);
    for (kind, segment_max_size) in KINDS.into_iter().flat_map(|kind| [(kind, 200_000), (kind, 20_000)]) {
        let (_guard, directory) = directory();
        let place = Place::swift(&format!("backup_manifest = {kind}")).await;
        let (name, key, progress) = (place.name("b1.gz.enc"), password(), Progress::new("backup"));
        let encoding = Encoding { compress: true, key: Some(key.clone()) };
        let encoded = encode(Box::pin(std::io::Cursor::new(content.clone())), encoding, Arc::clone(&progress));
        let limits = Limits { segment_max_size, spool_dir: None, retry: Retry::default() };
        let uploaded = upload(&place.op, &*place.storage, &name, encoded, &limits, &progress).await.unwrap();
        assert!(uploaded.segments.len() > 2);
        place.storage.put_manifest(&place.op, &name, &uploaded.segments, &BackupMetadata::new()).await.unwrap();
        let (sealed, packed) = (directory.join("sealed"), directory.join("content.gz"));
        peer(&place, "download", &name.object, sealed.as_std_path(), kind).await;
        openssl(&["-d"], &key, &sealed, &packed).await;
        assert!(gunzip(&packed).await == content, "{kind}, {segment_max_size}");
        assert!(restored(&place, &name, &key).await == content, "{kind}, {segment_max_size}");
    }
}
