//! Where a client's request comes from, for the record of its call. Decides nothing.

use std::sync::Arc;

use http::HeaderMap;
use mainstay::{Origin, TraceContext};
use mainstay_wire::{Message, meta};

use super::caller::Caller;
use super::endpoint::Endpoint;

/// The headers of W3C Trace Context have the names of the `_meta` keys.
const PARENT: &str = meta::TRACE[0];
const STATE: &str = meta::TRACE[1];

/// Where the request comes from: which client (its raw info object), which endpoint, and which trace. What the message says
/// of the trace counts more than what the HTTP request says, because it is the nearer one.
pub(crate) fn origin(
    endpoint: &Endpoint,
    caller: &Caller,
    client_info: Option<&str>,
    message: &Message,
    headers: &HeaderMap,
) -> Arc<Origin> {
    let door = match endpoint {
        Endpoint::All => "/mcp".to_owned(),
        Endpoint::Profile(at) => format!("/profiles/{}/mcp", at.name()),
        Endpoint::Server(server) => format!("/servers/{}/mcp", server.name()),
    };
    let mut origin = Origin::new(door);
    origin.client = client_info.and_then(Origin::client_name);
    origin.principal = caller.principal.clone();
    origin.trace = in_message(message).or_else(|| in_headers(headers));
    #[cfg(feature = "otlp")]
    crate::telemetry::otlp::span(&mut origin);
    Arc::new(origin)
}

fn in_message(message: &Message) -> Option<TraceContext> {
    let parent = message.string_member(&meta::in_params(PARENT))?;
    let state = message.string_member(&meta::in_params(STATE));
    TraceContext::parse(&parent, state.as_deref())
}

fn in_headers(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all(PARENT).iter();
    let parent = parents.next()?.to_str().ok()?;
    // Two of them are none; several states are one list.
    if parents.next().is_some() {
        return None;
    }
    let states: Option<Vec<&str>> = headers
        .get_all(STATE)
        .iter()
        .map(|value| value.to_str().ok())
        .collect();
    let state = states
        .filter(|states| !states.is_empty())
        .map(|states| states.join(","));
    TraceContext::parse(parent, state.as_deref())
}
