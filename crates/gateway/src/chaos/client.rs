//! The client that `chaos run` puts in front of a target: a plain, honest one, and one that forgives nothing.
//!
//! It speaks streamable HTTP in either era, answers pings, and never sends anything twice: what the target does not heal
//! stays broken. It must not use Mainstay's own wire code: the target may be Mainstay.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::events::Events;
use crate::cli::chaos::ChaosEra;

/// The biggest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// More pages than any scenario has.
const PAGES_MAX: usize = 100;
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// How a call ended, as an agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With a result: its text.
    Answered(String),
    /// With an error that MCP has a form for: a tool's error result or a JSON-RPC error.
    Typed(String),
    /// With something no MCP client can use: a broken connection, an HTTP error, no JSON.
    Broken(String),
    /// Not at all, within the time that was given.
    Hung,
}

/// One client. Cheap to clone: the clones share the session and count their own ids.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    url: Uri,
    era: ChaosEra,
    session: Option<HeaderValue>,
    version: String,
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(pub(super) String);

impl Client {
    /// Greets the target, if the era has a greeting. No deadline: the caller has one.
    pub(super) async fn connect(url: &Uri, era: ChaosEra) -> Result<Self, NoAnswer> {
        let http = HttpClient::builder(TokioExecutor::new()).build_http();
        let mut client = Self {
            http,
            url: url.clone(),
            era,
            session: None,
            version: LEGACY.to_owned(),
        };
        if era == ChaosEra::Legacy {
            let params = json!({
                "protocolVersion": LEGACY, "capabilities": {},
                "clientInfo": { "name": "mainstay-chaos", "version": env!("CARGO_PKG_VERSION") }
            });
            let (answer, session) = client.exchange("initialize", params).await?;
            let version = answer["result"]["protocolVersion"]
                .as_str()
                .ok_or_else(|| NoAnswer(format!("it refused to greet: {}", short(&answer))))?;
            version.clone_into(&mut client.version);
            client.session = session;
            let done = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            let _no_body = client
                .post("notifications/initialized", None, &done)
                .await?;
        }
        Ok(client)
    }

    /// The names of all tools, in the order they are listed. No deadline: the caller has one.
    pub(super) async fn tools(&self) -> Result<Vec<String>, NoAnswer> {
        let mut names = Vec::new();
        let mut params = json!({});
        for _ in 0..PAGES_MAX {
            let (answer, _) = self.exchange("tools/list", params).await?;
            let tools = answer["result"]["tools"]
                .as_array()
                .ok_or_else(|| NoAnswer(format!("no list of tools: {}", short(&answer))))?;
            let listed = tools.iter().filter_map(|tool| tool["name"].as_str());
            names.extend(listed.map(str::to_owned));
            match answer["result"]["nextCursor"].as_str() {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return Ok(names),
            }
        }
        Err(NoAnswer(format!("more than {PAGES_MAX} pages of tools")))
    }

    /// Calls a tool, and waits no longer than `patience`.
    pub(super) async fn call(&self, tool: &str, arguments: Value, patience: Duration) -> Outcome {
        let params = json!({ "name": tool, "arguments": arguments });
        match tokio::time::timeout(patience, self.exchange("tools/call", params)).await {
            Err(_late) => Outcome::Hung,
            Ok(Err(NoAnswer(why))) => Outcome::Broken(why),
            Ok(Ok((answer, _))) => outcome(&answer),
        }
    }

