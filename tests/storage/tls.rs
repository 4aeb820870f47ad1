//! Swift and Keystone over TLS: whose certificates are good, and what to do about the others.

use camino::Utf8Path;
use tokio_util::sync::CancellationToken;
use trove_guestagent::error::Result;
use trove_guestagent::op::Op;
use trove_guestagent::strategies::storage::{StorageRequest, storage_for};

use crate::certificates::{Authority, VALID};
use crate::keystone::right_password;
use crate::support::{Place, Proxy, authority, body, md5, settings, swift, text};

async fn upload(place: &Place) -> Result<String> {
    place.storage.put_segment(&place.op, &place.name("o"), body(b"data", None)).await
}

#[tokio::test]
async fn the_certificate_of_swift_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(directory.path()).unwrap();
    let (known, other) = (Authority::new(directory, "known"), Authority::new(directory, "other"));
    let target = authority(&text(&swift(), "auth_url"));
    let proxy = Proxy::over_tls(&target, &known.issue("swift", &["127.0.0.1"], VALID)).await;
    let place = |lines: String| {
        let proxy = &proxy;
        async move { Place::behind_tls(proxy, &lines).await }
    };
    let cafile = |authority: &Authority| format!("[backup_credentials]\ncafile = {}", authority.file);
    for lines in [cafile(&known), "swift_api_insecure = true".to_owned()] {
        assert_eq!(upload(&place(lines.clone()).await).await.unwrap(), md5(b"data"), "{lines}");
    }
    for lines in [String::new(), cafile(&other)] {
        let refused = place(lines).await;
        refused.expect(upload(&refused).await, false, "[backup_credentials] cafile");
    }
    let elsewhere = Proxy::over_tls(&target, &known.issue("elsewhere", &["192.0.2.1"], VALID)).await;
    let refused = Place::behind_tls(&elsewhere, &cafile(&known)).await;
    refused.expect(upload(&refused).await, false, "[backup_credentials] cafile");
}

#[tokio::test]
async fn the_certificate_of_keystone_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(directory.path()).unwrap();
    let known = Authority::new(directory, "known");
    let url = text(&swift()["keystone"], "auth_url");
    let proxy = Proxy::over_tls(&authority(&url), &known.issue("keystone", &["127.0.0.1"], VALID)).await;
    let url = url.replace(&format!("http://{}", authority(&url)), &format!("https://{}", proxy.address));
    let op = Op::internal(CancellationToken::new());
    let open = |more: String| {
        let (op, lines) = (&op, format!("{}{more}", right_password(&url)));
        async move { storage_for(op, &settings(&lines), &StorageRequest::default()).await }
    };
    for lines in [format!("cafile = {}", known.file), "insecure = true".to_owned()] {
        open(lines.clone()).await.unwrap_or_else(|error| panic!("{lines}: {error}"));
    }
    let error = open(String::new()).await.err().unwrap();
    assert!(!error.is_transient() && error.to_string().contains("[backup_credentials] cafile"), "{error}");
}
