//! HTTP requests of the fake server: which verb, which era, which planned fault.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{self, Answer, MODERN};
use super::ledger::Seen;
use super::script::{DiscoverDialect, Eras, Fault, Framing, LostDialect};
use super::socket::Knife;
use super::state::{Listener, State};
use super::{control, faults, fleet, old, push, sse};

/// The biggest request body that is read.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

const SESSION: &str = "mcp-session-id";

/// One POST on its way through the server.
pub(crate) struct Exchange {
    pub(crate) state: Arc<State>,
    pub(crate) headers: HeaderMap,
    pub(crate) message: Value,
    pub(crate) modern: bool,
    pub(crate) replica: usize,
    /// For breaking the connection it came on.
    pub(crate) knife: Arc<Knife>,
}

impl Exchange {
    fn method(&self) -> &str {
        self.message
            .get("method")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(crate) fn id(&self) -> Value {
        self.message.get("id").cloned().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.headers, name)
    }
}

pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}

/// Serves one request. `Err` closes the connection without an answer.
pub(crate) async fn serve(
    state: Arc<State>,
    knife: Arc<Knife>,
    request: Request<Body>,
) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(io::Error::other)?;
    let at = head.uri.path().to_owned();
    if !matches!(at.as_str(), "/mcp" | "/sse" | "/messages") {
        return Ok(control::serve(&state, head.uri.path(), &body));
    }
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    state.ledger.record(Seen {
        verb: head.method.to_string(),
        version: format!("{:?}", head.version),
        method: message
            .get("method")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let wanted = state.script().authorization.clone();
    if wanted.is_some() && wanted != header(&head.headers, "authorization") {
        return Ok(plain(401, "text/plain", "who are you?"));
    }
    let streamable = at == "/mcp"
        || (at == "/sse" && head.method == Method::POST && state.script().old.post_status == 200);
    if !streamable {
        let mut response = old::serve(&state, &head, message).await?;
        add_headers(&state, &mut response);
        return Ok(response);
    }
    let replica = fleet::route(&state, &head.headers);
    let mut response = match head.method {
        Method::POST => {
            state.ledger.count(|counts| counts.posts += 1);
            let version = header(&head.headers, "mcp-protocol-version");
            let legacy = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
            let modern = version.is_some_and(|version| !legacy.contains(&version.as_str()));
            let exchange = Exchange {
                state: Arc::clone(&state),
                headers: head.headers,
                message,
                modern,
                replica,
                knife,
            };
            post(exchange).await?
        }
        Method::GET => push::get(&state, &head.headers, replica)?,
        Method::DELETE => delete(&state, &head.headers, replica),
        _ => plain(405, "text/plain", ""),
    };
    fleet::pin(&state.script(), replica, &mut response);
    add_headers(&state, &mut response);
    Ok(response)
}

/// The further headers of the script.
fn add_headers(state: &State, response: &mut Response<Body>) {
    let extra = state.script().headers.clone();
    for (name, value) in extra {
        if let (Ok(name), Ok(value)) = (axum::http::HeaderName::try_from(name), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
}

async fn post(exchange: Exchange) -> io::Result<Response<Body>> {
    if !exchange.message.is_object() {
        return Ok(json_answer(&Answer::error(
            400,
            &Value::Null,
            -32700,
            "Parse error",
            None,
        )));
    }
    let method = exchange.method().to_owned();
    match method.as_str() {
        "server/discover" => exchange.state.ledger.count(|counts| counts.discovers += 1),
        "subscriptions/listen" => exchange.state.ledger.count(|counts| counts.listens += 1),
        "notifications/initialized" => exchange
            .state
            .ledger
            .count(|counts| counts.initialized += 1),
        "notifications/cancelled" => exchange.state.ledger.count(|counts| counts.cancels += 1),
        "" => {
            exchange.state.ledger.count(|counts| counts.responses += 1);
            exchange.state.answered(&exchange.message);
        }
        _ => {}
    }
    let fault = exchange.state.script().take_fault(&method);
    match fault {
        None | Some(Fault::Pass) => behave(exchange, None).await,
        Some(fault) => faults::misbehave(exchange, fault).await,
    }
}

/// The honest way through a POST. `chatter` goes on the stream before the answer.
pub(crate) async fn behave(
    exchange: Exchange,
    chatter: Option<Bytes>,
) -> io::Result<Response<Body>> {
    let eras = fleet::eras(&exchange.state.script(), exchange.replica);
    if exchange.modern {
        if eras == Eras::Legacy {
            return Ok(refuse_modern(&exchange).await);
        }
        if exchange.id().is_null() {
            return Ok(plain(202, "text/plain", ""));
        }
        if let Some(fault) = answer::modern_fault(&exchange.state, &exchange.message, |name| {
            exchange.header(name)
        }) {
            return Ok(json_answer(&fault));
        }
        if exchange.method() == "subscriptions/listen" {
            return Ok(listen(&exchange));
        }
        return Ok(run(exchange, chatter).await);
    }
    if eras == Eras::Modern {
        let data = json!({"supported": [MODERN], "requested": exchange.message.pointer("/params/protocolVersion")});
        return Ok(json_answer(&Answer::error(
            400,
            &exchange.id(),
            -32022,
            "Unsupported protocol version",
            Some(data),
        )));
    }
    if exchange.method() == "initialize" {
        return Ok(initialize(&exchange, chatter));
    }
    if let Some(lost) = session_fault(&exchange) {
        return Ok(lost);
    }
    if exchange.id().is_null() || exchange.method().is_empty() {
        return Ok(plain(202, "text/plain", ""));
    }
    let session = exchange.header(SESSION).unwrap_or_default();
    exchange.state.note_wish(&session, &exchange.message);
    Ok(run(exchange, chatter).await)
}

fn initialize(exchange: &Exchange, chatter: Option<Bytes>) -> Response<Body> {
    let state = &exchange.state;
    if let Some(error) = state.script().initialize_error.clone() {
        let id = exchange.id();
        return plain(
            400,
            "application/json",
            &format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}"),
        );
    }
    state.ledger.count(|counts| counts.initializes += 1);
    let answer = answer::initialize(state, &exchange.message);
    let mut response = match chatter {
        Some(chatter) => {
            let event = sse::event(None, &answer.body.to_string());
            stream_of(Body::from([chatter, event].concat()))
        }
        None => framed(state.script().framing, &answer),
    };
    if state.script().sessions {
        let session = state.open_session(exchange.replica);
        if let Ok(value) = session.parse() {
            response.headers_mut().insert(SESSION, value);
        }
    }
    response
}

/// What a legacy server with sessions says to a request without a good one.
fn session_fault(exchange: &Exchange) -> Option<Response<Body>> {
    let state = &exchange.state;
    if !state.script().sessions {
        return None;
    }
    let Some(session) = exchange.header(SESSION) else {
        return Some(json_answer(&Answer::error(
            400,
            &exchange.id(),
            -32600,
            "Bad Request: Missing session ID",
            None,
        )));
    };
    if state.knows(&session, exchange.replica) {
        return None;
    }
    state.ledger.count(|counts| counts.lost_sessions += 1);
    let dialect = state.script().lost;
    Some(lost_session(dialect, &exchange.id()))
}

fn lost_session(dialect: LostDialect, id: &Value) -> Response<Body> {
    let told = |status| {
        json_answer(&Answer::error(
            status,
            id,
            -32600,
            "Session not found",
            None,
        ))
    };
    match dialect {
        LostDialect::NotFound => told(404),
        LostDialect::NotFoundEmpty => plain(404, "text/plain", ""),
        LostDialect::BadRequest => plain(
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#,
        ),
        LostDialect::Gone => told(410),
        LostDialect::OkBody => told(200),
        LostDialect::OkStream => {
            let answer = Answer::error(200, id, -32600, "Session not found", None);
            stream_of(Body::from(sse::event(None, &answer.body.to_string())))
        }
        LostDialect::Wrapped => plain(
            500,
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"400 Bad Request: No valid session ID provided"}}"#,
        ),
    }
}

