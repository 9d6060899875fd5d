//! Keys of `_meta`, and the stamp that every modern request carries.

use crate::revision::Revision;
use crate::splice::{Editor, json_string};

/// Common prefix of the protocol's own keys.
pub const PREFIX: &str = "io.modelcontextprotocol/";
/// Modern request, required: the revision it speaks.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Modern request, required: what the client can do, an object.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Modern request, recommended: who asks.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// Modern request, optional: send log messages of at least this level on the stream of this request.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Modern result, recommended: who answers.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// Messages of a listen stream: the id of the listen request, same JSON type.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// 2025-11-25: the task that a message belongs to.
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// Both eras: where progress of this request is to be reported.
pub const PROGRESS_TOKEN: &str = "progressToken";
/// W3C trace context, forwarded untouched.
pub const TRACE: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// What a modern client stamps on its requests. A request that crosses into the legacy era loses these.
pub const REQUEST_STAMP: [&str; 4] = [
    PROTOCOL_VERSION,
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    LOG_LEVEL,
];

/// Path of one `_meta` member of a request or notification.
#[must_use]
pub fn in_params(key: &str) -> [&str; 3] {
    ["params", "_meta", key]
}

/// Path of one `_meta` member of a result.
#[must_use]
pub fn in_result(key: &str) -> [&str; 3] {
    ["result", "_meta", key]
}

/// The stamp of a modern request as `_meta` members with raw values. `capabilities` and `client_info` are raw JSON
/// objects, `log_level` is a plain word.
#[must_use]
pub fn modern_meta(
    revision: Revision,
    capabilities: &str,
    client_info: Option<&str>,
    log_level: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut members = vec![
        (PROTOCOL_VERSION, json_string(revision.as_str())),
        (CLIENT_CAPABILITIES, capabilities.to_owned()),
    ];
    members.extend(client_info.map(|info| (CLIENT_INFO, info.to_owned())));
    members.extend(log_level.map(|level| (LOG_LEVEL, json_string(level))));
    members
}

/// Puts a stamp on a request.
pub fn stamp<'m>(editor: Editor<'m>, members: &[(&'static str, String)]) -> Editor<'m> {
    members.iter().fold(editor, |editor, (key, raw)| {
        editor.set(&in_params(key), raw.as_str())
    })
}

/// Takes the modern stamp off a request that goes to a legacy server. Everything else in `_meta` stays.
pub fn unstamp(editor: Editor<'_>) -> Editor<'_> {
    REQUEST_STAMP
        .iter()
        .fold(editor, |editor, key| editor.remove(&in_params(key)))
}
