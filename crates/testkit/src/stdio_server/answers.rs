//! What a good server answers to everything but a call.

use serde_json::{Value, json};

use super::knobs::Era;
use super::server::Server;
use super::tools;

/// A result, or an error object.
pub(crate) type Answer = Result<Value, Value>;

const LEGACY: &[&str] = &["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
const MODERN: &str = "2026-07-28";
pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const META_INFO: &str = "io.modelcontextprotocol/clientInfo";

/// The code of an answer to a method that it does not know.
pub(crate) const UNKNOWN: i64 = -32601;

pub(crate) fn error(code: i64, message: &str) -> Value {
    json!({"code": code, "message": message})
}

pub(crate) fn identity() -> Value {
    json!({"name": "misbehave", "version": env!("CARGO_PKG_VERSION")})
}

pub(crate) fn answer(server: &Server, method: &str, params: &Value) -> Answer {
    let era = server.knobs().era;
    let asked = params["_meta"][META_VERSION].as_str();
    if era == Era::Modern && asked.is_none() {
        return Err(error(-32602, "params._meta lacks the protocol version"));
    }
    if era != Era::Legacy && asked.is_some_and(|version| version != MODERN) {
        let mut refusal = error(-32022, "unsupported protocol version");
        refusal["data"] = json!({"supported": [MODERN], "requested": asked});
        return Err(refusal);
    }
    match method {
        "initialize" if era != Era::Modern && asked.is_none() => Ok(initialize(server, params)),
        "server/discover" if era != Era::Legacy => Ok(json!({
            "supportedVersions": [MODERN],
            "capabilities": capabilities(server),
            "ttlMs": 0,
            "cacheScope": "private",
        })),
        "ping" if era != Era::Modern => Ok(json!({})),
        "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe"
            if server.knobs().wishes && era != Era::Modern =>
        {
            Ok(json!({}))
        }
        "resources/list" if server.knobs().wishes => Ok(cacheable(era, json!({"resources": []}))),
        "tools/list" => Ok(cacheable(
            era,
            json!({"tools": tools::list(&server.tools())}),
        )),
        _ => Err(error(UNKNOWN, &format!("no such method: {method}"))),
    }
}

fn cacheable(era: Era, mut result: Value) -> Value {
    if era != Era::Legacy {
        result["ttlMs"] = json!(0);
        result["cacheScope"] = json!("private");
    }
    result
}

fn initialize(server: &Server, params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let version = if LEGACY.contains(&asked) {
        asked
    } else {
        LEGACY[0]
    };
    let version = server.knobs().claim_version.as_deref().unwrap_or(version);
    json!({"protocolVersion": version, "capabilities": capabilities(server), "serverInfo": identity()})
}

fn capabilities(server: &Server) -> Value {
    let mut all = json!({"tools": {"listChanged": true}});
    if server.knobs().wishes {
        all["logging"] = json!({});
        all["resources"] = json!({"subscribe": true});
    }
    all
}
