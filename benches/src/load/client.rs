//! One client of either era, with as little of its own as possible.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Asked, Way};
use crate::Failure;
use crate::fixture::Era;
use crate::http::Reader;

/// What a client that can be asked declares.
const CAN_BE_ASKED: &str = "{\"elicitation\":{}}";
const SURE: &str = "{\"action\":\"accept\",\"content\":{\"sure\":true}}";

/// A connection, and a second one for answers to questions.
pub(crate) struct Client {
    way: Arc<Way>,
    session: Option<String>,
    line: Line,
    second: Option<Line>,
}

/// One connection.
pub(crate) struct Line {
    write: OwnedWriteHalf,
    pub(crate) reader: Reader<OwnedReadHalf>,
}

impl Line {
    async fn open(way: &Way) -> Result<Self, Failure> {
        let stream = TcpStream::connect(&way.address).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Self {
            write,
            reader: Reader::new(read),
        })
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.write.write_all(bytes).await?)
    }
}

impl Client {
    /// Connects, and opens a session if the era has sessions.
    pub(crate) async fn open(way: &Arc<Way>) -> Result<Self, Failure> {
        let mut client = Self {
            way: Arc::clone(way),
            session: None,
            line: Line::open(way).await?,
            second: None,
        };
        if way.era == Era::Legacy {
            let body = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{CAN_BE_ASKED},\"clientInfo\":{{\"name\":\"bench\",\"version\":\"1\"}}}}}}"
            );
            let request = client.post("", &body);
            client.line.send(&request).await?;
            let answer = client.line.reader.next().await?.ok_or("closed")?;
            client.session = Some(answer.session.ok_or("no session")?);
        }
        Ok(client)
    }

    /// The push stream: the session's own, or that of a listener. A connection that only listens.
    pub(crate) async fn listen(&self) -> Result<Line, Failure> {
        let mut line = Line::open(&self.way).await?;
        let request = match self.way.era {
            Era::Legacy => format!(
                "GET {} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n{}\r\n",
                self.way.path,
                self.way.address,
                self.session_headers()
            )
            .into_bytes(),
            Era::Modern => self.request_of(
                "subscriptions/listen",
                None,
                "\"notifications\":{\"toolsListChanged\":true},",
            ),
        };
        line.send(&request).await?;
        let head = line.reader.head().await?.ok_or("closed")?;
        if !head.first().contains(" 200 ") {
            return Err(format!("no push stream: {}", head.first()).into());
        }
        if self.way.era == Era::Modern {
            line.reader.event().await?.ok_or("no acknowledgement")?;
        }
        Ok(line)
    }

    /// The bytes of one request.
    pub(crate) fn request(&self, asked: Asked) -> Vec<u8> {
        let (method, tool) = match asked {
            Asked::Call(method, tool) => (method, tool),
            Asked::Question => ("tools/call", Some("ask")),
        };
        self.request_of(method, tool, "")
    }

    fn request_of(&self, method: &str, tool: Option<&str>, more: &str) -> Vec<u8> {
        let params =
            tool.map(|tool| format!("\"name\":\"{tool}\",\"arguments\":{{\"text\":\"hello\"}},"));
        let params = format!("{}{more}", params.unwrap_or_default());
        let (meta, headers) = match self.way.era {
            Era::Legacy => (String::from("\"_meta\":{}"), String::new()),
            Era::Modern => {
                let capabilities = if tool == Some("ask") {
                    CAN_BE_ASKED
                } else {
                    "{}"
                };
                let name = tool.map(|tool| format!("mcp-name: {tool}\r\n"));
                (
                    format!(
                        "\"_meta\":{{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{capabilities},\"io.modelcontextprotocol/clientInfo\":{{\"name\":\"bench\",\"version\":\"1\"}}}}"
                    ),
                    format!("mcp-method: {method}\r\n{}", name.unwrap_or_default()),
                )
            }
        };
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"{method}\",\"params\":{{{params}{meta}}}}}"
        );
        self.post(&headers, &body)
    }

    fn session_headers(&self) -> String {
        match (&self.session, self.way.era) {
            (Some(session), _) => {
                format!("mcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n")
            }
            (None, Era::Modern) => String::from("mcp-protocol-version: 2026-07-28\r\n"),
            (None, Era::Legacy) => String::new(),
        }
    }

    fn post(&self, headers: &str, body: &str) -> Vec<u8> {
        format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n{}{headers}content-length: {}\r\n\r\n{body}",
            self.way.path,
            self.way.address,
            self.session_headers(),
            body.len()
        )
        .into_bytes()
    }

    /// A call that is answered as it is.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.line.send(request).await?;
        let answer = self
            .line
            .reader
            .next()
            .await?
            .ok_or("the connection was closed")?;
        let good = answer.first.contains(" 200 ")
            && memchr::memmem::find(&answer.body, b"\"result\"").is_some();
        if good {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]).into_owned();
        Err(format!("{}: {body}", answer.first).into())
    }

    /// A call that is asked something before its answer.
    pub(crate) async fn question(&mut self, request: &[u8]) -> Result<(), Failure> {
        self.line.send(request).await?;
        match self.way.era {
            Era::Legacy => self.answer_on_the_side().await,
            Era::Modern => self.answer_by_asking_again().await,
        }
    }

    async fn answer_on_the_side(&mut self) -> Result<(), Failure> {
        let head = self.line.reader.head().await?.ok_or("closed")?;
        if !head.is_stream() {
            let body = self.line.reader.rest_of(&head).await?;
            let said = String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned();
            return Err(format!("an answer without a question: {said}").into());
        }
        while let Some(text) = self.line.reader.event().await? {
            let message: serde_json::Value = serde_json::from_str(&text)?;
            if message["method"] == "elicitation/create" {
                let body = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{SURE}}}",
                    message["id"]
                );
                let request = self.post("", &body);
                let second = match &mut self.second {
                    Some(second) => second,
                    none => none.insert(Line::open(&self.way).await?),
                };
                second.send(&request).await?;
                second.reader.next().await?.ok_or("closed")?;
            } else if message.get("error").is_some() {
                return Err(text.into());
            }
        }
        Ok(())
    }

    async fn answer_by_asking_again(&mut self) -> Result<(), Failure> {
        let answer = self.line.reader.next().await?.ok_or("closed")?;
        let message: serde_json::Value = serde_json::from_slice(&answer.body)?;
        let result = &message["result"];
        let key = result["inputRequests"]
            .as_object()
            .and_then(|asked| asked.keys().next())
            .ok_or_else(|| format!("an answer without a question: {message}"))?;
        let more = format!(
            "\"inputResponses\":{{{}:{SURE}}},\"requestState\":{},",
            serde_json::Value::from(key.as_str()),
            result["requestState"]
        );
        let again = self.request_of("tools/call", Some("ask"), &more);
        self.call(&again).await
    }
}
