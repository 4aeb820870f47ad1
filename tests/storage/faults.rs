//! What networks and servers do, done to the real Swift by a proxy in front of it; and what the real Swift does by itself.

use std::time::{Duration, Instant};

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trove_guestagent::error::Result;
use trove_guestagent::model::BackupMetadata;
use trove_guestagent::strategies::storage::{Segment, SegmentBody, byte_stream};

use crate::support::{Place, Proxy, body, collect, login, md5, noise, swift, text};

/// Waits for a server that has stopped are short here.
const IMPATIENT: &str = "swift_idle_timeout = 2";

/// An upload of 300000 bytes.
async fn upload(place: &Place, object: &str) -> Result<String> {
    place.storage.put_segment(&place.op, &place.name(object), body(&noise(300_000, 9), None)).await
}

async fn with_fault(rule: Value) -> (Proxy, Place) {
    let proxy = Proxy::swift().await;
    let place = Place::behind(&proxy, IMPATIENT).await;
    proxy.add(rule).await;
    (proxy, place)
}

#[tokio::test]
async fn a_busy_swift_is_worth_another_attempt() {
    for status in [500, 502, 503, 504, 408, 429] {
        let (_proxy, place) = with_fault(json!({"method": "PUT", "times": 1, "status": status})).await;
        place.expect(upload(&place, "o").await, true, &status.to_string());
        assert!(place.names().await.is_empty());
        assert_eq!(upload(&place, "o").await.unwrap(), md5(&noise(300_000, 9)));
    }
}

#[tokio::test]
async fn an_answer_before_the_body_is_heard() {
    let (_proxy, place) = with_fault(json!({"method": "PUT", "status": 503, "early": true})).await;
    let (sender, bytes) = byte_stream(1);
    sender.send(Ok(bytes::Bytes::from_static(b"the first, and no more for now"))).await.unwrap();
    let outcome = place.storage.put_segment(&place.op, &place.name("o"), SegmentBody { bytes, size: None }).await;
    drop(sender);
    place.expect(outcome, true, "");
}

#[tokio::test]
async fn a_refusal_is_final_and_its_words_are_passed_on() {
    for (status, word) in [(403, "operator_roles"), (404, "container"), (413, "quota"), (301, "redirects")] {
        let (_proxy, place) = with_fault(json!({"method": "PUT", "status": status, "body": "<p>because so</p>"})).await;
        let outcome = upload(&place, "o").await;
        place.expect(outcome, false, word);
        place.expect(upload(&place, "o").await, false, "because so");
    }
}

#[tokio::test]
async fn a_token_that_an_answer_repeats_is_in_no_error() {
    let (proxy, place) = with_fault(json!({"method": "GET"})).await;
    proxy.add(json!({"status": 500, "body": format!("your token was {}", place.token.expose_secret())})).await;
    place.expect(upload(&place, "o").await, true, "your token was ***");
    place.expect(place.storage.delete(&place.op, &place.name("o")).await, true, "500");
}

#[tokio::test]
async fn a_slow_swift_is_waited_for_while_it_moves() {
    // Longer in all than the wait for one that does not move.
    let (_proxy, place) = with_fault(json!({"method": "GET", "slow": 0.6})).await;
    let name = place.name("slow.gz");
    assert_eq!(upload(&place, "slow_00000000").await.unwrap(), md5(&noise(300_000, 9)));
    let part = Segment { name: name.segment(0), size: 300_000, md5: md5(&noise(300_000, 9)) };
    let stream = place.storage.read(&place.op, &part, 0).await.unwrap();
    assert_eq!(collect(stream).await.unwrap(), noise(300_000, 9));
}

