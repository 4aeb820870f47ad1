//! Accounts and tokens of the real Keystone, with the real Swift behind its middleware.

use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trove_guestagent::error::Result;
use trove_guestagent::model::BackupMetadata;
use trove_guestagent::op::Op;
use trove_guestagent::progress::Progress;
use trove_guestagent::strategies::backup::{Limits, Retry, upload};
use trove_guestagent::strategies::storage::{ObjectName, Segment, Storage, StorageRequest, byte_stream, storage_for};

use crate::support::{Proxy, authority, body, collect, md5, noise, op, settings, swift, text, unique};

pub(crate) fn keystone() -> Value {
    swift()["keystone"].clone()
}

/// `[backup_credentials]` with user and password, at this Keystone.
pub(crate) fn password(auth_url: &str, password: &str) -> String {
    let keystone = keystone();
    format!(
        "[backup_credentials]\nauth_url = {auth_url}\nusername = {}\npassword = {password}\nproject_name = {}\nown_account = true\n",
        text(&keystone, "username"),
        text(&keystone, "project_name"),
    )
}

pub(crate) fn right_password(auth_url: &str) -> String {
    password(auth_url, &text(&keystone(), "password"))
}

async fn open(lines: &str, op: &Op) -> Result<std::sync::Arc<dyn Storage>> {
    storage_for(op, &settings(lines), &StorageRequest::default()).await
}

fn internal() -> Op {
    Op::internal(CancellationToken::new())
}

/// Stores a backup of two segments, reads it and deletes it.
async fn round_trip(storage: &dyn Storage, op: &Op) {
    let name = ObjectName::new(unique(), "b.gz");
    storage.ensure_container(op, &name.container).await.unwrap();
    let mut segments = Vec::new();
    for (index, content) in [b"one", b"two"].into_iter().enumerate() {
        let md5 = storage.put_segment(op, &name.segment(index), body(content, None)).await.unwrap();
        segments.push(Segment { name: name.segment(index), size: 3, md5 });
    }
    storage.put_manifest(op, &name, &segments, &BackupMetadata::new()).await.unwrap();
    assert_eq!(collect(storage.read(op, &segments[1], 0).await.unwrap()).await.unwrap(), b"two");
    storage.delete(op, &name).await.unwrap();
}

/// Keystone behind a proxy, and the address of it.
async fn proxied() -> (Proxy, String) {
    let url = text(&keystone(), "auth_url");
    let proxy = Proxy::before(&authority(&url)).await;
    let url = url.replace(&authority(&url), &proxy.address);
    (proxy, url)
}

async fn tokens_asked(proxy: &Proxy) -> usize {
    proxy.requests().await.iter().filter(|(method, path, _)| method == "POST" && path == "/v3/auth/tokens").count()
}

/// A token of the user, had by hand.
async fn token() -> (SecretString, Value) {
    let keystone = keystone();
    let domain = json!({"name": "Default"});
    let user = json!({"name": text(&keystone, "username"), "domain": domain, "password": text(&keystone, "password")});
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": text(&keystone, "project_name"), "domain": domain}}}});
    let answer = reqwest::Client::new().post(format!("{}/auth/tokens", text(&keystone, "auth_url"))).json(&body).send().await.unwrap();
    let token = SecretString::from(answer.headers()["x-subject-token"].to_str().unwrap().to_owned());
    (token, answer.json::<Value>().await.unwrap()["token"].clone())
}

async fn revoke(token: &str) {
    let url = format!("{}/auth/tokens", text(&keystone(), "auth_url"));
    let sent = reqwest::Client::new().delete(url).header("x-auth-token", token).header("x-subject-token", token).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.status());
}

#[tokio::test]
async fn user_and_password() {
    let url = text(&keystone(), "auth_url");
    let op = internal();
    round_trip(&*open(&right_password(&url), &op).await.unwrap(), &op).await;
    // Without the version in the address.
    round_trip(&*open(&right_password(url.trim_end_matches("/v3")), &op).await.unwrap(), &op).await;
}

