//! Forms of manifests, and what becomes of them in a real Swift.

use reqwest::Method;
use serde_json::{Value, json};
use trove_guestagent::model::{BackupMetadata, Release};
use trove_guestagent::strategies::storage::{StorageRequest, storage_for};

use crate::support::{Place, Proxy, md5, noise, settings};

async fn head(place: &Place, object: &str) -> reqwest::header::HeaderMap {
    place.raw(Method::HEAD, object).send().await.unwrap().headers().clone()
}

#[tokio::test]
async fn a_lone_segment_becomes_the_object() {
    let place = Place::swift("").await;
    let name = place.name("lone.gz");
    let kept = BackupMetadata::from([("parent_location".to_owned(), "http://x/y/z".to_owned())]);
    assert_eq!(place.store(&name, &[b"content"], &kept).await, md5(b"content"));
    let headers = head(&place, "lone.gz").await;
    assert_eq!(headers["x-object-meta-parent-location"], "http://x/y/z");
    assert!(!headers.contains_key("x-static-large-object"));
    assert_eq!(place.names().await, ["lone.gz"]);
}

#[tokio::test]
async fn a_static_manifest_has_the_metadata_and_the_checksum_trove_computes() {
    let place = Place::swift("").await;
    let kept = BackupMetadata::from([("lsn".to_owned(), "42".to_owned())]);
    let checksum = place.store(&place.name("large.gz"), &[b"one", b"two"], &kept).await;
    assert_eq!(checksum, md5(format!("{}{}", md5(b"one"), md5(b"two")).as_bytes()));
    let headers = head(&place, "large.gz").await;
    assert_eq!(
        (headers["x-object-meta-lsn"].as_bytes(), headers["x-static-large-object"].as_bytes()),
        (b"42".as_slice(), b"True".as_slice())
    );
    assert_eq!(headers["etag"].to_str().unwrap().trim_matches('"'), checksum);
    let whole = place.raw(Method::GET, "large.gz").send().await.unwrap().bytes().await.unwrap();
    assert_eq!(whole, b"onetwo".as_slice());
}