#[tokio::test]
async fn a_dump_that_takes_its_time_is_no_fault_of_swift() {
    let place = Place::swift("swift_idle_timeout = 1").await;
    let (sender, bytes) = byte_stream(1);
    let feeding = async {
        for _ in 0..3 {
            sender.send(Ok(bytes::Bytes::from_static(b"data"))).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        drop(sender);
    };
    let name = place.name("o");
    let (outcome, ()) = tokio::join!(place.storage.put_segment(&place.op, &name, SegmentBody { bytes, size: None }), feeding);
    assert_eq!(outcome.unwrap(), md5(b"datadatadata"));
}

#[tokio::test]
async fn a_swift_that_stops_is_given_up() {
    let (_proxy, place) = with_fault(json!({"method": "PUT", "stall_after": 100_000})).await;
    place.expect(upload(&place, "o").await, true, "nothing moved");
    let (_proxy, place) = with_fault(json!({"method": "GET", "stall_answer_after": 100_000})).await;
    upload(&place, "o").await.unwrap();
    let part = Segment { name: place.name("o"), size: 300_000, md5: md5(&noise(300_000, 9)) };
    place.expect(collect(place.storage.read(&place.op, &part, 0).await.unwrap()).await, true, "nothing moved");
}

#[tokio::test]
async fn a_connection_that_closes_in_the_middle_stores_nothing() {
    let (_proxy, place) = with_fault(json!({"method": "PUT", "times": 1, "close_after": 100_000})).await;
    place.expect(upload(&place, "o").await, true, "");
    assert!(place.names().await.is_empty());
    upload(&place, "o").await.unwrap();
}

#[tokio::test]
async fn a_download_that_breaks_off_can_go_on_where_it_was() {
    let (_proxy, place) = with_fault(json!({"method": "GET", "times": 1, "close_answer_after": 100_000})).await;
    upload(&place, "o").await.unwrap();
    let part = Segment { name: place.name("o"), size: 300_000, md5: md5(&noise(300_000, 9)) };
    let mut stream = place.storage.read(&place.op, &part, 0).await.unwrap();
    let mut got = Vec::new();
    let error = loop {
        match stream.recv().await.expect("an error comes before the end") {
            Ok(bytes) => got.extend_from_slice(&bytes),
            Err(error) => break error,
        }
    };
    assert!(error.is_transient(), "{error}");
    let rest = place.storage.read(&place.op, &part, u64::try_from(got.len()).unwrap()).await.unwrap();
    got.extend(collect(rest).await.unwrap());
    assert_eq!(got, noise(300_000, 9));
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let proxy = Proxy::swift().await;
    let place = Place::behind(&proxy, IMPATIENT).await;
    drop(proxy);
    place.expect(upload(&place, "o").await, true, "");
}

#[tokio::test]
async fn a_token_that_ends_between_segments_is_final_for_a_request() {
    let proxy = Proxy::swift().await;
    let ended = Place::behind(&proxy, "").await;
    proxy.add(json!({"status": 401})).await;
    ended.expect(upload(&ended, "o").await, false, "[backup_credentials]");
    ended.expect(ended.storage.delete(&ended.op, &ended.name("o")).await, false, "cannot be renewed");
}

#[tokio::test]
async fn a_token_swift_has_forgotten_is_refused_by_the_real_swift() {
    // tempauth gives every user one token, and the other tests go on.
    let place = Place::of("other_user", "").await;
    upload(&place, "o").await.unwrap();
    forget(place.token.expose_secret()).await;
    // It was good: Swift may only have had no answer of Keystone.
    for _ in 0..3 {
        place.expect(upload(&place, "o").await, true, "was good before");
    }
    place.expect(upload(&place, "o").await, false, "[backup_credentials]");
}

#[tokio::test]
async fn a_good_token_that_is_refused_once_is_tried_again() {
    let proxy = Proxy::swift().await;
    let place = Place::behind(&proxy, "").await;
    upload(&place, "o").await.unwrap();
    proxy.add(json!({"method": "PUT", "times": 1, "status": 401})).await;
    place.expect(upload(&place, "o").await, true, "was good before");
    upload(&place, "o").await.unwrap();
    // Where there is no stream, nobody notices.
    proxy.add(json!({"method": "DELETE", "times": 1, "status": 401})).await;
    place.storage.delete(&place.op, &place.name("o")).await.unwrap();
    assert!(place.names().await.is_empty());
}

/// Removes a token from the cache in which tempauth keeps it.
async fn forget(token: &str) {
    let mut cache = tokio::net::TcpStream::connect(text(&swift(), "memcached")).await.unwrap();
    let request = format!("delete {}\r\n", md5(format!("AUTH_/token/{token}").as_bytes()));
    cache.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 9];
    cache.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"DELETED\r\n");
}