async fn refuse_modern(exchange: &Exchange) -> Response<Body> {
    let id = exchange.id();
    let dialect = exchange.state.script().discover;
    match dialect {
        DiscoverDialect::BadRequest => json_answer(&Answer::error(
            400,
            &Value::Null,
            -32000,
            "Bad Request: Server not initialized",
            None,
        )),
        DiscoverDialect::NotFound => plain(404, "text/plain", ""),
        DiscoverDialect::NotAllowed => plain(405, "text/plain", ""),
        DiscoverDialect::MethodNotFound => {
            json_answer(&Answer::error(200, &id, -32601, "Method not found", None))
        }
        DiscoverDialect::InvalidParams => json_answer(&Answer::error(
            200,
            &id,
            -32602,
            "Invalid request parameters",
            None,
        )),
        DiscoverDialect::PlainText => plain(400, "text/plain", "Bad Request"),
        DiscoverDialect::Silent => std::future::pending().await,
    }
}

/// Runs a request and frames its answer as the script says; a caller that wants progress gets a stream.
async fn run(exchange: Exchange, chatter: Option<Bytes>) -> Response<Body> {
    let framing = exchange.state.script().framing;
    let progress = exchange
        .message
        .pointer("/params/_meta/progressToken")
        .is_some();
    if framing == Framing::Json && !progress && chatter.is_none() {
        let state = Arc::clone(&exchange.state);
        let mut left = Left {
            state: &state,
            answered: false,
        };
        let answer = answer::answer(&state, exchange.modern, &exchange.message, None).await;
        left.answered = true;
        return json_answer(&answer);
    }
    if !progress && chatter.is_none() {
        let answer =
            answer::answer(&exchange.state, exchange.modern, &exchange.message, None).await;
        return framed(framing, &answer);
    }
    let (emit, body) = sse::channel();
    let state = Arc::clone(&exchange.state);
    state.spawn(async move {
        if let Some(chatter) = chatter {
            let _ = emit.send(chatter).await;
        }
        let answering = answer::answer(&exchange.state, exchange.modern, &exchange.message, Some(&emit));
        tokio::select! {
            // Cancel-safe: an answer that nobody waits for any more is dropped, which is what the ledger counts.
            answer = answering => { let _ = emit.send(sse::event(None, &answer.body.to_string())).await; }
            // Cancel-safe: being closed is a level.
            () = emit.closed() => exchange.state.ledger.count(|counts| counts.disconnects += 1),
        }
    });
    stream_of(body)
}

