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