    async fn exchange(
        &self,
        method: &str,
        mut params: Value,
    ) -> Result<(Value, Option<HeaderValue>), NoAnswer> {
        let name = params["name"].as_str().map(str::to_owned);
        if self.era == ChaosEra::Modern {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {}
            });
        }
        // Requests are told apart by their connection; the id only has to be new to the target.
        let id = next_id();
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let (head, body) = self.post(method, name.as_deref(), &message).await?;
        let kind = head.headers.get(header::CONTENT_TYPE);
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let answer = if is_stream && head.status.is_success() {
            self.find_in_stream(body, id).await?
        } else {
            // Legacy agents do not look into the body of a failed exchange, and some of them end altogether; in the
            // modern era errors come with such statuses.
            let readable = head.status.is_success() || self.era == ChaosEra::Modern;
            find_in_body(body, head.status, readable, id).await?
        };
        Ok((answer, head.headers.get("mcp-session-id").cloned()))
    }

    async fn post(
        &self,
        method: &str,
        name: Option<&str>,
        message: &Value,
    ) -> Result<(http::response::Parts, Incoming), NoAnswer> {
        let mut request = Request::post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        match self.era {
            ChaosEra::Modern => {
                request = request
                    .header("mcp-protocol-version", MODERN)
                    .header("mcp-method", method);
                if let Some(name) = name {
                    request = request.header("mcp-name", name);
                }
            }
            ChaosEra::Legacy => {
                if let Some(session) = &self.session {
                    request = request.header("mcp-session-id", session);
                }
                if method != "initialize" {
                    request = request.header("mcp-protocol-version", &self.version);
                }
            }
        }
        let request = request
            .body(Full::new(Bytes::from(message.to_string())))
            .map_err(|error| NoAnswer(error.to_string()))?;
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| NoAnswer(chain(&error)))?;
        Ok(response.into_parts())
    }

    /// Reads events until the answer is among them; requests of the target are answered on the way.
    async fn find_in_stream(&self, mut body: Incoming, id: u64) -> Result<Value, NoAnswer> {
        let mut events = Events::new(ANSWER_BYTES_MAX);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| NoAnswer(chain(&error)))?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            for event in events.push(data).map_err(NoAnswer)? {
                let Ok(message) = serde_json::from_slice::<Value>(&event) else {
                    continue;
                };
                if is_answer(&message, id) {
                    return Ok(message);
                }
                self.oblige(&message).await;
            }
        }
        Err(NoAnswer("the stream ended before the answer".to_owned()))
    }

    /// Answers a request of the target: pings, and nothing else. Whether that arrives is the target's affair.
    async fn oblige(&self, message: &Value) {
        let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) else {
            return;
        };
        let reply = if method == "ping" {
            json!({ "jsonrpc": "2.0", "id": id, "result": {} })
        } else {
            let error = json!({ "code": -32601, "message": "not offered by this client" });
            json!({ "jsonrpc": "2.0", "id": id, "error": error })
        };
        let _undeliverable = self.post("", None, &reply).await;
    }
}

fn next_id() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

async fn find_in_body(
    body: Incoming,
    status: StatusCode,
    readable: bool,
    id: u64,
) -> Result<Value, NoAnswer> {
    let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| NoAnswer(error.to_string()))?
        .to_bytes();
    let message: Option<Value> = serde_json::from_slice(&body).ok();
    match message.filter(|message| readable && is_answer(message, id)) {
        Some(message) => Ok(message),
        None => {
            let text = String::from_utf8_lossy(&body);
            let text: String = text.chars().take(120).collect();
            Err(NoAnswer(format!("HTTP {}: {text}", status.as_u16())))
        }
    }
}

fn is_answer(message: &Value, id: u64) -> bool {
    message["id"] == id && message.get("method").is_none()
}

fn outcome(answer: &Value) -> Outcome {
    if let Some(error) = answer.get("error") {
        return Outcome::Typed(error["message"].as_str().unwrap_or_default().to_owned());
    }
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str();
    match (text, result["isError"].as_bool().unwrap_or(false)) {
        (text, true) => Outcome::Typed(text.unwrap_or_default().to_owned()),
        (Some(text), false) => Outcome::Answered(text.to_owned()),
        (None, false) => Outcome::Broken(format!("a result without text: {}", short(answer))),
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(160).collect()
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_apart() {
        let result = |result: Value| outcome(&json!({ "id": 1, "result": result }));
        let content = json!([{ "type": "text", "text": "a" }]);
        assert_eq!(
            result(json!({ "content": content })),
            Outcome::Answered("a".into())
        );
        assert_eq!(
            result(json!({ "content": content, "isError": true })),
            Outcome::Typed("a".into())
        );
        assert!(matches!(result(json!({})), Outcome::Broken(_)));
        let error = outcome(&json!({ "id": 1, "error": { "code": -1, "message": "gone" } }));
        assert_eq!(error, Outcome::Typed("gone".into()));
    }
}
