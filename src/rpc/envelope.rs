//! The envelope of oslo.messaging (`_drivers/common.py: serialize_msg, deserialize_msg`): a JSON object whose
//! `oslo.message` is the request as a JSON *string*.

use std::io::Read;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Nothing larger is accepted: RabbitMQ's own default limit is 128 MiB (`max_message_size`), and a compressed body must not
/// grow beyond it.
const MAX_BODY: usize = 128 << 20;

/// A request as it was on the wire, before decryption.
#[derive(Clone, Default)]
pub struct Incoming {
    /// Method name.
    pub method: String,
    /// Keyword arguments; values may be encrypted.
    pub args: Map<String, Value>,
    /// True when `args` was there and was no object: a call is told so.
    pub has_bad_args: bool,
    /// RPC version, `1.0` when absent.
    pub version: String,
    /// Namespace; Trove uses none.
    pub namespace: Option<String>,
    /// Call id; absent in casts.
    pub msg_id: Option<String>,
    /// Reply queue; absent in casts.
    pub reply_queue: Option<String>,
    /// True when the key `_timeout` was there: the client is oslo.messaging 6.3 or later.
    pub knows_call_monitor: bool,
    /// Call monitor time-out in seconds, when the client wants keep-alives.
    pub call_monitor_timeout: Option<u64>,
    /// De-duplication id.
    pub unique_id: Option<String>,
    /// Context keys, without their `_context_` prefix; may be one encrypted `context`.
    pub context: Map<String, Value>,
}

impl std::fmt::Debug for Incoming {
    // Arguments and context hold passwords and tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("method", &self.method).field("msg_id", &self.msg_id).finish_non_exhaustive()
    }
}

impl Incoming {
    /// True when the sender waits for an answer.
    pub fn is_call(&self) -> bool {
        self.msg_id.is_some()
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "oslo.version")]
    version: Option<String>,
    #[serde(rename = "oslo.message")]
    message: Option<String>,
}

/// What goes out.
#[derive(Serialize)]
struct Sealed<'a> {
    #[serde(rename = "oslo.version")]
    version: &'static str,
    #[serde(rename = "oslo.message")]
    message: &'a str,
}

/// Undoes what the AMQP header `compression` says: what `kombu_compression` can be on a controller without further packages but LZMA
/// (kombu/compression.py; `application/x-gzip` is zlib).
///
/// # Errors
/// [`Error::BadRequest`]: another compression, damage, or too large.
pub(super) fn decompress(body: Vec<u8>, compression: Option<&str>) -> Result<Vec<u8>> {
    match compression {
        None | Some("") => Ok(body),
        Some("application/x-gzip") => unpack(flate2::read::ZlibDecoder::new(&*body)),
        Some("application/x-bz2") => unpack(bzip2::read::BzDecoder::new(&*body)),
        Some(other) => Err(malformed(format!(
            "compression '{}' is not supported; set kombu_compression to gzip or bzip2 on the controller, or unset it",
            clip(other)
        ))),
    }
}

/// Opens a message body as a request.
///
/// # Errors
/// [`Error::BadRequest`] naming what is wrong with the message; never its content.
pub fn open(body: &[u8]) -> Result<Incoming> {
    split(open_value(body)?)
}

/// Opens a message body, whatever it is (a request, a cast, a part of a reply).
///
/// # Errors
/// Those of [`open`], as far as the envelope goes.
pub fn open_value(body: &[u8]) -> Result<Map<String, Value>> {
    // An object without the two keys of the envelope is itself the message (oslo's v1.0 format).
    let envelope: Option<Envelope> = serde_json::from_slice(body).ok();
    let inner = match envelope {
        Some(Envelope { version: Some(version), message: Some(message) }) => {
            if version.split('.').next() != Some("2") || version.split('.').nth(1).is_none_or(|minor| minor != "0") {
                return Err(malformed(format!("envelope version '{}' is not 2.0", clip(&version))));
            }
            serde_json::from_str(&message)
        }
        _ => serde_json::from_slice(body),
    };
    inner.map_err(|error| malformed(format!("not a JSON object ({:?} error at column {})", error.classify(), error.column())))
}

/// Wraps a message for the wire.
pub fn seal(message: &Map<String, Value>) -> Vec<u8> {
    seal_text(message).into_bytes()
}

/// The same, as text.
pub(super) fn seal_text(message: &impl Serialize) -> String {
    let json = "messages have text for keys, and nothing that fails";
    let text = serde_json::to_string(message).expect(json);
    serde_json::to_string(&Sealed { version: "2.0", message: &text }).expect(json)
}

/// A fresh `_unique_id` or `_msg_id`: 32 hexadecimal digits.
pub fn fresh_id() -> String {
    Uuid::new_v4().simple().to_string()
}

fn malformed(reason: String) -> Error {
    Error::bad_request(format!("malformed message: {reason}"))
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

fn unpack(decoder: impl Read) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    decoder.take(MAX_BODY as u64 + 1).read_to_end(&mut text).map_err(|error| malformed(format!("it does not decompress ({error})")))?;
    if text.len() > MAX_BODY {
        return Err(malformed(format!("it is larger than {MAX_BODY} bytes decompressed")));
    }
    Ok(text)
}