#[tokio::test]
async fn a_container_that_is_missing() {
    let place = Place::swift("").await;
    let name = trove_guestagent::strategies::storage::ObjectName::new("no-such-container", "o");
    place.expect(place.storage.put_segment(&place.op, &name, body(b"x", None)).await, false, "container");
    place.expect(place.storage.ensure_container(&place.op, "a/b").await, false, "a/b");
}

#[tokio::test]
async fn a_quota_that_is_full() {
    let place = Place::swift("").await;
    upload(&place, "o").await.unwrap();
    let quota = place.raw(Method::POST, "").header("x-container-meta-quota-bytes", "1000");
    assert!(quota.send().await.unwrap().status().is_success());
    place.expect(upload(&place, "o2").await, false, "quota");
    let known = place.storage.put_segment(&place.op, &place.name("o3"), body(&noise(5000, 1), Some(5000))).await;
    place.expect(known, false, "quota");
}

#[tokio::test]
async fn a_quota_of_the_account_that_is_full() {
    let place = Place::of("limited_user", "").await;
    let (reseller, _) = login("reseller").await;
    let quota = place.account(Method::POST, &reseller).header("x-account-meta-quota-bytes", "1000");
    assert!(quota.send().await.unwrap().status().is_success());
    let upload = || async { place.storage.put_segment(&place.op, &place.name("o"), body(&noise(5000, 1), Some(5000))).await };
    // Swift's proxy remembers the account for a second.
    let deadline = Instant::now() + Duration::from_secs(60);
    while upload().await.is_ok() {
        assert!(Instant::now() < deadline, "the quota is not seen");
    }
    place.expect(upload().await, false, "the quota of the container or account is full");
}

#[tokio::test]
async fn an_entity_tag_that_lies() {
    let lie = "0123456789abcdef0123456789abcdef";
    let (proxy, place) = with_fault(json!({"method": "PUT", "times": 1, "etag": lie})).await;
    // Comparing is the uploader's.
    assert_eq!(upload(&place, "o").await.unwrap(), lie);
    proxy.add(json!({"method": "GET", "times": 1, "etag": lie})).await;
    let part = Segment { name: place.name("o"), size: 300_000, md5: md5(&noise(300_000, 9)) };
    place.expect(place.storage.read(&place.op, &part, 0).await, false, lie);
    for contents in [&[b"lone".as_slice()][..], &[b"one", b"two"]] {
        let name = place.name("lied.gz");
        let segments = place.segments(&name, contents).await;
        proxy.add(json!({"method": "HEAD", "path": "lied.gz", "times": 1, "etag": lie})).await;
        let outcome = place.storage.put_manifest(&place.op, &name, &segments, &BackupMetadata::new()).await;
        place.expect(outcome, false, lie);
        assert!(place.storage.inspect(&place.op, &place.location(&name)).await.is_err(), "there must be no object");
        place.storage.put_manifest(&place.op, &name, &segments, &BackupMetadata::new()).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_does_no_harm() {
    for contents in [&[b"lone".as_slice()][..], &[b"one", b"two"]] {
        for method in ["PUT", "DELETE"] {
            let (proxy, place) = with_fault(json!({"method": "OPTIONS"})).await;
            let name = place.name("lost.gz");
            let segments = place.segments(&name, contents).await;
            proxy.add(json!({"method": method, "times": 1, "lose": true})).await;
            let none = BackupMetadata::new();
            let put = || place.storage.put_manifest(&place.op, &name, &segments, &none);
            if let Err(error) = put().await {
                assert!(error.is_transient(), "{error}");
                put().await.unwrap();
            }
            assert_eq!(place.load(&name).await, contents.concat());
            proxy.add(json!({"method": "DELETE", "times": 1, "lose": true})).await;
            // One answer is lost here, and one above if nothing was deleted there.
            for _ in 0..2 {
                if let Err(error) = place.storage.delete(&place.op, &name).await {
                    assert!(error.is_transient(), "{error}");
                }
            }
            place.storage.delete(&place.op, &name).await.unwrap();
            assert_eq!(place.names().await, Vec::<String>::new());
        }
    }
}
