//! The HTTP+SSE transport of 2024-11-05: `GET /sse` opens the stream, its first event names `/messages?session=…`, POSTs
//! there are answered 202, and the answers come on the stream. With the misbehaviours of that transport.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;

use super::script::{Fault, GetPolicy};
use super::service::{plain, stream_of};
use super::state::State;
use super::{answer, push, sse};

/// How the `endpoint` event names the address for messages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointForm {
    /// A path from the root, as most servers do.
    #[default]
    Path,
    /// Relative to the address of the stream.
    Relative,
    /// A whole URL of this server.
    Absolute,
    /// The same path at this origin.
    Foreign(String),
    /// No event at all; the stream stays open.
    Never,
    /// Bytes that are no UTF-8, where a path would be.
    NotText,
}

/// What can be set for the HTTP+SSE transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OldScript {
    /// The address for messages.
    pub endpoint: EndpointForm,
    /// The `endpoint` event comes this late.
    pub endpoint_delay_ms: u64,
    /// What a POST to the address of the stream gets; 200: it speaks streamable HTTP there.
    pub post_status: u16,
    /// Answers come in the response to the POST, under 200, and not on the stream.
    pub answer_on_post: bool,
    /// Streams stay open and nothing more is written to them: a half-open connection.
    pub deaf: bool,
    /// Every byte of the stream is a chunk of its own.
    pub byte_by_byte: bool,
    /// A comment this often.
    pub comment_every_ms: Option<u64>,
    /// Sessions that were opened under a smaller number are forgotten, while their streams stay open.
    pub epoch: u64,
    /// How a POST of an unknown session is refused: 404, or 400 with words.
    pub lost_status: u16,
}

impl Default for OldScript {
    fn default() -> Self {
        Self {
            endpoint: EndpointForm::default(),
            endpoint_delay_ms: 0,
            post_status: 405,
            answer_on_post: false,
            deaf: false,
            byte_by_byte: false,
            comment_every_ms: None,
            epoch: 0,
            lost_status: 404,
        }
    }
}

/// Serves `/sse` and `/messages`. `Err` closes the connection without an answer.
pub(crate) async fn serve(
    state: &Arc<State>,
    head: &Parts,
    message: Value,
) -> io::Result<Response<Body>> {
    match (head.uri.path(), &head.method) {
        ("/sse", &Method::GET) => Ok(open(state, head)),
        ("/messages", &Method::POST) => {
            state.ledger.count(|counts| counts.posts += 1);
            take(state, head, message).await
        }
        ("/sse", &Method::POST) => {
            state.ledger.count(|counts| counts.posts += 1);
            let status = state.script().old.post_status;
            Ok(plain(status, "text/plain", "no such thing here"))
        }
        _ => Ok(plain(405, "text/plain", "")),
    }
}

fn open(state: &Arc<State>, head: &Parts) -> Response<Body> {
    state.ledger.count(|counts| counts.gets += 1);
    match state.script().take_get() {
        // What the old transport has no use for is an ordinary stream here; `comment_every_ms` sends comments.
        GetPolicy::Stream
        | GetPolicy::EventThenEnd
        | GetPolicy::EventThenGiant
        | GetPolicy::Comments => {}
        GetPolicy::Unauthorized => return plain(401, "text/plain", "who are you?"),
        GetPolicy::Forbidden => return plain(403, "text/plain", "not for you"),
        GetPolicy::Wrapped => return plain(500, "text/plain", "upstream: 400 session not found"),
        GetPolicy::NotAllowed => return plain(405, "text/plain", ""),
        GetPolicy::NotFound => return plain(404, "text/plain", ""),
        GetPolicy::Text => return plain(200, "text/plain", "MCP server is running"),
        GetPolicy::Unavailable => return plain(503, "text/plain", "starting"),
        GetPolicy::End => return stream_of(Body::empty()),
        GetPolicy::Reset => {
            return stream_of(sse::broken_after(Bytes::from_static(b": welcome\n\n")));
        }
    }
    let old = state.script().old.clone();
    let session = format!("{}-old-{}", old.epoch, state.number());
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    push::count_stream(state, &sender);
    state.add_stream(&session, sender.clone());
    let host = head
        .headers
        .get("host")
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let address = match &old.endpoint {
        EndpointForm::Path | EndpointForm::NotText => Some(format!("/messages?session={session}")),
        EndpointForm::Relative => Some(format!("messages?session={session}")),
        EndpointForm::Absolute => Some(format!("http://{host}/messages?session={session}")),
        EndpointForm::Foreign(origin) => Some(format!("{origin}/messages?session={session}")),
        EndpointForm::Never => None,
    };
    let not_text = old.endpoint == EndpointForm::NotText;
    let first = sender.downgrade();
    state.spawn(async move {
        tokio::time::sleep(Duration::from_millis(old.endpoint_delay_ms)).await;
        if let (Some(address), Some(sender)) = (address, first.upgrade()) {
            let mut event = format!("event: endpoint\ndata: {address}").into_bytes();
            if not_text {
                event.push(0xff);
            }
            event.extend_from_slice(b"\n\n");
            let _ = sender.send(Bytes::from(event)).await;
        }
        let Some(every_ms) = old.comment_every_ms else {
            return;
        };
        loop {
            tokio::time::sleep(Duration::from_millis(every_ms)).await;
            let Some(sender) = first.upgrade() else { break };
            if sender
                .send(Bytes::from_static(b": here\n\n"))
                .await
                .is_err()
            {
                break;
            }
        }
    });
    drop(sender);
    stream_of(body(receiver, old.byte_by_byte))
}