#[tokio::test]
async fn an_application_credential() {
    let keystone = keystone();
    let lines = format!(
        "[backup_credentials]\nauth_url = {}\napplication_credential_id = {}\napplication_credential_secret = {}\nown_account = true\n",
        text(&keystone, "auth_url"),
        text(&keystone, "application_credential_id"),
        text(&keystone, "application_credential_secret"),
    );
    let op = internal();
    round_trip(&*open(&lines, &op).await.unwrap(), &op).await;
}

#[tokio::test]
async fn the_account_of_the_request_with_the_credentials_of_the_guest() {
    let (_, token) = token().await;
    let lines = right_password(&text(&keystone(), "auth_url")).replace("own_account = true", "");
    let op = op(&SecretString::from("not-used"), json!({"service_catalog": token["catalog"]}));
    round_trip(&*open(&lines, &op).await.unwrap(), &op).await;
    let error = open(&lines, &internal()).await.unwrap_err().to_string();
    assert!(error.contains("own_account"), "{error}");
}

#[tokio::test]
async fn the_token_and_catalog_of_a_request() {
    let (token, body) = token().await;
    let endpoint =
        body["catalog"].as_array().unwrap().iter().find(|service| service["type"] == "object-store").unwrap()["endpoints"][0]["url"]
            .clone();
    // As the middleware gives it to Trove: version 2.
    let catalog = json!([{"type": "object-store", "name": "swift", "endpoints": [{"region": "RegionOne", "publicURL": endpoint}]}]);
    let with_catalog = op(&token, json!({"service_catalog": catalog}));
    round_trip(&*open("", &with_catalog).await.unwrap(), &with_catalog).await;
    let project = body["project"]["id"].clone();
    let prefix = endpoint.as_str().unwrap().trim_end_matches(project.as_str().unwrap());
    let with_option = op(&token, json!({"project_id": project}));
    round_trip(&*open(&format!("swift_url = {prefix}"), &with_option).await.unwrap(), &with_option).await;
}

#[tokio::test]
async fn a_token_of_a_request_is_scoped_again_where_nothing_says_where_swift_is() {
    let (token, body) = token().await;
    let op = op(&token, json!({"project_id": body["project"]["id"], "service_catalog": []}));
    let lines = format!("[service_credentials]\nauth_url = {}\nregion_name = RegionOne\n", text(&keystone(), "auth_url"));
    round_trip(&*open(&lines, &op).await.unwrap(), &op).await;
    let error = open("", &op).await.unwrap_err().to_string();
    assert!(error.contains("swift_url"), "{error}");
    let elsewhere = open(&lines.replace("RegionOne", "Elsewhere"), &op).await.unwrap_err().to_string();
    assert!(elsewhere.contains("RegionOne") && elsewhere.contains("Elsewhere"), "{elsewhere}");
}

#[tokio::test]
async fn a_wrong_password_is_final_and_not_repeated() {
    let lines = password(&text(&keystone(), "auth_url"), "pl4nted-wrong");
    let error = open(&lines, &internal()).await.unwrap_err();
    let words = format!("{error} {error:?}");
    assert!(!error.is_transient() && words.contains("[backup_credentials]") && !words.contains("pl4nted"), "{words}");
}

