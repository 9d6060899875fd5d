//! One HTTP request to an MCP endpoint: what is refused below the level of messages, and which era it belongs to.
//!
//! Reads the body under its limits and hands one parsed message on. What the message means is for the eras' modules.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use mainstay_wire::envelope::{Refused, Why};
use mainstay_wire::views::CallView;
use mainstay_wire::{Era, Message, Parts, Revision, codes, headers, recover_id};
use tokio::time::Instant;

use super::body::{self, Reply};
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::fault::Fault;
use super::{Shared, batch, legacy, local, modern};

/// A body must come at this rate at least, once it has had its first time.
const BODY_BYTES_PER_MS: usize = 16;

/// How much of an over-long body is read and thrown away, as a multiple of the limit, so that its sender gets an answer
/// instead of a broken connection.
const DISCARD_FACTOR: usize = 4;

/// The beginning of an over-long message that is kept to find its id.
const PREFIX_BYTES_MAX: usize = 4_096;

/// Answers one request to an MCP endpoint. Dropping the future is a disconnect.
pub(crate) async fn handle<B>(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    endpoint: Endpoint,
    request: Request<B>,
) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (mut head, body) = request.into_parts();
    let headers = &head.headers;
    match head.method {
        Method::POST => {}
        Method::GET | Method::DELETE if claims_modern(headers) => {
            return method_not_allowed("POST");
        }
        Method::GET if !accepts(headers, "text/event-stream", "text/*") => {
            let fault = Fault::new(
                codes::INVALID_REQUEST,
                "Not Acceptable: the client must accept text/event-stream",
            );
            return body::json(StatusCode::NOT_ACCEPTABLE, fault.answer(None));
        }
        Method::GET => {
            let reply = legacy::get(shared, caller, &endpoint, headers);
            return match shared.recorder.get() {
                None => reply,
                Some(recorder) => recorder
                    .exchange(endpoint.place(), headers, Era::Legacy)
                    .answered(reply),
            };
        }
        Method::DELETE => return legacy::delete(shared, caller, &endpoint, headers),
        _ => return method_not_allowed("GET, POST, DELETE"),
    }
    if !(accepts(headers, "application/json", "application/*")
        && accepts(headers, "text/event-stream", "text/*"))
    {
        return not_acceptable(headers);
    }
    if !is_json(headers) {
        let fault = Fault::new(
            codes::INVALID_REQUEST,
            "Content-Type must be application/json",
        );
        return body::json(StatusCode::UNSUPPORTED_MEDIA_TYPE, fault.answer(None));
    }
    let pace = Pace::new(shared.settings.body_ms);
    let message = match read(body, shared.settings.limits.message_bytes_max, pace).await {
        Ok(text) if batch::is_array(&text) && !claims_modern(headers) => {
            let exchange = shared.recorder.get().map(|recorder| {
                let exchange = recorder.exchange(endpoint.place(), headers, Era::Legacy);
                exchange.came(text.clone());
                exchange
            });
            let reply = batch::post(shared, caller, &endpoint, headers, text).await;
            return match exchange {
                None => reply,
                Some(exchange) => exchange.answered(reply),
            };
        }
        Ok(text) => match Message::parse(text, &shared.settings.limits) {
            Ok(message) => message,
            Err(refused) => return refusal(&refused),
        },
        Err(fault) => return fault,
    };
    local::complete(shared, caller, &endpoint, &mut head, &message);
    let headers = &head.headers;
    let era = era(headers, &message);
    let exchange = shared.recorder.get().map(|recorder| {
        let exchange = recorder.exchange(endpoint.place(), headers, era);
        exchange.came(&message);
        exchange
    });
    let reply = match era {
        Era::Modern => modern::post(shared, caller, &endpoint, headers, message).await,
        Era::Legacy => legacy::post(shared, caller, &endpoint, headers, message).await,
    };
    match exchange {
        None => reply,
        Some(exchange) => exchange.answered(reply),
    }
}

/// Which era a message belongs to: a version header that is not a legacy one makes it modern, and so does modern
/// metadata without a session. `initialize` without a modern header is legacy.
fn era(headers: &HeaderMap, message: &Message) -> Era {
    if claims_modern(headers) {
        return Era::Modern;
    }
    if headers.contains_key(headers::SESSION_ID) || !CallView::is_modern(message) {
        Era::Legacy
    } else {
        Era::Modern
    }
}

fn claims_modern(headers: &HeaderMap) -> bool {
    headers
        .get(headers::PROTOCOL_VERSION)
        .is_some_and(|version| {
            let known = version.to_str().ok().and_then(Revision::parse);
            known.is_none_or(|revision| revision.era() == Era::Modern)
        })
}