#[tokio::test]
async fn lists_of_lists_are_one_object_to_everybody() {
    let place = Place::swift("").await;
    let contents: Vec<Vec<u8>> = (1..=41).map(|index| noise(index, 2)).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let checksum = place.store(&place.name("nested.gz"), &contents, &BackupMetadata::new()).await;
    let headers = head(&place, "nested.gz").await;
    assert_eq!(headers["etag"].to_str().unwrap().trim_matches('"'), checksum);
    assert_eq!(place.raw(Method::GET, "nested.gz").send().await.unwrap().bytes().await.unwrap(), contents.concat());
    // As the controller deletes it.
    let deleted = place.raw(Method::DELETE, "nested.gz").query(&[("multipart-manifest", "delete")]).send().await.unwrap();
    assert!(deleted.status().is_success());
    assert_eq!(place.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_empty_segment_among_others_is_left_out() {
    let place = Place::swift("").await;
    let name = place.name("hollow.gz");
    place.store(&name, &[b"one", b"two", b""], &BackupMetadata::new()).await;
    assert_eq!(place.load(&name).await, b"onetwo");
    place.store(&place.name("hollow2.gz"), &[b"one", b""], &BackupMetadata::new()).await;
    assert_eq!(place.names().await, ["hollow.gz", "hollow2.gz", "hollow_00000000", "hollow_00000001"]);
}

#[tokio::test]
async fn a_dynamic_manifest_for_kilo() {
    let place = Place::swift("").await;
    let request = |release| StorageRequest {
        swift_url: Some(place.storage.location(&place.name("x")).replace(&format!("/{}/x", place.container), "")),
        release: Some(release),
        ..StorageRequest::default()
    };
    for (release, dynamic) in [(Release::Kilo, true), (Release::Train, false)] {
        let storage = storage_for(&place.op, &settings(""), &request(release)).await.unwrap();
        let name = place.name(if dynamic { "dlo.gz" } else { "slo.gz" });
        let segments = place.segments(&name, &[b"one", b"two"]).await;
        storage.put_manifest(&place.op, &name, &segments, &BackupMetadata::from([("lsn".to_owned(), "1".to_owned())])).await.unwrap();
        let headers = head(&place, &name.object).await;
        assert_eq!(headers.contains_key("x-object-manifest"), dynamic);
        assert_eq!(headers["x-object-meta-lsn"], "1");
    }
}

#[tokio::test]
async fn listings_are_read_to_their_last_page() {
    let proxy = Proxy::swift().await;
    for (kind, object) in [("slo", "pages-s.gz"), ("dlo", "pages-d.gz")] {
        let place = Place::behind(&proxy, &format!("backup_manifest = {kind}")).await;
        proxy.add(json!({"method": "GET", "path": "marker=", "query": "limit=3"})).await;
        let name = place.name(object);
        let contents: Vec<Vec<u8>> = (1..=10).map(|index| noise(index, 4)).collect();
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        place.store(&name, &contents, &BackupMetadata::new()).await;
        assert_eq!(place.load(&name).await, contents.concat());
        place.lose(&name.segment(8)).await;
        place.expect(place.storage.inspect(&place.op, &place.location(&name)).await, false, "_00000008");
        place.storage.delete(&place.op, &name).await.unwrap();
        assert_eq!(place.names().await, Vec::<String>::new());
    }
    let pages = proxy.requests().await.into_iter().filter(|(method, path, _)| method == "GET" && path.matches('/').count() == 3).count();
    assert!(pages >= 8, "{pages} pages");
}

#[tokio::test]
async fn a_swift_that_hides_its_limits_is_taken_for_a_usual_one() {
    let proxy = Proxy::swift().await;
    let place = Place::behind(&proxy, "").await;
    proxy.add(json!({"path": "^/info", "status": 403})).await;
    let name = place.name("hidden.gz");
    place.store(&name, &[b"one", b"two"], &BackupMetadata::new()).await;
    assert_eq!(place.load(&name).await, b"onetwo");
}

#[tokio::test]
async fn a_segment_that_was_replaced_is_noticed() {
    for kind in ["slo", "dlo"] {
        let place = Place::swift(&format!("backup_manifest = {kind}")).await;
        let name = place.name("replaced.gz");
        place.store(&name, &[b"one", b"two"], &BackupMetadata::new()).await;
        let part = place.storage.inspect(&place.op, &place.location(&name)).await.unwrap().parts[1].clone();
        place.segment(&name, 1, b"TWO").await;
        place.expect(place.storage.read(&place.op, &part, 0).await, false, "checksum");
        if kind == "slo" {
            place.expect(place.storage.inspect(&place.op, &place.location(&name)).await, false, "replaced_00000001");
        }
    }
}

#[tokio::test]
async fn a_manifest_of_pieces_of_objects_is_no_backup() {
    let place = Place::swift("").await;
    let name = place.name("pieces.gz");
    place.segments(&name, &[b"one", b"two"]).await;
    let entry = |index: usize, range: &str| json!({"path": name.segment(index).to_string(), "range": range});
    let list: Value = json!([entry(0, "0-1"), entry(1, "0-1")]);
    let put = place.raw(Method::PUT, "pieces.gz").query(&[("multipart-manifest", "put")]).json(&list).send().await.unwrap();
    assert!(put.status().is_success());
    place.expect(place.storage.inspect(&place.op, &place.location(&name)).await, false, "no form of a backup");
}

#[tokio::test]
async fn a_dynamic_manifest_of_everybodys_objects_is_not_deleted() {
    let place = Place::swift("").await;
    place.store(&place.name("b2.gz"), &[b"other"], &BackupMetadata::new()).await;
    let prefix = format!("{}/b", place.container);
    let put = place.raw(Method::PUT, "b").header("x-object-manifest", prefix).body("").send().await.unwrap();
    assert!(put.status().is_success());
    place.expect(place.storage.delete(&place.op, &place.name("b")).await, false, "delete it by hand");
    assert_eq!(place.names().await, ["b", "b2.gz"]);
}