#[tokio::test]
async fn a_keystone_that_is_busy_is_worth_another_attempt() {
    let (proxy, url) = proxied().await;
    proxy.add(json!({"times": 1, "status": 503})).await;
    let error = open(&right_password(&url), &internal()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    open(&right_password(&url), &internal()).await.unwrap();
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let (proxy, url) = proxied().await;
    // The first token is about to end, by Keystone's own account.
    let times = r#""(issued_at|expires_at)": "[^"]*""#;
    proxy.add(json!({"method": "POST", "times": 1, "replace": [times, r#""\1": "2026-01-01T00:00:00.000000Z""#]})).await;
    let op = internal();
    let storage = open(&right_password(&url), &op).await.unwrap();
    assert_eq!(tokens_asked(&proxy).await, 1);
    round_trip(&*storage, &op).await;
    assert_eq!(tokens_asked(&proxy).await, 2);
}

#[tokio::test]
async fn one_token_is_enough_for_many_requests_at_once() {
    let (proxy, url) = proxied().await;
    let op = internal();
    let storage = open(&right_password(&url), &op).await.unwrap();
    let containers: Vec<String> = std::iter::repeat_with(unique).take(5).collect();
    let made = futures_util::future::join_all(containers.iter().map(|name| storage.ensure_container(&op, name))).await;
    assert!(made.iter().all(Result::is_ok));
    assert_eq!(tokens_asked(&proxy).await, 1);
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_of_a_backup_is_replaced() {
    // Swift behind a proxy tells which token it saw; the address of the account is the request's.
    let (_, account) = token().await;
    let op = op(&SecretString::from("not-used"), json!({"service_catalog": account["catalog"]}));
    let (proxy, url) = proxied().await;
    let storage = open(&right_password(&url).replace("own_account = true", ""), &op).await.unwrap();
    let name = ObjectName::new(unique(), "b.gz");
    storage.ensure_container(&op, &name.container).await.unwrap();
    let segment = |index: usize| {
        let (storage, op, name) = (storage.clone(), op.clone(), name.segment(index));
        async move { storage.put_segment(&op, &name, body(b"data", None)).await }
    };
    segment(0).await.unwrap();
    revoke_last(&proxy).await;
    // The stream is spent: the next attempt succeeds.
    let error = segment(1).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("401"), "{error}");
    segment(1).await.unwrap();
    revoke_last(&proxy).await;
    // Without a stream nobody notices.
    let segments: Vec<Segment> = (0..2).map(|index| Segment { name: name.segment(index), size: 4, md5: md5(b"data") }).collect();
    storage.put_manifest(&op, &name, &segments, &BackupMetadata::new()).await.unwrap();
    storage.delete(&op, &name).await.unwrap();
    assert_eq!(tokens_asked(&proxy).await, 3);
}

#[tokio::test]
async fn a_token_that_ends_inside_a_segment_costs_one_more_attempt() {
    let (_, account) = token().await;
    let op = op(&SecretString::from("not-used"), json!({"service_catalog": account["catalog"]}));
    let (proxy, url) = proxied().await;
    let storage = open(&right_password(&url).replace("own_account = true", ""), &op).await.unwrap();
    let name = ObjectName::new(unique(), "b.gz");
    storage.ensure_container(&op, &name.container).await.unwrap();
    let (sender, encoded) = byte_stream(1);
    // The token ends once the first segment is stored and the second is on its way.
    let feeding = async {
        sender.send(Ok(Bytes::from(noise(100_000, 1)))).await.unwrap();
        sender.send(Ok(Bytes::from(noise(50_000, 2)))).await.unwrap();
        sender.send(Ok(Bytes::from(noise(50_000, 3)))).await.unwrap();
        revoke_last(&proxy).await;
        sender.send(Ok(Bytes::from(noise(70_000, 4)))).await.unwrap();
        drop(sender);
    };
    let limits = Limits { segment_max_size: 100_000, spool_dir: None, retry: Retry::default() };
    let progress = Progress::new("test");
    let (uploaded, ()) = tokio::join!(upload(&op, &*storage, &name, encoded, &limits, &progress), feeding);
    let segments = uploaded.unwrap().segments;
    assert_eq!(segments.iter().map(|segment| segment.size).collect::<Vec<_>>(), [100_000, 100_000, 70_000]);
    assert_eq!((progress.snapshot().retries, tokens_asked(&proxy).await), (1, 2));
    storage.put_manifest(&op, &name, &segments, &BackupMetadata::new()).await.unwrap();
    let third = collect(storage.read(&op, &segments[2], 0).await.unwrap()).await.unwrap();
    assert!(third == noise(70_000, 4));
    storage.delete(&op, &name).await.unwrap();
}

/// Ends the token that was given last.
async fn revoke_last(proxy: &Proxy) {
    revoke(proxy.last_token().await.expose_secret()).await;
}