/// Counts a caller that disconnected before its answer.
struct Left<'a> {
    state: &'a State,
    answered: bool,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.state.ledger.count(|counts| counts.disconnects += 1);
        }
    }
}

fn listen(exchange: &Exchange) -> Response<Body> {
    let state = &exchange.state;
    let id = exchange.id();
    if !state.script().listen {
        return json_answer(&Answer::error(404, &id, -32601, "Method not found", None));
    }
    let mut filter = exchange
        .message
        .pointer("/params/notifications")
        .cloned()
        .unwrap_or_default();
    if let Some(filter) = filter.as_object_mut() {
        let omitted = state.script().listen_omits.clone();
        filter.retain(|key, _| !omitted.contains(key));
    }
    let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
    let acknowledged = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
        "params": {"_meta": meta, "notifications": filter}});
    let head = sse::event(None, &acknowledged.to_string());
    if state.script().listen_ends {
        return stream_of(Body::from(head));
    }
    let (stream, body) = sse::channel();
    let _ = stream.try_send(head);
    push::count_stream(state, &stream);
    state.add_listener(Listener { id, filter, stream });
    stream_of(body)
}

fn delete(state: &State, headers: &HeaderMap, replica: usize) -> Response<Body> {
    state.ledger.count(|counts| counts.deletes += 1);
    let known =
        header(headers, SESSION).is_some_and(|session| state.end_session(&session, replica));
    let status = state.script().delete_status;
    plain(if known { status } else { 404 }, "text/plain", "")
}

fn framed(framing: Framing, answer: &Answer) -> Response<Body> {
    if answer.status != 200 {
        return json_answer(answer);
    }
    let text = answer.body.to_string();
    match framing {
        Framing::Json => json_answer(answer),
        Framing::Sse => stream_of(Body::from(sse::event(None, &text))),
        Framing::SseLateEnd => stream_of(sse::late_end(sse::event(None, &text))),
        Framing::SseByteByByte => stream_of(sse::byte_by_byte(&sse::event(None, &text))),
        Framing::SseOrnate => stream_of(Body::from(format!(
            "\u{feff}: hello\rid: a-0\rdata: \r\r: still here\revent: message\rid: a-1\rdata: {text}\r\r"
        ))),
    }
}

pub(crate) fn stream_of(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        axum::http::HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(
        "cache-control",
        axum::http::HeaderValue::from_static("no-cache, no-transform"),
    );
    response
}

pub(crate) fn json_answer(answer: &Answer) -> Response<Body> {
    plain(answer.status, "application/json", &answer.body.to_string())
}

pub(crate) fn plain(status: u16, content_type: &'static str, body: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        "content-type",
        axum::http::HeaderValue::from_static(content_type),
    );
    response
}
