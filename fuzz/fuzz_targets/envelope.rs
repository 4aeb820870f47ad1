//! Bytes of the wire: outer envelope, inner message, typed request, context.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use trove_guestagent::model::RequestContext;
use trove_guestagent::rpc::{Request, open, open_value, seal};

fuzz_target!(|body: &[u8]| {
    let Ok(message) = open_value(body) else { return };
    let again = open_value(&seal(&message)).expect("what is sealed opens");
    assert_eq!(message, again, "sealing changes a message");
    let Ok(incoming) = open(body) else { return };
    assert!(!format!("{incoming:?}").contains("planted"), "a printed message shows its arguments");
    let context = RequestContext::from_wire(incoming.context);
    let _notification = context.guest_notification();
    match Request::decode(&incoming.method, incoming.args) {
        Ok(request) => {
            assert_eq!(request.method(), incoming.method);
            let properties = request.properties();
            let _facts = (properties, properties.works_in_the_database());
        }
        // What a caller is told, as the reply carries it.
        Err(error) => drop(Value::String(error.to_string()).to_string()),
    }
});
