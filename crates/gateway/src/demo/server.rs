//! The demo's own MCP servers: small, honest, and each a real process of its own.
//!
//! They know nothing of Mainstay. What the three have in common is here: three tools, and a ledger that proves how
//! often each call was executed.

pub(crate) mod http;
pub(crate) mod stdio;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cli::DemoServerKind;
use crate::exit::Stop;

/// Longer markers are refused: the ledger has one short line per call.
const MARKER_BYTES_MAX: usize = 200;

/// A JSON-RPC error: code and message.
pub(super) type RpcError = (i64, String);

pub(super) const METHOD_NOT_FOUND: i64 = -32_601;
pub(super) const INVALID_PARAMS: i64 = -32_602;

/// Is one of the demo's servers until its client or its parent leaves.
///
/// # Errors
/// When the ledger or the port cannot be opened.
pub(crate) async fn run(kind: DemoServerKind) -> Result<(), Stop> {
    match kind {
        DemoServerKind::Stdio(args) => {
            let server = DemoServer::new("demo-stdio", args.ledger.as_deref())?;
            stdio::serve(server).await
        }
        DemoServerKind::HttpSessions(args) => {
            let server = DemoServer::new("demo-http-sessions", args.ledger.ledger.as_deref())?;
            http::serve(server, http::Flavour::Sessions, &args).await
        }
        DemoServerKind::HttpStateless(args) => {
            let server = DemoServer::new("demo-http-stateless", args.ledger.ledger.as_deref())?;
            http::serve(server, http::Flavour::Stateless, &args).await
        }
    }
}

/// What the three servers have in common.
#[derive(Debug)]
pub(super) struct DemoServer {
    name: &'static str,
    ledger: Option<File>,
}

impl DemoServer {
    fn new(name: &'static str, ledger: Option<&Path>) -> Result<Self, Stop> {
        let open = |path| OpenOptions::new().append(true).create(true).open(path);
        let ledger = ledger
            .map(open)
            .transpose()
            .map_err(|error| Stop::unexpected("cannot open the ledger", error))?;
        Ok(Self { name, ledger })
    }

    /// The server's `Implementation` object.
    pub(super) fn info(&self) -> Value {
        json!({ "name": self.name, "version": env!("CARGO_PKG_VERSION") })
    }

    /// The answer to `initialize`, for servers that have it. The newest legacy revision is offered to whoever asks for
    /// one that is not a legacy one.
    pub(super) fn initialize(&self, params: &Value) -> Value {
        const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
        let asked = params["protocolVersion"].as_str().unwrap_or_default();
        let version = LEGACY
            .into_iter()
            .find(|known| *known == asked)
            .unwrap_or("2025-11-25");
        json!({ "protocolVersion": version, "capabilities": { "tools": {} }, "serverInfo": self.info() })
    }

    /// The methods that both eras share.
    pub(super) fn answer(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        match method {
            "tools/list" => Ok(json!({ "tools": tools() })),
            "tools/call" => self.call(params),
            other => Err((METHOD_NOT_FOUND, format!("Method not found: {other}"))),
        }
    }

    fn call(&self, params: &Value) -> Result<Value, RpcError> {
        let name = params["name"]
            .as_str()
            .ok_or((INVALID_PARAMS, "`name` must be a string".to_owned()))?;
        let arguments = &params["arguments"];
        let text = match name {
            "time" => since_1970(),
            "echo" => arguments["text"]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| wanted("text", "a string"))?,
            "add" => {
                let number = |key| {
                    arguments[key]
                        .as_i64()
                        .ok_or_else(|| wanted(key, "an integer"))
                };
                let sum = number("a")?.checked_add(number("b")?);
                sum.ok_or((INVALID_PARAMS, "the sum is too large".to_owned()))?
                    .to_string()
            }
            other => return Err((INVALID_PARAMS, format!("Unknown tool: {other}"))),
        };
        match self.record(&arguments["marker"]) {
            Ok(()) => {
                Ok(json!({ "content": [{ "type": "text", "text": text }], "isError": false }))
            }
            Err(why) => Ok(
                json!({ "content": [{ "type": "text", "text": why.to_string() }], "isError": true }),
            ),
        }
    }

    /// Appends the marker to the ledger, in one write: this is the visible effect of a call.
    fn record(&self, marker: &Value) -> io::Result<()> {
        let Some(marker) = marker.as_str() else {
            return Ok(());
        };
        if marker.len() > MARKER_BYTES_MAX || marker.contains(char::is_control) {
            return Err(io::Error::other("the marker must be one short line"));
        }
        let Some(mut ledger) = self.ledger.as_ref() else {
            return Ok(());
        };
        ledger.write_all(format!("{marker}\n").as_bytes())
    }
}

fn wanted(key: &str, what: &str) -> RpcError {
    (
        INVALID_PARAMS,
        format!("the argument `{key}` must be {what}"),
    )
}

fn since_1970() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "{}.{:03} s since 1970-01-01T00:00:00Z",
        now.as_secs(),
        now.subsec_millis()
    )
}

/// None of them claims to be read-only or idempotent: each writes its marker to the ledger.
fn tools() -> Value {
    let marker = json!({ "type": "string", "description": "Appended to the server's ledger when the call is executed" });
    json!([
        {
            "name": "time",
            "description": "Tells the time.",
            "inputSchema": { "type": "object", "properties": { "marker": marker } }
        },
        {
            "name": "echo",
            "description": "Says the text again.",
            "inputSchema": {
                "type": "object",
                "properties": { "text": { "type": "string" }, "marker": marker },
                "required": ["text"]
            }
        },
        {
            "name": "add",
            "description": "Adds two integers.",
            "inputSchema": {
                "type": "object",
                "properties": { "a": { "type": "integer" }, "b": { "type": "integer" }, "marker": marker },
                "required": ["a", "b"]
            }
        }
    ])
}

/// A response under `id`.
pub(super) fn response(id: &Value, outcome: Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err((code, message)) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_execution_leaves_one_line_in_the_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let server = DemoServer::new("demo", Some(&path)).unwrap();
        let add = json!({ "name": "add", "arguments": { "a": 2, "b": 40, "marker": "m1" } });
        assert_eq!(
            server.answer("tools/call", &add).unwrap()["content"][0]["text"],
            "42"
        );
        server
            .answer(
                "tools/call",
                &json!({ "name": "time", "arguments": { "marker": "m2" } }),
            )
            .unwrap();
        server
            .answer(
                "tools/call",
                &json!({ "name": "echo", "arguments": { "text": "hi" } }),
            )
            .unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "m1\nm2\n");
    }

    #[test]
    fn what_was_not_executed_is_not_in_the_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let server = DemoServer::new("demo", Some(&path)).unwrap();
        let wrong = json!({ "name": "add", "arguments": { "a": "two", "b": 40, "marker": "m1" } });
        assert_eq!(
            server.answer("tools/call", &wrong).unwrap_err().0,
            INVALID_PARAMS
        );
        let unknown = json!({ "name": "sub", "arguments": { "marker": "m2" } });
        assert_eq!(
            server.answer("tools/call", &unknown).unwrap_err().0,
            INVALID_PARAMS
        );
        assert_eq!(
            server.answer("tools/cull", &json!({})).unwrap_err().0,
            METHOD_NOT_FOUND
        );
        let two_lines = json!({ "name": "time", "arguments": { "marker": "m3\nm4" } });
        assert_eq!(
            server.answer("tools/call", &two_lines).unwrap()["isError"],
            true
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
