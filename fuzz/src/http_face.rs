//! What must hold for any HTTP request whatsoever.
//!
//! Plain functions that panic when something does not hold, as in [`crate::checks`]. The gateway's tests call them with the
//! seeds in `fuzz/seeds/http`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use mainstay::Manager;
use mainstay::config::{Config, ServerConfig};
use mainstay_gateway::{Gateway, GatewaySettings};
use mainstay_testkit::http_server::{HttpServer, Script};
use mainstay_wire::recover_id;
use serde_json::Value;
use tokio::runtime::Runtime;

/// Small enough that a fuzzer reaches them.
const MESSAGE_BYTES_MAX: usize = 4_096;
const DEPTH_MAX: usize = 24;
/// Everything is on this machine and answers at once; only streams go on for ever.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a stream is listened to.
const STREAM: Duration = Duration::from_millis(20);

/// A gateway with a server of each era behind it and one open session, for all inputs.
struct World {
    runtime: Runtime,
    gateway: Gateway,
    session: String,
    // Ends when it is dropped.
    _servers: [HttpServer; 2],
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (gateway, session, servers) = runtime.block_on(open());
        World {
            runtime,
            gateway,
            session,
            _servers: servers,
        }
    })
}

async fn open() -> (Gateway, String, [HttpServer; 2]) {
    let old = HttpServer::start(Script::legacy()).await.expect("a port");
    let new = HttpServer::start(Script::modern()).await.expect("a port");
    let servers =
        [("old", &old), ("new", &new)].map(|(name, server)| ServerConfig::http(name, server.url()));
    let manager = Manager::builder()
        .config(Config::from_servers(servers))
        .start()
        .await
        .expect("a manager");
    for server in manager.servers() {
        let connected = server.wait_until(|status| status.state == "connected");
        drop(
            tokio::time::timeout(PATIENCE, connected)
                .await
                .expect("it connects"),
        );
    }
    let mut settings = GatewaySettings::default();
    settings.limits.message_bytes_max = MESSAGE_BYTES_MAX;
    settings.limits.depth_max = DEPTH_MAX;
    settings.sessions_max = 64;
    let gateway = Gateway::new(manager, settings);
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{},"sampling":{},"roots":{}},"clientInfo":{"name":"f","version":"1"}}}"#;
    let request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Pieces::of(hello.as_bytes(), 7))
        .expect("a request");
    let reply = gateway.handle(request).await;
    let session = reply.headers()["mcp-session-id"]
        .to_str()
        .expect("visible ASCII")
        .to_owned();
    (gateway, session, [old, new])
}

/// A body in pieces of some size.
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn of(body: &[u8], size: usize) -> Self {
        Self(
            body.chunks(size.max(1))
                .map(Bytes::copy_from_slice)
                .collect(),
        )
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Reads the input as `METHOD path`, header lines, an empty line and the body. `$SESSION` in a header is the open session,
/// `$MODERN` as a line stands for the headers that belong to the body. `None`: this is no HTTP request, so no server would ever
/// be asked.
fn request(data: &[u8], session: &str) -> Option<(Request<Pieces>, Vec<u8>)> {
    let (head, body) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &b""[..]),
    };
    let mut lines = head.split(|&byte| byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, path) = first.split_once(' ')?;
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).ok()?)
        .uri(path)
        .header("host", "localhost");
    let mut size = usize::MAX;
    for line in lines {
        if line == b"$JSON" {
            request = request
                .header("content-type", "application/json")
                .header("accept", "application/json, text/event-stream");
            continue;
        }
        let at = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(line[..at].trim_ascii()).ok()?;
        let mut value = line[at + 1..].trim_ascii().to_vec();
        if value == b"$SESSION" {
            value = session.as_bytes().to_vec();
        }
        if name == "x-pieces" {
            size = value.len();
        }
        request = request.header(name, HeaderValue::from_bytes(&value).ok()?);
    }
    let request = request.body(Pieces::of(body, size)).ok()?;
    Some((request, body.to_vec()))
}

/// Whatever comes: no panic, always a status, errors are well-formed JSON-RPC, and an answer carries the id of its request or
/// none. Returns the status, if the input was a request at all.
pub fn http(data: &[u8]) -> Option<u16> {
    let world = world();
    let (request, asked) = request(data, &world.session)?;
    // The session of all inputs must outlive this one.
    if request.method() == Method::DELETE {
        return None;
    }
    let status = world.runtime.block_on(async {
        let handled = tokio::time::timeout(PATIENCE, world.gateway.handle(request));
        let reply = handled.await.expect("an answer within reason");
        let (head, mut body) = reply.into_parts();
        let is = |essence: &str| {
            let content = head
                .headers
                .get("content-type")
                .and_then(|value| value.to_str().ok());
            content.is_some_and(|content| content.starts_with(essence))
        };
        assert!(
            head.status.as_u16() >= 200 && head.status != StatusCode::INTERNAL_SERVER_ERROR,
            "{}",
            head.status
        );
        if is("text/event-stream") {
            assert_eq!(head.status, StatusCode::OK);
            let first = tokio::time::timeout(STREAM, body.frame()).await;
            if let Ok(Some(frame)) = first {
                let frame = frame
                    .expect("a stream does not break")
                    .into_data()
                    .unwrap_or_default();
                // The address for messages of an HTTP+SSE client is no message.
                let is_address = frame.starts_with(b"event: endpoint");
                for line in frame.split(|&byte| byte == b'\n').filter(|_| !is_address) {
                    if let Some(message) = line
                        .strip_prefix(b"data: ")
                        .filter(|message| !message.is_empty())
                    {
                        answer(head.status, message, &asked);
                    }
                }
            }
            return head.status;
        }
        let whole = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .expect("an end");
        let whole = whole.expect("a body does not break").to_bytes();
        if is("application/json") {
            answer(head.status, &whole, &asked);
        } else if !is("text/plain") {
            assert!(whole.is_empty(), "bytes of no type");
        }
        assert!(
            is("application/json") || !whole.starts_with(b"{"),
            "JSON says that it is"
        );
        head.status
    });
    Some(status.as_u16())
}

fn answer(status: StatusCode, text: &[u8], asked: &[u8]) {
    if text.first() == Some(&b'[') {
        return;
    }
    let message: Value = match serde_json::from_slice(text) {
        Ok(message) => message,
        // What a client sent may come back in its own spelling, beyond what this reader can hold.
        Err(error) => {
            let raw: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(text);
            assert!(raw.is_ok(), "no JSON: {error}");
            return;
        }
    };
    if message.get("ready").is_some() || message.get("status").is_some() {
        // Health, not MCP.
        return;
    }
    assert_eq!(message["jsonrpc"], "2.0", "{message}");
    let error = &message["error"];
    if error.is_object() {
        assert!(
            error["code"].is_i64() && error["message"].is_string(),
            "{message}"
        );
    } else {
        assert!(
            status.is_success(),
            "an error status with no error: {message}"
        );
    }
    // A message in the middle of a stream has no id, or one of a question of ours.
    if message.get("method").is_some() {
        return;
    }
    if let Some(id) = recover_id(asked) {
        let ours: Value = serde_json::from_str(id.raw()).unwrap_or_default();
        assert!(
            message["id"] == ours || message["id"].is_null() || ours.is_null(),
            "{message} answers {ours}"
        );
    } else {
        assert!(message["id"].is_null(), "an id from nowhere: {message}");
    }
}
