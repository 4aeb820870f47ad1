//! Errors as oslo.messaging carries them (`_drivers/common.py: serialize_remote_exception`).

use serde_json::json;

use crate::error::Error;

/// The `failure` of a reply: a JSON *string*. `tb` is empty, because the client appends it to the text its user sees.
pub(super) fn serialize(error: &Error) -> String {
    let class = error.trove_class();
    let message = error.to_string();
    // Exceptions of the dispatcher keep their text as argument; Trove's classes are rebuilt without any.
    let args = if class.module == "oslo_messaging.rpc.dispatcher" { vec![message.clone()] } else { Vec::new() };
    json!({"class": class.class, "module": class.module, "message": message, "tb": [], "args": args, "kwargs": {}}).to_string()
}

/// An error of serde, fit for callers and logs: serde quotes the offending value; it may be a password.
pub(super) fn without_values(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut quoted = false;
    let mut escaped = false;
    for character in text.chars() {
        match character {
            '"' if !escaped => {
                clean.push_str(if quoted { "" } else { "***" });
                quoted = !quoted;
            }
            _ if quoted => {}
            digit if digit.is_ascii_digit() => clean.push('*'),
            other => clean.push(other),
        }
        escaped = character == '\\' && !escaped;
    }
    clean
}

/// Text from the wire, fit for one line of a log.
pub(super) fn one_line(text: &str) -> String {
    text.chars().take(100).map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trove_classes_have_no_arguments_and_the_dispatchers_have_their_text() {
        let unsupported = Error::NotSupported { operation: "create_backup".into(), datastore: "mysql".into() };
        let failure: serde_json::Value = serde_json::from_str(&serialize(&unsupported)).unwrap();
        assert_eq!(failure["class"], "DatastoreOperationNotSupported");
        assert_eq!(failure["module"], "trove.common.exception");
        assert_eq!(failure["message"], "The 'create_backup' operation is not supported for the 'mysql' datastore.");
        assert_eq!(failure["args"], json!([]));
        let unknown: serde_json::Value = serde_json::from_str(&serialize(&Error::NoSuchMethod { method: "x".into() })).unwrap();
        assert_eq!(unknown["args"], json!(["Endpoint does not support RPC method x"]));
    }
}
