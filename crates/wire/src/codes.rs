//! Error codes of JSON-RPC and MCP.

/// The text is not JSON.
pub const PARSE_ERROR: i64 = -32_700;
/// JSON, but no valid message.
pub const INVALID_REQUEST: i64 = -32_600;
/// The method does not exist; also a method of the other era, and a client feature that was not declared.
pub const METHOD_NOT_FOUND: i64 = -32_601;
/// Missing or wrong parameters; 2026-07-28 also: unknown tool, prompt or resource, missing `_meta`, bad request state.
pub const INVALID_PARAMS: i64 = -32_602;
/// Something broke inside the answering side.
pub const INTERNAL_ERROR: i64 = -32_603;

/// Legacy: the resource does not exist. Accepted from modern servers, never sent by one.
pub const RESOURCE_NOT_FOUND: i64 = -32_002;
/// 2025-11-25 only: the user must visit a URL first.
pub const URL_ELICITATION_REQUIRED: i64 = -32_042;

/// 2026-07-28: a routing header is missing or differs from the body.
pub const HEADER_MISMATCH: i64 = -32_020;
/// 2026-07-28: the request needs a client capability it did not declare; `data.requiredCapabilities` is an object.
pub const MISSING_CLIENT_CAPABILITY: i64 = -32_021;
/// 2026-07-28: the version is not served; `data` holds `supported` and `requested`.
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32_022;

/// Whether an error with this code could only come from a server of 2026-07-28 or later: it settles the era.
#[must_use]
pub fn is_modern(code: i64) -> bool {
    matches!(
        code,
        HEADER_MISMATCH | MISSING_CLIENT_CAPABILITY | UNSUPPORTED_PROTOCOL_VERSION
    )
}

/// The HTTP status that 2026-07-28 demands for an error while the answer is still plain JSON.
#[must_use]
pub fn modern_http_status(code: i64) -> u16 {
    match code {
        METHOD_NOT_FOUND => 404,
        PARSE_ERROR
        | INVALID_REQUEST
        | INVALID_PARAMS
        | HEADER_MISMATCH
        | MISSING_CLIENT_CAPABILITY
        | UNSUPPORTED_PROTOCOL_VERSION => 400,
        _ => 200,
    }
}
