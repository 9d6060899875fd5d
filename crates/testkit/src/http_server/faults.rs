//! The planned misbehaviours of the fake server, one by one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::script::Fault;
use super::service::{Exchange, behave, plain, stream_of};
use super::{answer, sse};

/// Answers a POST as planned. `Err` closes the connection without an answer.
pub(crate) async fn misbehave(exchange: Exchange, fault: Fault) -> io::Result<Response<Body>> {
    let id = exchange.id();
    Ok(match fault {
        Fault::Pass => return behave(exchange, None).await,
        Fault::Chatter => return behave(exchange, Some(chatter())).await,
        Fault::Cut {
            after_bytes,
            then,
            every_ms,
        } => {
            exchange.knife.arm(after_bytes, then, every_ms);
            return behave(exchange, None).await;
        }
        Fault::Drop => return Err(io::Error::other("planned drop")),
        Fault::RunThenNotFound => {
            ran(exchange).await?;
            plain(404, "text/plain", "")
        }
        Fault::RunThen {
            status,
            headers,
            body,
            forget,
        } => run_then(exchange, forget, status_answer(status, headers, &body)).await?,
        Fault::NeverAnswer => std::future::pending().await,
        Fault::Trickle { every_ms } => trickle(&exchange, every_ms),
        Fault::Resume {
            retry_ms,
            twice,
            empty,
        } => resume(exchange, retry_ms, twice, empty),
        Fault::HeadThenStall => stream_of(sse::stalled_after(Bytes::from_static(b": head\n\n"))),
        Fault::EndBeforeAnswer => stream_of(Body::from(": soon\n\n")),
        Fault::BreakBeforeAnswer => stream_of(sse::broken_after(Bytes::from_static(b": soon\n\n"))),
        Fault::Status {
            status,
            headers,
            body,
        } => status_answer(status, headers, &body.replace("$ID", &id.to_string())),
        Fault::Html => {
            let page = "<html><body>Please log in to the hotel network</body></html>";
            plain(200, "text/html; charset=utf-8", page)
        }
        Fault::GiantEvent { bytes } => {
            let head = format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"x\":\"");
            stream_of(sse::stalled_after(Bytes::from(
                [head.into_bytes(), vec![b'x'; bytes]].concat(),
            )))
        }
        Fault::GiantJson { bytes } => {
            let content = json!([{"type": "text", "text": "x".repeat(bytes)}]);
            let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"content": content}});
            plain(200, "application/json", &answer.to_string())
        }
        Fault::BrokenEvent => stream_of(Body::from("data: {\"jsonrpc\":\"2.0\",\"id\":oops\n\n")),
        Fault::BrokenJson => plain(200, "application/json", "{\"jsonrpc\":\"2.0\",\"id\""),
        Fault::ForeignId { id } => {
            let id: Value = serde_json::from_str(&id).unwrap_or_default();
            let error = json!({"code": -32000, "message": "from afar"});
            plain(
                200,
                "application/json",
                &json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string(),
            )
        }
    })
}

/// Runs the request, and answers something else.
/// Runs a request to its end: a call whose answer nobody reads would be given up by the server.
async fn ran(exchange: Exchange) -> io::Result<()> {
    let answer = behave(exchange, None).await?;
    let whole = axum::body::to_bytes(answer.into_body(), usize::MAX).await;
    whole.map(drop).map_err(io::Error::other)
}

async fn run_then(
    exchange: Exchange,
    forget: bool,
    instead: Response<Body>,
) -> io::Result<Response<Body>> {
    let state = Arc::clone(&exchange.state);
    ran(exchange).await?;
    if forget {
        state.forget_sessions();
    }
    Ok(instead)
}

fn status_answer(status: u16, headers: Vec<(String, String)>, body: &str) -> Response<Body> {
    let mut response = plain(status, "application/json", body);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (axum::http::HeaderName::try_from(name), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn trickle(exchange: &Exchange, every_ms: u64) -> Response<Body> {
    let (emit, body) = sse::channel();
    exchange.state.spawn(async move {
        while emit.send(Bytes::from_static(b": tick\n\n")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(every_ms)).await;
        }
    });
    stream_of(body)
}

fn chatter() -> Bytes {
    let said = [
        json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "hello"}}),
        json!({"jsonrpc": "2.0", "id": "server-ping-1", "method": "ping"}),
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}),
    ];
    Bytes::from(
        said.map(|message| sse::event(None, &message.to_string()))
            .concat(),
    )
}

/// Sends a priming event and hangs up; the answer is there for whoever asks by the event's id.
fn resume(exchange: Exchange, retry_ms: u64, twice: bool, empty: bool) -> Response<Body> {
    let state = Arc::clone(&exchange.state);
    let event_id = format!("stream-{}-0", state.number());
    let (answered, replay) = watch::channel(None);
    state.keep_replay(event_id.clone(), replay);
    if !empty {
        let last = event_id.replace("-0", "-1");
        state.spawn(async move {
            let answer =
                answer::answer(&exchange.state, exchange.modern, &exchange.message, None).await;
            let event = sse::event(Some(&last), &answer.body.to_string());
            let events = if twice {
                [&event[..], &event[..]].concat()
            } else {
                event.to_vec()
            };
            answered.send_replace(Some(String::from_utf8_lossy(&events).into_owned()));
        });
    }
    stream_of(Body::from(format!(
        "id: {event_id}\nretry: {retry_ms}\ndata: \n\n"
    )))
}
