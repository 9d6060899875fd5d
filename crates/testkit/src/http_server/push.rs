//! GET: push streams of legacy sessions, and the fetching of answers by `Last-Event-ID`.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::fleet;
use super::script::{Eras, GetPolicy};
use super::service::{header, plain, stream_of};
use super::sse;
use super::state::State;

pub(crate) fn get(
    state: &Arc<State>,
    headers: &HeaderMap,
    replica: usize,
) -> io::Result<Response<Body>> {
    state.ledger.count(|counts| counts.gets += 1);
    if let Some(replay) = header(headers, "last-event-id").and_then(|id| state.replay(&id)) {
        return Ok(fetch(state, replay));
    }
    if fleet::eras(&state.script(), replica) == Eras::Modern {
        return Ok(plain(405, "text/plain", ""));
    }
    let session = header(headers, "mcp-session-id").unwrap_or_default();
    if state.script().sessions && !state.knows(&session, replica) {
        state.ledger.count(|counts| counts.lost_sessions += 1);
        return Ok(plain(404, "text/plain", ""));
    }
    let policy = state.script().take_get();
    let retry = state.script().get_retry_ms;
    let head = retry.map(|retry| Bytes::from(format!("retry: {retry}\n\n")));
    Ok(match policy {
        GetPolicy::Stream => {
            let (stream, body) = sse::channel();
            let _ = stream.try_send(head.unwrap_or_else(|| Bytes::from_static(b": welcome\n\n")));
            count_stream(state, &stream);
            state.add_stream(&session, stream);
            stream_of(body)
        }
        GetPolicy::NotAllowed => plain(405, "text/plain", ""),
        GetPolicy::Text => plain(200, "text/plain", "MCP server is running"),
        GetPolicy::End => stream_of(Body::from(head.unwrap_or_default())),
        GetPolicy::Reset => stream_of(sse::broken_after(Bytes::from_static(b": welcome\n\n"))),
        GetPolicy::Unavailable => plain(503, "text/plain", "starting"),
        GetPolicy::EventThenGiant => {
            let told = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
            let event = sse::event(Some("before-the-giant"), told);
            let giant = [&b"id: giant\ndata: \""[..], &vec![b'x'; 1024 * 1024]].concat();
            stream_of(sse::stalled_after(Bytes::from(
                [event.to_vec(), giant].concat(),
            )))
        }
        GetPolicy::Comments => {
            let (stream, body) = sse::channel();
            count_stream(state, &stream);
            state.spawn(async move {
                while stream.send(Bytes::from_static(b": life\n\n")).await.is_ok() {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            });
            stream_of(body)
        }
        GetPolicy::Unauthorized => plain(401, "text/plain", "who are you?"),
        GetPolicy::Forbidden => plain(403, "text/plain", "not for you"),
        GetPolicy::Wrapped => plain(500, "text/plain", "upstream: 400 session not found"),
        GetPolicy::NotFound => plain(404, "text/plain", ""),
        GetPolicy::EventThenEnd => {
            let id = format!("push-{}", state.number());
            let told = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
            let event = sse::event(Some(&id), told);
            stream_of(Body::from([head.unwrap_or_default(), event].concat()))
        }
    })
}

/// Counts a stream as open until its client leaves or the server ends it.
pub(crate) fn count_stream(state: &Arc<State>, stream: &mpsc::Sender<Bytes>) {
    state.ledger.count(|counts| counts.streams_open += 1);
    let watched = stream.downgrade();
    let counted = Arc::clone(state);
    state.spawn(async move {
        // Holding a strong sender would keep the stream open, so look at it through a weak one from time to time.
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            if watched.upgrade().is_none_or(|stream| stream.is_closed()) {
                break;
            }
        }
        counted.ledger.count(|counts| counts.streams_open -= 1);
    });
}

/// Waits for a kept answer and sends it; a kept answer that never comes ends the stream empty.
fn fetch(
    state: &Arc<State>,
    mut replay: tokio::sync::watch::Receiver<Option<String>>,
) -> Response<Body> {
    let (stream, body) = sse::channel();
    state.spawn(async move {
        let events = match replay.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or_default(),
            Err(_never) => return,
        };
        let _ = stream.send(Bytes::from(events)).await;
    });
    stream_of(body)
}