fn body(receiver: mpsc::Receiver<Bytes>, byte_by_byte: bool) -> Body {
    let events = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let pieces = events.flat_map(move |event| {
        let size = if byte_by_byte { 1 } else { event.len().max(1) };
        let pieces: Vec<_> = (0..event.len())
            .step_by(size)
            .map(|at| Ok::<_, Infallible>(event.slice(at..event.len().min(at + size))))
            .collect();
        stream::iter(pieces)
    });
    Body::from_stream(pieces)
}

async fn take(state: &Arc<State>, head: &Parts, message: Value) -> io::Result<Response<Body>> {
    let session = head
        .uri
        .query()
        .and_then(|query| query.strip_prefix("session="))
        .unwrap_or_default()
        .to_owned();
    let method = message["method"].as_str().unwrap_or_default().to_owned();
    count(state, &method);
    let (old, fault) = {
        let mut script = state.script();
        (script.old.clone(), script.take_fault(&method))
    };
    let epoch = session
        .split('-')
        .next()
        .and_then(|epoch| epoch.parse().ok());
    let stream = state
        .stream(&session)
        .filter(|_| epoch.is_some_and(|epoch: u64| epoch >= old.epoch));
    let Some(stream) = stream else {
        state.ledger.count(|counts| counts.lost_sessions += 1);
        return Ok(plain(
            old.lost_status,
            "text/plain",
            "No transport found for sessionId",
        ));
    };
    if let Some(fault) = fault
        && let Some(response) = misbehave(state, &session, &stream, &message, fault).await
    {
        return response;
    }
    if message.get("id").is_none() || method.is_empty() {
        return Ok(accepted());
    }
    state.note_wish(&session, &message);
    if old.answer_on_post {
        let answer = reply(state, &message, None).await;
        return Ok(plain(200, "application/json", &answer));
    }
    // A call that runs must not keep the stream open that a test wants to end.
    let weak = stream.downgrade();
    let emit = message
        .pointer("/params/_meta/progressToken")
        .filter(|_| message["params"]["name"] == "progress")
        .map(|_| stream.clone());
    drop(stream);
    let task = Arc::clone(state);
    state.spawn(async move {
        let answer = reply(&task, &message, emit.as_ref()).await;
        if let Some(stream) = weak.upgrade() {
            say(&task, &stream, &answer).await;
        }
    });
    Ok(accepted())
}

fn count(state: &State, method: &str) {
    match method {
        "notifications/initialized" => state.ledger.count(|counts| counts.initialized += 1),
        "notifications/cancelled" => state.ledger.count(|counts| counts.cancels += 1),
        "" => state.ledger.count(|counts| counts.responses += 1),
        _ => {}
    }
}

/// A planned misbehaviour; `None`: one that this transport does not know, so it behaves.
async fn misbehave(
    state: &Arc<State>,
    session: &str,
    stream: &mpsc::Sender<Bytes>,
    message: &Value,
    fault: Fault,
) -> Option<io::Result<Response<Body>>> {
    if let Fault::Status { status, body, .. } = fault {
        return Some(Ok(plain(status, "text/plain", &body)));
    }
    if let Fault::GiantEvent { bytes } = fault {
        let text = "x".repeat(bytes);
        let id = &message["id"];
        let answer =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"text\":\"{text}\"}}}}");
        say(state, stream, &answer).await;
        return Some(Ok(accepted()));
    }
    if fault == Fault::Drop {
        return Some(Err(io::Error::other("planned drop")));
    }
    if fault == Fault::HeadThenStall {
        // The POST itself is stuck.
        return std::future::pending().await;
    }
    if fault == Fault::NeverAnswer {
        // Accepted, and never heard of again.
        return Some(Ok(accepted()));
    }
    if matches!(fault, Fault::BreakBeforeAnswer | Fault::EndBeforeAnswer) {
        state.forget_session(session);
        return Some(Ok(accepted()));
    }
    if fault == Fault::RunThenNotFound {
        let _ran = answer::answer(state, false, message, None).await;
        return Some(Ok(plain(404, "text/plain", "")));
    }
    None
}

fn accepted() -> Response<Body> {
    plain(202, "text/plain", "Accepted")
}

async fn reply(state: &State, message: &Value, emit: Option<&mpsc::Sender<Bytes>>) -> String {
    if message["method"] == "initialize" {
        state.ledger.count(|counts| counts.initializes += 1);
        return answer::initialize(state, message).body.to_string();
    }
    answer::answer(state, false, message, emit)
        .await
        .body
        .to_string()
}

/// Writes an event, unless the stream is to look half-open. A client that has left misses it.
async fn say(state: &State, stream: &mpsc::Sender<Bytes>, data: &str) {
    if !state.script().old.deaf {
        let _ = stream.send(sse::event(None, data)).await;
    }
}
