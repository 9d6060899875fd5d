//! The upstream that everything is measured against: as fast as a server can be, so that it hides nothing.

pub(crate) mod web;

use std::fmt::Write as _;

use bytes::Bytes;
use mainstay_wire::envelope::{Kind, Limits, Message};
use mainstay_wire::ndjson::{Line, LineDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Failure;

/// The era that the upstream speaks, and refuses to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

/// Tools in the big listing.
const MANY_TOOLS: usize = 2_000;

/// The tools that do something.
const FIXED: [&str; 5] = ["small", "kib64", "mib1", "ask", "touch"];

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
            tools: tools(""),
        }
    }

    /// The answer to a request, or `None` to a notification.
    fn to(&self, message: &Message, era: Era, changes: u64) -> Option<Message> {
        if message.kind() != Kind::Request {
            return None;
        }
        let id = message.id()?;
        let result = match message.method().unwrap_or_default() {
            "initialize" if era == Era::Legacy => {
                "{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{\"listChanged\":true}},\"serverInfo\":{\"name\":\"bench\",\"version\":\"1\"}}"
            }
            "ping" if era == Era::Legacy => "{}",
            "server/discover" if era == Era::Modern => {
                "{\"resultType\":\"complete\",\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{\"listChanged\":true}},\"ttlMs\":0,\"cacheScope\":\"private\"}"
            }
            "tools/list" if changes > 0 => {
                let extra = format!(
                    "{{\"name\":\"extra_{changes}\",\"inputSchema\":{{\"type\":\"object\"}}}},"
                );
                return Some(Message::result_of(id, &tools(&extra)));
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

fn tools(extra: &str) -> String {
    let mut text = format!("{{\"resultType\":\"complete\",\"tools\":[{extra}");
    for name in FIXED {
        let _ = write!(
            text,
            "{{\"name\":\"{name}\",\"inputSchema\":{{\"type\":\"object\"}}}},"
        );
    }
    for index in 0..MANY_TOOLS - FIXED.len() {
        let comma = if index == MANY_TOOLS - FIXED.len() - 1 {
            ""
        } else {
            ","
        };
        let _ = write!(
            text,
            "{{\"name\":\"tool_{index}\",\"description\":\"Number {index} of many tools, described in a sentence of ordinary length.\",\"inputSchema\":{{\"type\":\"object\",\"properties\":{{\"path\":{{\"type\":\"string\",\"description\":\"Where\"}},\"limit\":{{\"type\":\"integer\"}}}},\"required\":[\"path\"]}}}}{comma}"
        );
    }
    text.push_str("],\"ttlMs\":0,\"cacheScope\":\"private\"}");
    text
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
                && let Some(answer) = answers.to(&message, Era::Modern, 0)
            {
                out.extend_from_slice(answer.text());
                out.push(b'\n');
            }
        }
        stdout.write_all(&out).await?;
        stdout.flush().await?;
    }
}