fn split(mut inner: Map<String, Value>) -> Result<Incoming> {
    let mut text = |key: &str| match inner.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(malformed(format!("'{key}' is not a string"))),
    };
    let method = text("method")?.ok_or_else(|| malformed("it names no method".to_owned()))?;
    let version = text("version")?.unwrap_or_else(|| "1.0".to_owned());
    let namespace = text("namespace")?;
    let msg_id = text("_msg_id")?;
    let reply_queue = text("_reply_q")?;
    let unique_id = text("_unique_id")?;
    let (args, has_bad_args) = match inner.remove("args") {
        None | Some(Value::Null) => (Map::new(), false),
        Some(Value::Object(args)) => (args, false),
        Some(_) => (Map::new(), true),
    };
    let timeout = inner.remove("_timeout");
    let context = inner.into_iter().filter_map(|(key, value)| key.strip_prefix("_context_").map(|key| (key.to_owned(), value))).collect();
    Ok(Incoming {
        method,
        args,
        has_bad_args,
        version,
        namespace,
        msg_id,
        reply_queue,
        knows_call_monitor: timeout.is_some(),
        call_monitor_timeout: timeout.as_ref().and_then(Value::as_u64),
        unique_id,
        context,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn enveloped(inner: &Value) -> Vec<u8> {
        json!({"oslo.version": "2.0", "oslo.message": inner.to_string()}).to_string().into_bytes()
    }

    #[test]
    fn a_call_of_2026_1_is_split_into_its_parts() {
        let inner = json!({"method": "rpc_ping", "args": {}, "version": "1.0", "_msg_id": "m", "_reply_q": "reply_1", "_timeout": null,
                           "_unique_id": "u", "_context_user": "U1", "_context_project_id": "T1"});
        let incoming = open(&enveloped(&inner)).unwrap();
        assert!(incoming.is_call() && incoming.knows_call_monitor && incoming.call_monitor_timeout.is_none());
        assert_eq!(incoming.context.get("project_id"), Some(&json!("T1")));
    }

    #[test]
    fn a_message_without_envelope_is_the_message() {
        let incoming = open(br#"{"method": "rpc_ping", "args": {}}"#).unwrap();
        assert_eq!((incoming.method.as_str(), incoming.version.as_str()), ("rpc_ping", "1.0"));
    }

    #[test]
    fn compressed_bodies_are_zlib_or_bzip2() {
        let body = enveloped(&json!({"method": "rpc_ping"}));
        let mut zlib = Vec::new();
        flate2::read::ZlibEncoder::new(&*body, flate2::Compression::fast()).read_to_end(&mut zlib).unwrap();
        let mut bzip2 = Vec::new();
        bzip2::read::BzEncoder::new(&*body, bzip2::Compression::fast()).read_to_end(&mut bzip2).unwrap();
        for (name, packed) in [("application/x-gzip", zlib), ("application/x-bz2", bzip2)] {
            assert_eq!(open(&decompress(packed.clone(), Some(name)).unwrap()).unwrap().method, "rpc_ping", "{name}");
            for damaged in [&packed[..packed.len() / 2], b"", b"planted"] {
                let error = decompress(damaged.to_vec(), Some(name))
                    .map(|text| open(&text))
                    .map_or_else(|error| error, |opened| opened.unwrap_err());
                assert!(error.to_string().starts_with("malformed message: "), "{name}: {error}");
            }
        }
        let error = decompress(body, Some("application/x-lzma")).unwrap_err().to_string();
        assert!(error.contains("'application/x-lzma' is not supported"), "{error}");
    }

    #[test]
    fn errors_name_the_fault_and_not_the_content() {
        for (body, fault) in [
            (&b"\xff\xfe"[..], "not a JSON object"),
            (br#"{"oslo.version": "3.0", "oslo.message": "{}"}"#, "version '3.0'"),
            (br#"{"oslo.version": "2.0", "oslo.message": "planted-secret"}"#, "not a JSON object"),
            (br#"{"method": 5}"#, "'method' is not a string"),
            (b"[]", "not a JSON object"),
        ] {
            let error = open(body).unwrap_err().to_string();
            assert!(error.contains(fault) && !error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn a_number_that_passes_through_stays_the_same() {
        // Found by fuzzing: serde_json's quick way of reading it is one unit in the last place off.
        let body = br#"{"method": "m", "sent": 1795369411.400000000000000000000000000000000000000000000000000008714}"#;
        let message = open_value(body).unwrap();
        assert_eq!(open_value(&seal(&message)).unwrap(), message);
        assert_eq!(message["sent"].to_string(), "1795369411.4");
    }

    proptest! {
        #[test]
        fn any_bytes_are_opened_or_refused(body: Vec<u8>) {
            let _opened = open(&body);
        }

        #[test]
        fn what_is_sealed_opens(method in "[a-z_]{1,20}", text: String) {
            let message = json!({"method": method, "args": {"a": text}});
            let incoming = open(&seal(message.as_object().unwrap())).unwrap();
            prop_assert_eq!(incoming.method, method);
            prop_assert_eq!(incoming.args.get("a"), Some(&json!(text)));
        }
    }
}
