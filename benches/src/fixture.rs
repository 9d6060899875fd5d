//! The upstream that everything is measured against: as fast as a server can be, so that it hides nothing.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_wire::envelope::{Kind, Limits, Message};
use mainstay_wire::ndjson::{Line, LineDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::Failure;
use crate::http::Reader;

/// Tools in the big listing.
const MANY_TOOLS: usize = 2_000;

struct Answers {
    small: String,
    kib64: String,
    mib1: String,
    tools: String,
}

impl Answers {
    fn new() -> Self {
        let text = |size: usize| {
            format!(
                "{{\"resultType\":\"complete\",\"content\":[{{\"type\":\"text\",\"text\":\"{}\"}}]}}",
                "x".repeat(size)
            )
        };
        Self {
            small: text(32),
            kib64: text(64 * 1024),
            mib1: text(1024 * 1024),
            tools: tools(),
        }
    }

    /// The answer to a request, or `None` to a notification.
    fn to(&self, message: &Message) -> Option<Message> {
        if message.kind() != Kind::Request {
            return None;
        }
        let id = message.id()?;
        let result = match message.method().unwrap_or_default() {
            "server/discover" => {
                "{\"resultType\":\"complete\",\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{}},\"ttlMs\":0,\"cacheScope\":\"private\"}"
            }
            "tools/list" => &self.tools,
            "tools/call" => match message.string_member(&["params", "name"]).as_deref() {
                Some("kib64") => &self.kib64,
                Some("mib1") => &self.mib1,
                Some(_) | None => &self.small,
            },
            _other => {
                return Some(Message::error_of(
                    Some(id),
                    -32601,
                    "Method not found",
                    None,
                ));
            }
        };
        Some(Message::result_of(id, result))
    }
}

fn tools() -> String {
    let mut text = String::from("{\"resultType\":\"complete\",\"tools\":[");
    for name in ["small", "kib64", "mib1"] {
        let _ = write!(
            text,
            "{{\"name\":\"{name}\",\"inputSchema\":{{\"type\":\"object\"}}}},"
        );
    }
    for index in 0..MANY_TOOLS - 3 {
        let comma = if index == MANY_TOOLS - 4 { "" } else { "," };
        let _ = write!(
            text,
            "{{\"name\":\"tool_{index}\",\"description\":\"Number {index} of many tools, described in a sentence of ordinary length.\",\"inputSchema\":{{\"type\":\"object\",\"properties\":{{\"path\":{{\"type\":\"string\",\"description\":\"Where\"}},\"limit\":{{\"type\":\"integer\"}}}},\"required\":[\"path\"]}}}}{comma}"
        );
    }
    text.push_str("],\"ttlMs\":0,\"cacheScope\":\"private\"}");
    text
}

/// Serves over HTTP for ever.
pub(crate) async fn serve_http() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let answers = Arc::new(Answers::new());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let (read, mut write) = stream.into_split();
            let mut reader = Reader::new(read);
            while let Ok(Some(request)) = reader.next().await {
                let Ok(message) = Message::parse(request.body.freeze(), &Limits::default()) else {
                    return;
                };
                let mut reply = Vec::new();
                match answers.to(&message) {
                    Some(answer) => {
                        let body = answer.text();
                        reply.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ");
                        reply.extend_from_slice(body.len().to_string().as_bytes());
                        reply.extend_from_slice(b"\r\n\r\n");
                        reply.extend_from_slice(body);
                    }
                    None => reply
                        .extend_from_slice(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"),
                }
                if write.write_all(&reply).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Serves over stdio until its input ends.
pub(crate) async fn serve_stdio() -> Result<(), Failure> {
    let answers = Answers::new();
    let mut decoder = LineDecoder::new(Limits::default());
    let (mut stdin, mut stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = stdin.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        decoder.push(Bytes::copy_from_slice(&chunk[..read]));
        let mut out = Vec::new();
        for line in decoder.by_ref() {
            if let Line::Message(message) = line
                && let Some(answer) = answers.to(&message)
            {
                out.extend_from_slice(answer.text());
                out.push(b'\n');
            }
        }
        stdout.write_all(&out).await?;
        stdout.flush().await?;
    }
}
