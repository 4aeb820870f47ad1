//! The request context: who asked, with which token (Trove's `TroveContext`, trove/common/context.py).

use secrecy::SecretString;
use serde_json::{Map, Value};

/// Context of one request, as the controller sent it.
#[derive(Debug, Clone, Default)]
pub struct RequestContext {
    /// `request_id`, for logs.
    pub request_id: Option<String>,
    /// `global_request_id`: the request of another service that this one is a part of, for logs.
    pub global_request_id: Option<String>,
    /// Tenant: the first of `project_id`, `tenant`, `project` that is not null.
    pub tenant: Option<String>,
    /// `user`.
    pub user: Option<String>,
    /// `auth_token`, used for Swift.
    pub auth_token: Option<SecretString>,
    /// `is_admin`.
    pub is_admin: bool,
    /// Every key as received (minus `trace_info`), to be echoed in conductor casts: a Kilo conductor refuses a key it does
    /// not know, so nothing is ever added. Holds the token: never logged.
    pub raw: RawContext,
}

/// The context's keys as received. Its `Debug` shows nothing, because one of them is the token.
#[derive(Clone, Default)]
pub struct RawContext(pub Map<String, Value>);

impl std::fmt::Debug for RawContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawContext({} keys)", self.0.len())
    }
}

impl RequestContext {
    /// Builds the context from its wire dictionary (`_context_` prefixes already removed).
    pub fn from_wire(mut raw: Map<String, Value>) -> Self {
        raw.remove("trace_info");
        let text = |key: &str| raw.get(key).and_then(Value::as_str).map(str::to_owned);
        RequestContext {
            request_id: text("request_id"),
            global_request_id: text("global_request_id"),
            tenant: text("project_id").or_else(|| text("tenant")).or_else(|| text("project")),
            user: text("user"),
            auth_token: text("auth_token").map(SecretString::from),
            is_admin: raw.get("is_admin").and_then(Value::as_bool).unwrap_or(false),
            raw: RawContext(raw),
        }
    }

    /// The serialized notification a cast may carry (`trove_notification`), if it is to be answered through the conductor:
    /// only when `server_type` is `guest` (trove/common/notification.py).
    pub fn guest_notification(&self) -> Option<&Map<String, Value>> {
        let notification = self.raw.0.get("trove_notification")?.as_object()?;
        (notification.get("server_type").and_then(Value::as_str) == Some("guest")).then_some(notification)
    }
}
