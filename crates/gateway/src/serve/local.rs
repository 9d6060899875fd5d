//! MCP through the local socket: what is different from the TCP side.
//!
//! A relay (`mainstay stdio`) says so in a header. Its client speaks MCP without any headers, so the routing headers of
//! the modern era are made here, from the message itself and the tool's published schema. Answers say which process gave
//! them, so that a relay notices a restart. On the TCP side none of these headers means anything.

use std::sync::{Arc, OnceLock};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use mainstay_wire::views::CallView;
use mainstay_wire::{Message, headers, meta, method, raw};

use super::Shared;
use super::body::Reply;
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::view::Viewer;

/// A relay marks its requests with this header.
pub const RELAY: HeaderName = HeaderName::from_static("mainstay-relay");

/// Every answer names the process that gave it: another value means another process.
pub const INSTANCE: HeaderName = HeaderName::from_static("mainstay-instance");

/// Present if that process was started by a relay in the background: nobody else will start it again.
pub const BACKGROUND: HeaderName = HeaderName::from_static("mainstay-background");

/// What this process is.
static SELF: OnceLock<Instance> = OnceLock::new();

#[derive(Debug)]
struct Instance {
    name: HeaderValue,
    background: bool,
}

/// Says once, before the doors open, whether this process was started in the background.
pub fn announce(background: bool) {
    SELF.get_or_init(|| instance(background));
}

fn instance(background: bool) -> Instance {
    let mut seed = [0_u8; 8];
    let name = match getrandom::fill(&mut seed) {
        Ok(()) => u64::from_le_bytes(seed),
        // Good enough to differ from the process before.
        Err(_no_entropy) => u64::from(std::process::id()),
    };
    let name = HeaderValue::try_from(format!("{name:016x}"));
    Instance {
        name: name.unwrap_or_else(|_| HeaderValue::from_static("0")),
        background,
    }
}

/// Set on requests of a relay.
#[derive(Debug, Clone, Copy)]
struct Relayed;

/// Takes note of what a relay says about itself.
pub(crate) fn admit<B>(request: &mut Request<B>) {
    if request.headers().contains_key(RELAY) {
        request.extensions_mut().insert(Relayed);
    }
}

/// Names this process.
pub(crate) fn sign(reply: &mut Reply) {
    let own = SELF.get_or_init(|| instance(false));
    let headers = reply.headers_mut();
    headers.insert(INSTANCE, own.name.clone());
    if own.background {
        headers.insert(BACKGROUND, HeaderValue::from_static("1"));
    }
}

/// Makes the headers that a relayed modern message could not bring along.
pub(crate) fn complete(
    shared: &Shared,
    caller: &Arc<Caller>,
    endpoint: &Endpoint,
    head: &mut Parts,
    message: &Message,
) {
    if head.extensions.get::<Relayed>().is_none() || !CallView::is_modern(message) {
        return;
    }
    let version = message
        .member(&meta::in_params(meta::PROTOCOL_VERSION))
        .and_then(raw::string);
    // A version that is no string is judged by the ladder; no header would be judged before it.
    set(
        &mut head.headers,
        headers::PROTOCOL_VERSION,
        version.as_deref().unwrap_or("none"),
    );
    set(
        &mut head.headers,
        headers::METHOD,
        message.method().unwrap_or_default(),
    );
    if let Some(name) = headers::mcp_name(message) {
        set(
            &mut head.headers,
            headers::NAME,
            &headers::encode_value(&name),
        );
    }
    if message.method() == Some(method::TOOLS_CALL) {
        let who = Viewer::of_request(caller, message);
        params(shared, (endpoint, &who), &mut head.headers, message);
    }
}

/// `Mcp-Param-*`, as the published schema of the tool asks for.
fn params(
    shared: &Shared,
    (endpoint, who): (&Endpoint, &Viewer),
    headers: &mut HeaderMap,
    message: &Message,
) {
    let tool = message
        .string_member(&["params", "name"])
        .and_then(|name| endpoint.tool(shared, who, &name));
    let annotated = tool
        .as_deref()
        .and_then(|tool| std::str::from_utf8(tool).ok())
        .and_then(|tool| raw::member(tool, &["inputSchema"]))
        .and_then(|schema| headers::param_headers(schema).ok());
    let arguments = message.member(&["params", "arguments"]);
    for param in annotated.unwrap_or_default() {
        if let Some(value) = param.value(arguments) {
            set(headers, &param.header, &value);
        }
    }
}

/// What cannot be a header stays out; the ladder then says so.
fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}
