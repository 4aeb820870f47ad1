//! Whose work a line is of: a span for each request. What it spawns stays in it by [`crate::op::spawn`].

use tracing::Span;
use tracing::field::{Field, Visit};

use crate::model::RequestContext;

/// Name of the span of one request.
pub(super) const SPAN: &str = "rpc";

/// The span of one request: every line written in it has the request's ids.
pub fn of_request(method: &str, context: &RequestContext) -> Span {
    // Of a level that is never left out: what is written is not to be without its request.
    tracing::error_span!(
        SPAN,
        method,
        request_id = context.request_id.as_deref().unwrap_or_default(),
        global_request_id = context.global_request_id.as_deref().unwrap_or_default(),
        user = context.user.as_deref().unwrap_or_default(),
        project = context.tenant.as_deref().unwrap_or_default()
    )
}

/// What a span of [`of_request`] says. An empty text is one that is not known.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) request_id: String,
    pub(super) global_request_id: String,
    pub(super) user: String,
    pub(super) project: String,
}

impl Visit for Request {
    fn record_str(&mut self, field: &Field, value: &str) {
        let place = match field.name() {
            "method" => &mut self.method,
            "request_id" => &mut self.request_id,
            "global_request_id" => &mut self.global_request_id,
            "user" => &mut self.user,
            "project" => &mut self.project,
            _ => return,
        };
        value.clone_into(place);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
