//! HTTP headers of MCP: names, the Base64 form of values, and what a modern request must carry.
//!
//! Pure text in, text out: which side compares and which side sends is for the callers.

mod params;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::envelope::Message;
use crate::method;

pub use params::{HeaderProblem, ParamHeader, ParamType, param_headers};

/// Legacy session id.
pub const SESSION_ID: &str = "mcp-session-id";
/// The revision; legacy: everything after `initialize`, modern: every request.
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Modern: the method, again.
pub const METHOD: &str = "mcp-method";
/// Modern: the name, URI or task id, again.
pub const NAME: &str = "mcp-name";
/// Modern: beginning of the headers made from annotated tool arguments.
pub const PARAM_PREFIX: &str = "mcp-param-";
/// Legacy: where to resume a stream.
pub const LAST_EVENT_ID: &str = "last-event-id";
/// The `Accept` value of every POST.
pub const ACCEPT_BOTH: &str = "application/json, text/event-stream";
/// Plain answers and all requests.
pub const JSON: &str = "application/json";
/// Streamed answers.
pub const EVENT_STREAM: &str = "text/event-stream";

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// The value of `Mcp-Name` and `Mcp-Param-*` for a text: as it is, or in Base64 form if it holds anything but printable
/// ASCII, begins or ends with a space, or looks like the Base64 form itself.
#[must_use]
pub fn encode_value(text: &str) -> String {
    let printable = text.bytes().all(|byte| (0x20..=0x7E).contains(&byte));
    let padded = text.starts_with(' ') || text.ends_with(' ');
    if printable && !padded && !looks_encoded(text) {
        return text.to_owned();
    }
    format!("{OPEN}{}{CLOSE}", STANDARD.encode(text))
}

/// The text behind a header value. `None` if the Base64 form is broken (not canonical, not UTF-8) or the plain form holds
/// anything but printable ASCII: then it matches nothing.
#[must_use]
pub fn decode_value(value: &str) -> Option<String> {
    if !looks_encoded(value) {
        let legal = value
            .bytes()
            .all(|byte| (0x20..=0x7E).contains(&byte) || byte == b'\t');
        return legal.then(|| value.to_owned());
    }
    let inner = value.get(OPEN.len()..value.len() - CLOSE.len())?;
    String::from_utf8(STANDARD.decode(inner).ok()?).ok()
}

fn looks_encoded(text: &str) -> bool {
    text.len() >= OPEN.len() + CLOSE.len() && text.starts_with(OPEN) && text.ends_with(CLOSE)
}

/// Where a method keeps what `Mcp-Name` repeats. `None`: the method has no such header.
#[must_use]
pub fn name_path(method: &str) -> Option<&'static [&'static str]> {
    match method {
        method::TOOLS_CALL | method::PROMPTS_GET => Some(&["params", "name"]),
        method::RESOURCES_READ => Some(&["params", "uri"]),
        // The other two of the older tasks, `tasks/result` and `tasks/list`, are no methods where the header exists.
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some(&["params", "taskId"]),
        _ => None,
    }
}

/// The plain text that `Mcp-Name` must stand for; `None` if this request has no such header.
///
/// `params` is raw JSON. Use [`encode_value`] to write it and [`decode_value`] to compare it.
#[must_use]
pub fn mcp_name_of(method: &str, params: Option<&str>) -> Option<String> {
    let [_, inner @ ..] = name_path(method)? else {
        return None;
    };
    crate::raw::string_member(params?, inner).map(Into::into)
}

/// The same for a parsed request, without looking at its text again.
#[must_use]
pub fn mcp_name(request: &Message) -> Option<String> {
    request
        .string_member(name_path(request.method()?)?)
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_specification() {
        for (text, value) in [
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            (" a", "=?base64?IGE=?="),
            ("a ", "=?base64?YSA=?="),
            ("", ""),
            ("a b", "a b"),
        ] {
            assert_eq!(encode_value(text), value);
            assert_eq!(decode_value(value).as_deref(), Some(text));
        }
        assert_eq!(encode_value("a\tb"), "=?base64?YQli?=");
        for broken in [
            "=?base64?SGVsbG8?=",
            "=?base64?!!!!?=",
            "=?base64?/w==?=",
            "=?base64?YR==?=",
            "caf\u{e9}",
            "a\nb",
        ] {
            assert_eq!(decode_value(broken), None, "{broken}");
        }
    }

    #[test]
    fn names_come_from_the_right_member() {
        assert_eq!(
            mcp_name_of("tools/call", Some(r#"{"name":"a","uri":"b"}"#)).as_deref(),
            Some("a")
        );
        assert_eq!(
            mcp_name_of("resources/read", Some(r#"{"name":"a","uri":"b"}"#)).as_deref(),
            Some("b")
        );
        assert_eq!(
            mcp_name_of("tasks/get", Some(r#"{"taskId":"t"}"#)).as_deref(),
            Some("t")
        );
        assert_eq!(mcp_name_of("tasks/result", Some(r#"{"taskId":"t"}"#)), None);
        assert_eq!(mcp_name_of("tools/list", Some(r#"{"name":"a"}"#)), None);
        assert_eq!(mcp_name_of("tools/call", None), None);
    }
}
