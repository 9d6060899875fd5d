//! A client of the gateway's `/mcp` endpoint, as an app or agent would be one: real HTTP, both eras.
//!
//! Must not know the manager: all it sees of Mainstay is what comes back over the wire.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::outcome::Outcome;

/// The demo's answers are a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// Which generation of clients to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// `initialize`, a session, and its id with every request.
    Legacy,
    /// No handshake; every request says what it needs.
    Modern,
}

/// One client of the gateway. Its requests go out one after another, over kept connections.
#[derive(Debug)]
pub(super) struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    url: String,
    era: Era,
    session: Option<HeaderValue>,
    next_id: u64,
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAnswer(String);

impl Client {
    /// Greets the gateway at `address`, if its era has a greeting.
    pub(super) async fn connect(address: SocketAddr, era: Era) -> Result<Self, NoAnswer> {
        let http = HttpClient::builder(TokioExecutor::new()).build_http();
        let mut client = Self {
            http,
            url: format!("http://{address}/mcp"),
            era,
            session: None,
            next_id: 1,
        };
        if era == Era::Legacy {
            client.initialize().await?;
        }
        Ok(client)
    }

    async fn initialize(&mut self) -> Result<(), NoAnswer> {
        let params = json!({
            "protocolVersion": LEGACY, "capabilities": {},
            "clientInfo": { "name": "mainstay-demo", "version": env!("CARGO_PKG_VERSION") }
        });
        let (answer, session) = self.exchange(Some(0), "initialize", params).await?;
        if answer.get("result").is_none() {
            return Err(NoAnswer(format!("the gateway refused to greet: {answer}")));
        }
        self.session = session;
        self.exchange(None, "notifications/initialized", json!({}))
            .await?;
        Ok(())
    }

    /// The exposed names of all tools: what every client asks for before its first call.
    pub(super) async fn tools(&mut self) -> Result<Vec<String>, NoAnswer> {
        let id = self.next_id;
        self.next_id += 1;
        let (answer, _) = self.exchange(Some(id), "tools/list", json!({})).await?;
        let tools = answer["result"]["tools"]
            .as_array()
            .ok_or_else(|| NoAnswer(format!("no list of tools: {answer}")))?;
        Ok(tools
            .iter()
            .filter_map(|tool| tool["name"].as_str())
            .map(str::to_owned)
            .collect())
    }

    /// Calls a tool and says how the call ended, with the words that came with it if it failed.
    pub(super) async fn call(&mut self, tool: &str, arguments: Value) -> (Outcome, String) {
        let id = self.next_id;
        self.next_id += 1;
        let params = json!({ "name": tool, "arguments": arguments });
        match self.exchange(Some(id), "tools/call", params).await {
            Ok((answer, _)) => {
                let words = answer["error"]["message"]
                    .as_str()
                    .or(answer["result"]["content"][0]["text"].as_str());
                (Outcome::of(&answer), words.unwrap_or_default().to_owned())
            }
            Err(NoAnswer(why)) => (Outcome::NoAnswer, why),
        }
    }

    async fn exchange(
        &self,
        id: Option<u64>,
        method: &str,
        mut params: Value,
    ) -> Result<(Value, Option<HeaderValue>), NoAnswer> {
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        match self.era {
            Era::Modern => {
                request = request
                    .header("mcp-protocol-version", MODERN)
                    .header("mcp-method", method);
                if let Some(name) = params["name"].as_str() {
                    request = request.header("mcp-name", name);
                }
                params["_meta"] = json!({
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientCapabilities": {}
                });
            }
            Era::Legacy => {
                if let Some(session) = &self.session {
                    request = request
                        .header("mcp-session-id", session)
                        .header("mcp-protocol-version", LEGACY);
                }
            }
        }
        let mut message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        if let Some(id) = id {
            message["id"] = id.into();
        }
        let request = request
            .body(Full::new(Bytes::from(message.to_string())))
            .map_err(no_answer)?;
        let response = self.http.request(request).await.map_err(no_answer)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| NoAnswer(error.to_string()))?;
        let session = head.headers.get("mcp-session-id").cloned();
        let Some(id) = id else {
            return Ok((Value::Null, session));
        };
        let is_stream = head
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let answer = find_answer(&body.to_bytes(), is_stream, id);
        answer
            .map(|answer| (answer, session))
            .ok_or_else(|| NoAnswer(format!("no answer in a body ({})", head.status)))
    }
}

fn no_answer(error: impl std::error::Error) -> NoAnswer {
    NoAnswer(error.to_string())
}

/// The response under `id`: the whole body, or one of the events of a stream.
fn find_answer(body: &[u8], is_stream: bool, id: u64) -> Option<Value> {
    let ours = |message: &Value| message["id"] == id && message.get("method").is_none();
    if !is_stream {
        return serde_json::from_slice(body).ok().filter(ours);
    }
    let text = std::str::from_utf8(body).ok()?;
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|data| serde_json::from_str(data).ok())
        .find(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_found_in_both_forms() {
        let answer = json!({ "jsonrpc": "2.0", "id": 3, "result": {} });
        assert_eq!(
            find_answer(answer.to_string().as_bytes(), false, 3),
            Some(answer.clone())
        );
        assert_eq!(find_answer(answer.to_string().as_bytes(), false, 4), None);
        let progress =
            json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {} });
        let stream = format!(
            ": hi\n\nevent: message\r\ndata: {progress}\r\n\r\nevent: message\ndata: {answer}\n\n"
        );
        assert_eq!(find_answer(stream.as_bytes(), true, 3), Some(answer));
        assert_eq!(find_answer(b"<html>", true, 3), None);
    }
}