/// Whether `Accept` admits a type, directly or by wildcard. No `Accept` at all admits everything.
pub(crate) fn accepts(headers: &HeaderMap, full: &str, family: &str) -> bool {
    let mut lines = headers.get_all(ACCEPT).iter().peekable();
    if lines.peek().is_none() {
        return true;
    }
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|range| {
            let range = range.split(';').next().unwrap_or_default().trim();
            range == "*/*" || range.eq_ignore_ascii_case(full) || range.eq_ignore_ascii_case(family)
        })
}

fn not_acceptable(headers: &HeaderMap) -> Reply {
    if claims_modern(headers) {
        return body::empty(StatusCode::NOT_ACCEPTABLE);
    }
    let text = "Not Acceptable: the client must accept both application/json and text/event-stream";
    body::json(
        StatusCode::NOT_ACCEPTABLE,
        Fault::new(codes::INVALID_REQUEST, text).answer(None),
    )
}

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let essence = value
        .to_str()
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// How fast a body must come: a stall ends it, and so does a trickle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    began: Instant,
    stall: Duration,
}

impl Pace {
    /// A body that begins now, and may stall for so long.
    pub(crate) fn new(body_ms: u64) -> Self {
        Self {
            began: Instant::now(),
            stall: Duration::from_millis(body_ms),
        }
    }

    /// When the next piece must be here, after `total` bytes.
    fn until(&self, total: usize) -> Instant {
        let earned_ms = u64::try_from(total / BODY_BYTES_PER_MS).unwrap_or(u64::MAX);
        let as_a_whole = self.began + self.stall + Duration::from_millis(earned_ms);
        as_a_whole.min(Instant::now() + self.stall)
    }
}

/// The whole body, without a copy if it came in one piece.
pub(crate) async fn read<B>(mut body: B, bytes_max: usize, pace: Pace) -> Result<Bytes, Reply>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let announced = usize::try_from(body.size_hint().exact().unwrap_or(0)).unwrap_or(usize::MAX);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut total: usize = 0;
    loop {
        let frame = match tokio::time::timeout_at(pace.until(total), body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(body::plain(
                    StatusCode::BAD_REQUEST,
                    format!("the body broke off: {error}"),
                ));
            }
            Err(_stalled) => {
                let mut late = body::plain(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body did not arrive in time",
                );
                // What is left of it must not be taken for the next request.
                late.headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                return Err(late);
            }
        };
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        total = total.saturating_add(chunk.len());
        if total > bytes_max {
            if first.is_empty() && all.is_empty() {
                first = chunk;
            }
            let prefix = if all.is_empty() { first } else { all.freeze() };
            return Err(too_long(body, &prefix, total, bytes_max, pace).await);
        }
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            if all.is_empty() {
                all.reserve(announced.clamp(total, bytes_max));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Answers a message beyond the limit: to the call that it is, if its beginning says which (law 30).
async fn too_long<B>(
    mut body: B,
    prefix: &Bytes,
    mut total: usize,
    bytes_max: usize,
    pace: Pace,
) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
{
    let discard_max = bytes_max.saturating_mul(DISCARD_FACTOR);
    while total <= discard_max {
        match tokio::time::timeout_at(pace.until(total), body.frame()).await {
            Ok(Some(Ok(frame))) => {
                total = total.saturating_add(frame.data_ref().map_or(0, Bytes::len))
            }
            Ok(Some(Err(_)) | None) | Err(_) => break,
        }
    }
    let id = recover_id(prefix.get(..PREFIX_BYTES_MAX).unwrap_or(prefix));
    let text = format!(
        "message exceeds the limit of {bytes_max} bytes (setting `mainstay.limits.messageBytes`)"
    );
    body::json(
        StatusCode::PAYLOAD_TOO_LARGE,
        Fault::new(codes::INVALID_REQUEST, text).answer(id.as_ref()),
    )
}

/// Answers a body that is no acceptable message.
pub(crate) fn refusal(refused: &Refused) -> Reply {
    let status = match refused.why {
        Why::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Why::NotJson { .. }
        | Why::TooDeep { .. }
        | Why::NotAMessage(_)
        | Why::DuplicateKey(_)
        | Why::Batch => StatusCode::BAD_REQUEST,
    };
    body::json(status, refusal_text(refused))
}

/// The error that says so.
pub(crate) fn refusal_text(refused: &Refused) -> Parts {
    let code = match refused.why {
        Why::NotJson { .. } => codes::PARSE_ERROR,
        Why::TooLong { .. }
        | Why::TooDeep { .. }
        | Why::NotAMessage(_)
        | Why::DuplicateKey(_)
        | Why::Batch => codes::INVALID_REQUEST,
    };
    Fault::new(code, refused.why.to_string()).answer(refused.id.as_ref())
}

/// 405 with the methods that would do.
pub(crate) fn method_not_allowed(allow: &'static str) -> Reply {
    let mut reply = body::empty(StatusCode::METHOD_NOT_ALLOWED);
    reply
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    reply
}
