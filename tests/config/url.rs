//! `transport_url` against the real `TransportURL.parse`.

use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};
use trove_guestagent::config::TransportUrl;

use crate::dialect::generate;
use crate::oracle::ask;

/// URLs as operators write them, and as they should not.
const WRITTEN: &[&str] = &[
    "rabbit://",
    "rabbit:///",
    "rabbit:",
    "rabbit",
    "",
    "RABBIT://u:p@h:5672/",
    "rabbit://u:p@h:5672//",
    "rabbit://u:p@h:5672//v",
    "rabbit://u:p@h/%2Fv%20w",
    "rabbit://u%40d:p%3A%2f%zz%4@h1:5671,h2,u3:p3@h3:1/trove?ssl=1&x=a&x=b&empty=&none&sp=a+b%20c",
    "rabbit://u@d:p:q@h/",
    "rabbit://u@h/",
    "rabbit://:p@h/",
    "rabbit://u:@h/",
    "rabbit://u:p@/",
    "rabbit://u:p@:5672/",
    "rabbit://u:p@[::1]:5672/",
    "rabbit://u:p@[fe80::1%25eth0]/",
    "rabbit://u:p@::1/",
    "rabbit://u:p@[::1/",
    "rabbit://u:p@h:port/",
    "rabbit://u:p@h:/",
    "rabbit://u:p@h:5_672/",
    "rabbit://u:p@h,,h2,/",
    "rabbit://u:pa/ss@h/",
    "rabbit://u:pa#ss@h/",
    "rabbit://u:pa?ss=1@h/",
    "rabbit://u:%C3%A9%ff%C3@h/%C3%A9",
    "kombu+memory://",
    "1rabbit://h/",
    "rab bit://h/",
    " \trabbit://h\n/v",
];

fn generated() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "u",
        "p%40",
        "h",
        "host.example",
        ":",
        ":5672",
        ":1x",
        "@",
        ",",
        "/",
        "?",
        "#",
        "=",
        "&",
        "+",
        "%2F",
        "%2",
        "%zz",
        "%ff",
        "é",
        ";",
        " ",
        "a=b",
        "&ssl=1",
        "[::1]",
    ]);
    (prop::sample::select(vec!["rabbit://", "rabbit://u:p@h", "kombu:", "x"]), prop::collection::vec(piece, 0..9))
        .prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

fn ours(url: &str) -> Option<Json> {
    let url = TransportUrl::parse(url).ok()?;
    let hosts: Vec<Json> = url
        .hosts
        .iter()
        .map(|host| json!([host.host, host.port, host.user, host.password.as_ref().map(|text| text.expose_secret())]))
        .collect();
    let mut query: Vec<(&str, &str)> = url.query.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    query.sort_unstable();
    Some(json!({"scheme": url.scheme, "virtual_host": url.virtual_host, "hosts": hosts, "query": query}))
}

#[test]
fn urls_parse_alike() {
    let mut urls: Vec<String> = WRITTEN.iter().copied().map(str::to_owned).collect();
    urls.extend(generate(generated(), 4000));
    // oslo takes an empty text for no URL at all and goes on to the option's default.
    urls.retain(|url| !url.is_empty());
    let cases: Vec<Json> = urls.iter().map(|url| json!({"ask": "url", "url": url})).collect();
    let mut accepted = 0;
    for (url, theirs) in urls.iter().zip(ask(&cases)) {
        match ours(url) {
            Some(found) => {
                accepted += 1;
                // Which brackets are refused depends on the version of Python.
                assert!(found == theirs || (url.contains('[') && theirs.get("error").is_some()), "{url:?}: {theirs} not {found}");
            }
            None => assert!(theirs.get("error").is_some() || url.contains('['), "{url:?}: {theirs}"),
        }
    }
    assert!(accepted * 2 > urls.len(), "most are accepted: {accepted} of {}", urls.len());
}
