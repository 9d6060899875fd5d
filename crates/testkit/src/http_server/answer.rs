//! What the fake server says to a well-formed request, in the words of either era.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::state::State;
use super::{params, tools, wishes};

/// The modern revision that the fake speaks.
pub(crate) const MODERN: &str = "2026-07-28";

/// An answer and, in the modern era, the HTTP status that goes with it.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn error(
        status: u16,
        id: &Value,
        code: i64,
        message: &str,
        data: Option<Value>,
    ) -> Self {
        let mut error = json!({"code": code, "message": message});
        if let Some(data) = data {
            error["data"] = data;
        }
        Self {
            status,
            body: json!({"jsonrpc": "2.0", "id": id, "error": error}),
        }
    }
}

/// What both greetings declare.
fn capabilities(state: &State) -> Value {
    let script = state.script();
    let told = script.list_changed;
    let mut all = json!({"tools": {"listChanged": told}, "resources": {}});
    if script.prompts {
        all["prompts"] = json!({"listChanged": told});
    }
    drop(script);
    wishes::declared(all, state)
}

/// Answers any request that is no greeting. `emit` takes notifications, if there is a stream for them.
pub(crate) async fn answer(
    state: &State,
    modern: bool,
    request: &Value,
    emit: Option<&mpsc::Sender<bytes::Bytes>>,
) -> Answer {
    let id = request.get("id").cloned().unwrap_or_default();
    let method = request
        .get("method")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let params = request.get("params").cloned().unwrap_or_default();
    let mut cacheable = true;
    let mut result = match method {
        "server/discover" if modern => discover(state),
        "ping" if !modern => json!({}),
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
            tools::list(state, method, &params)
        }
        "tools/call" => {
            cacheable = false;
            tools::call(state, &params, emit).await
        }
        wish if !modern && wishes::is_one(wish) && state.script().subscriptions => json!({}),
        "resources/read" => json!({"contents": [{"uri": params.get("uri"), "text": "fixed"}]}),
        other => {
            return Answer::error(
                if modern { 404 } else { 200 },
                &id,
                -32601,
                "Method not found",
                Some(json!(other)),
            );
        }
    };
    if modern {
        if result.get("resultType").is_none() {
            result["resultType"] = json!("complete");
        }
        result["_meta"] = json!({"io.modelcontextprotocol/serverInfo": {"name": "fake", "version": state.script().server_version.clone()}});
        if cacheable {
            result["ttlMs"] = json!(state.script().ttl_ms);
            result["cacheScope"] = json!("private");
        }
    }
    Answer {
        status: 200,
        body: json!({"jsonrpc": "2.0", "id": id, "result": result}),
    }
}

fn discover(state: &State) -> Value {
    json!({
        "supportedVersions": state.script().modern_versions,
        "capabilities": capabilities(state),
        "instructions": state.script().instructions.clone(),
    })
}

/// The answer to a legacy `initialize`.
pub(crate) fn initialize(state: &State, request: &Value) -> Answer {
    let id = request.get("id").cloned().unwrap_or_default();
    let offered = request
        .pointer("/params/protocolVersion")
        .and_then(Value::as_str)
        .unwrap_or("2025-11-25");
    let version = state
        .script()
        .version
        .clone()
        .unwrap_or_else(|| offered.to_owned());
    let result = json!({
        "protocolVersion": version,
        "capabilities": capabilities(state),
        "serverInfo": {"name": "fake", "version": state.script().server_version.clone()},
        "instructions": state.script().instructions.clone(),
    });
    Answer {
        status: 200,
        body: json!({"jsonrpc": "2.0", "id": id, "result": result}),
    }
}

/// What a modern server finds wrong with a request before it looks at the method.
pub(crate) fn modern_fault(
    state: &State,
    request: &Value,
    header: impl Fn(&str) -> Option<String>,
) -> Option<Answer> {
    let id = request.get("id").cloned().unwrap_or_default();
    let method = request
        .get("method")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let meta = request
        .pointer("/params/_meta")
        .cloned()
        .unwrap_or_default();
    let version = meta
        .get("io.modelcontextprotocol/protocolVersion")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if version.is_none() || !meta["io.modelcontextprotocol/clientCapabilities"].is_object() {
        return Some(Answer::error(
            400,
            &id,
            -32602,
            "Missing required _meta",
            None,
        ));
    }
    let named = match method {
        "tools/call" | "prompts/get" => request.pointer("/params/name").and_then(Value::as_str),
        "resources/read" => request.pointer("/params/uri").and_then(Value::as_str),
        _ => None,
    };
    let routed = header("mcp-protocol-version") == version
        && header("mcp-method").as_deref() == Some(method)
        && named.is_none_or(|named| {
            header("mcp-name").is_some_and(|name| decode_name(&name).as_deref() == Some(named))
        });
    if !routed {
        return Some(Answer::error(400, &id, -32020, "Header mismatch", None));
    }
    if method == "tools/call" && params::mismatch(&state.script(), request, &header) {
        let words = "Header mismatch: Mcp-Param";
        return Some(Answer::error(400, &id, -32020, words, None));
    }
    let supported = state.script().modern_versions.clone();
    if version.is_none_or(|version| !supported.contains(&version)) {
        let data = json!({"supported": supported, "requested": meta["io.modelcontextprotocol/protocolVersion"]});
        return Some(Answer::error(
            400,
            &id,
            -32022,
            "Unsupported protocol version",
            Some(data),
        ));
    }
    None
}

/// The plain form of a header value that may be in Base64 form; `None` if it is malformed.
pub(crate) fn decode_name(value: &str) -> Option<String> {
    let Some(coded) = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    else {
        return Some(value.to_owned());
    };
    let mut bits = 0_u32;
    let mut held = 0_u32;
    let mut bytes = Vec::new();
    for letter in coded.trim_end_matches('=').bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).unwrap_or_default());
            held &= (1 << bits) - 1;
        }
    }
    String::from_utf8(bytes).ok()
}
