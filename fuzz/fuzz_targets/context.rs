//! Encrypted requests. The first byte chooses: as it came from the wire, or encrypted here, so that what lies behind the
//! decryption is reached.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use openssl::symm::Cipher;
use serde_json::{Map, Value};
use trove_guestagent::model::RequestContext;
use trove_guestagent::rpc::{InstanceKey, Request, open};

/// The key of the wire reference's test vectors: no instance has it.
static KEY: LazyLock<InstanceKey> =
    LazyLock::new(|| InstanceKey::derive(&"0123456789abcdefGHIJKLMNOPQRSTuv".into()).expect("OpenSSL has MD5"));

/// The AES key that is derived from it: the digits of its MD5.
const DERIVED: &str = "8600fc78703fcf3b7fe9415bf19b8a7c";

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 3 {
        0 => from_the_wire(rest),
        1 => encrypted(rest),
        _ => one_value(rest),
    }
});

/// A message's bytes, whose arguments and context may be encrypted.
fn from_the_wire(body: &[u8]) {
    let Ok(incoming) = open(body) else { return };
    match KEY.decrypt_request(&incoming.args, &incoming.context) {
        Ok((args, context)) => decode(&incoming.method, args, context),
        Err(error) => drop(error.to_string()),
    }
}

/// `METHOD\nCONTEXT\nNAME VALUE\n...`: every value is encrypted as its text stands, JSON or not.
fn encrypted(script: &[u8]) {
    let mut lines = script.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (method, context) = (String::from_utf8_lossy(line()).into_owned(), seal(line()));
    let args = lines.filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        Some((String::from_utf8_lossy(&line[..space]).into_owned(), seal(&line[space + 1..])))
    });
    let sealed = Map::from_iter([("context".to_owned(), context)]);
    match KEY.decrypt_request(&args.collect(), &sealed) {
        Ok((args, context)) => decode(&method, args, context),
        Err(error) => drop(error.to_string()),
    }
}

/// Base64 text of one value.
fn one_value(text: &[u8]) {
    let text = Value::String(String::from_utf8_lossy(text).into_owned());
    if let Ok(value) = KEY.decrypt("it", &text) {
        let again = Value::String(KEY.encrypt(&value).expect("OpenSSL has AES"));
        assert_eq!(KEY.decrypt("it", &again).expect("what is encrypted decrypts"), value);
    }
}

fn decode(method: &str, args: Map<String, Value>, context: Map<String, Value>) {
    let context = RequestContext::from_wire(context);
    let token = context.auth_token.is_some();
    let shown = format!("{context:?}");
    assert!(!token || shown.contains("REDACTED"), "a printed context shows its token");
    let _notification = context.guest_notification();
    match Request::decode(method, args) {
        Ok(request) => drop(format!("{request:?}")),
        Err(error) => drop(error.to_string()),
    }
}

/// `text` encrypted as the controller does it, with an IV of zeros: the same input must always take the same way.
fn seal(text: &[u8]) -> Value {
    let sealed = openssl::symm::encrypt(Cipher::aes_256_cbc(), DERIVED.as_bytes(), Some(&[0; 16]), text).expect("OpenSSL has AES");
    Value::String(openssl::base64::encode_block(&[&[0; 16], sealed.as_slice()].concat()))
}
