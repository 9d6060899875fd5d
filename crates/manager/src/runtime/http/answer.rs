//! Turns the response to one POST into the answer to one request.
//!
//! Answers belong to their exchange first and to their id second (F34): whatever a server writes into the id of an error,
//! it came on the exchange of that request.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::envelope::{Kind, Message, Refused, Why, split_batch};
use mainstay_wire::id::Id;

use super::HttpLink;
use super::body::{self, CollectFault, InBody, Payload};
use super::face::Face;
use super::stream::{Events, Position, Said};
use super::verdict::{self, Asked, Verdict};
use crate::runtime::{Cut, Inbound, Miss, Origin};

/// How often a broken response stream is resumed without anything new having come (F121).
const RESUMES_MAX: u32 = 5;

/// The pause before a resume, if the server names none, and the bounds of what it may name (F127).
const RESUME_MS: u64 = 1_000;
const RESUME_MS_MIN: u64 = 50;
const RESUME_MS_MAX: u64 = 60_000;

/// How a body is framed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Json,
    Events,
    /// Something else, in the server's words.
    Other(String),
}

/// What the headers say about the body.
pub(super) fn framing(headers: &HeaderMap) -> Framing {
    let coded = headers
        .get(CONTENT_ENCODING)
        .and_then(|coding| coding.to_str().ok())
        .filter(|coding| *coding != "identity");
    if let Some(coding) = coded {
        return Framing::Other(format!(
            "content encoding {coding:?}, which was not asked for"
        ));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Framing::Json;
    };
    let value = value.to_str().unwrap_or_default();
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Framing::Json,
        "text/event-stream" => Framing::Events,
        other if other.ends_with("+json") => Framing::Json,
        other => Framing::Other(format!("content type {other:?}")),
    }
}

/// Reads the answer from a response, and hands everything else on its stream to `inbound`.
pub(super) async fn read(
    link: &HttpLink,
    face: &Face,
    asked: &Asked,
    response: Response<InBody>,
    inbound: &dyn Inbound,
) -> Result<Message, Miss> {
    let answered = match read_first(link, face, asked, response, inbound).await? {
        Read::Later(message) => return Ok(message),
        Read::First(message) => message,
    };
    // A lost session in disguise (F91) is the first thing that is said on an exchange; after anything else the request
    // was obviously running.
    if answered.kind() == Kind::Error
        && verdict::may_be_lost_session(&answered, asked)
        && link.session_is_gone(face).await
    {
        let detail = verdict::error_words(&answered);
        return Err(Miss::Rejected(
            Failure::new(FailureKind::SessionLost).with_detail(detail),
        ));
    }
    Ok(answered)
}

/// An answer, and whether it was the first message on its exchange.
enum Read {
    First(Message),
    Later(Message),
}

/// What a response that is no success means for its request.
async fn refusal(
    link: &HttpLink,
    face: &Face,
    asked: &Asked,
    head: &Parts,
    said: Bytes,
) -> Result<Read, Miss> {
    let judge = |asked: &Asked| {
        let said = said.clone();
        verdict::judge(&link.target, head.status, &head.headers, said, asked)
    };
    let verdict = match judge(asked) {
        Verdict::Suspected(failure) if link.session_is_gone(face).await => {
            Verdict::Rejected(failure)
        }
        // The session answers: whatever the words are about, it is not gone.
        Verdict::Suspected(_) => judge(&Asked {
            session: false,
            ..*asked
        }),
        verdict @ (Verdict::Answer(_)
        | Verdict::Rejected(_)
        | Verdict::Doubted(_)
        | Verdict::Lost(_)) => verdict,
    };
    match verdict {
        Verdict::Answer(error) => Ok(Read::Later(error)),
        Verdict::Rejected(failure) => Err(Miss::Rejected(failure)),
        Verdict::Doubted(failure) => Err(Miss::Doubted(failure)),
        Verdict::Suspected(failure) | Verdict::Lost(failure) => {
            Err(Miss::Lost(Cut::Ended(failure)))
        }
    }
}

async fn read_first(
    link: &HttpLink,
    face: &Face,
    asked: &Asked,
    response: Response<InBody>,
    inbound: &dyn Inbound,
) -> Result<Read, Miss> {
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        let said = body::collect_some(body).await;
        return Box::pin(refusal(link, face, asked, &head, said)).await;
    }
    if matches!(head.status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
        link.drain(body);
        let detail = format!(
            "HTTP {} without an answer to a request",
            head.status.as_u16()
        );
        return Err(lost(
            Failure::new(FailureKind::ProtocolError).with_detail(detail),
        ));
    }
    match framing(&head.headers) {
        Framing::Json => {
            let collected = body::collect(&mut body, asked.limits.message_bytes_max).await;
            from_json(collected, asked, inbound).map(Read::First)
        }
        // Boxed: its state is several times that of a plain answer, and would be moved about with every call.
        Framing::Events => Box::pin(from_events(link, face, asked, body, inbound)).await,
        Framing::Other(what) => {
            let said = verdict::preview(&link.target, &body::collect_some(body).await);
            let detail = format!("{} answers with {what}: {said}", link.target.place());
            Err(lost(
                Failure::new(FailureKind::NotMcp).with_detail(super::client::bounded(&detail)),
            ))
        }
    }
}

fn lost(failure: Failure) -> Miss {
    Miss::Lost(Cut::Ended(failure))
}

fn refused(refused: &Refused) -> Miss {
    Miss::Lost(Cut::AnswerRefused(refused.to_string().into()))
}

fn from_json(
    collected: Result<Bytes, CollectFault>,
    asked: &Asked,
    inbound: &dyn Inbound,
) -> Result<Message, Miss> {
    let text = match collected {
        Ok(text) => text,
        Err(CollectFault::Broken(failure)) => return Err(lost(failure)),
        Err(CollectFault::TooLong) => {
            let why = format!(
                "the answer exceeds the limit of {} bytes",
                asked.limits.message_bytes_max
            );
            return Err(Miss::Lost(Cut::AnswerRefused(why.into())));
        }
    };
    match Message::parse(text.clone(), &asked.limits) {
        Ok(message) => alone(message, asked),
        Err(Refused {
            why: Why::Batch, ..
        }) => from_batch(text, asked, inbound),
        Err(fault) => Err(refused(&fault)),
    }
}

/// The only message of an exchange.
fn alone(message: Message, asked: &Asked) -> Result<Message, Miss> {
    match message.kind() {
        Kind::Error => Ok(message),
        Kind::Result if is_ours(message.id(), asked) => Ok(message),
        Kind::Result => {
            let id = message.id().map(Id::raw).unwrap_or("null").to_owned();
            Err(Miss::Lost(Cut::AnswerRefused(
                format!("the answer belongs to another request (id {id})").into(),
            )))
        }
        Kind::Request | Kind::Notification => {
            let why = "the body is a request or notification where an answer is expected";
            Err(Miss::Lost(Cut::AnswerRefused(why.into())))
        }
    }
}

/// Servers of 2025-03-26 may answer with a batch.
fn from_batch(text: Bytes, asked: &Asked, inbound: &dyn Inbound) -> Result<Message, Miss> {
    let messages = split_batch(text, &asked.limits).map_err(|fault| refused(&fault))?;
    let mut answer = None;
    for text in messages {
        let message = Message::parse(text, &asked.limits).map_err(|fault| refused(&fault))?;
        match sort(message, asked) {
            Sorted::Answer(message) => answer = Some(message),
            Sorted::Other(message) => inbound.receive(message, Origin::Exchange(asked.id)),
            Sorted::Foreign(message) => {
                inbound.skipped("answer to another request", &sample(&message))
            }
        }
    }
    match answer {
        Some(answer) => Ok(answer),
        None => Err(lost(
            Failure::new(FailureKind::ProtocolError).with_detail("a batch without the answer"),
        )),
    }
}

/// Whom a message on the stream of an exchange concerns.
enum Sorted {
    Answer(Message),
    Other(Message),
    Foreign(Message),
}

fn sort(message: Message, asked: &Asked) -> Sorted {
    match message.kind() {
        Kind::Request | Kind::Notification => Sorted::Other(message),
        Kind::Result if is_ours(message.id(), asked) => Sorted::Answer(message),
        Kind::Result => Sorted::Foreign(message),
        // `null`, no id, or words such as "server-error": nobody else can be meant (F34).
        Kind::Error
            if message.id().is_none_or(|id| id.as_u64().is_none())
                || is_ours(message.id(), asked) =>
        {
            Sorted::Answer(message)
        }
        Kind::Error => Sorted::Foreign(message),
    }
}

fn is_ours(id: Option<&Id>, asked: &Asked) -> bool {
    id.and_then(Id::as_u64)
        .is_some_and(|id| Some(id) == asked.id)
}

fn sample(message: &Message) -> String {
    message.as_str().chars().take(120).collect()
}

/// Reads a response stream until the answer. A stream that breaks is resumed if it numbered its events (F120), and
/// otherwise the request is lost at once (F87).
async fn from_events(
    link: &HttpLink,
    face: &Face,
    asked: &Asked,
    body: InBody,
    inbound: &dyn Inbound,
) -> Result<Read, Miss> {
    let mut position = Position::default();
    let mut events = Events::new(body, asked.limits);
    let mut fruitless = 0;
    let mut first = true;
    loop {
        match events.next(&mut position).await {
            Said::Message(message) => {
                fruitless = 0;
                match sort(message, asked) {
                    Sorted::Answer(message) => {
                        finish(link, events);
                        let read = if first { Read::First } else { Read::Later };
                        return Ok(read(message));
                    }
                    Sorted::Other(message) => inbound.receive(message, Origin::Exchange(asked.id)),
                    Sorted::Foreign(message) => {
                        inbound.skipped("answer to another request", &sample(&message))
                    }
                }
                first = false;
            }
            // A notification that cannot be read is only noise; anything else on this stream is the answer (F125).
            Said::Refused(fault) if fault.method.is_some() => {
                inbound.skipped("refused message", &fault.to_string())
            }
            Said::Refused(fault) | Said::Runaway(fault) => return Err(refused(&fault)),
            Said::Life => inbound.life(),
            Said::Skipped(what) => inbound.skipped(what, ""),
            Said::End(failure) => {
                let failure = failure.unwrap_or_else(|| {
                    Failure::new(FailureKind::StreamClosed)
                        .with_detail("the response stream ended before the answer")
                });
                fruitless += 1;
                if fruitless > RESUMES_MAX || face.is_modern() {
                    return Err(lost(failure));
                }
                match resume(link, face, asked, &mut position).await {
                    Resumed::Stream(body) => events = Events::new(body, asked.limits),
                    Resumed::NotYet => {}
                    Resumed::Impossible => return Err(lost(failure)),
                    // The request was sent in the session that is gone now: it may have run.
                    Resumed::SessionLost(failure) => return Err(lost(failure)),
                }
            }
        }
    }
}

/// Leaves a stream whose answer has come, so that its connection can be used again.
fn finish(link: &HttpLink, events: Events) {
    let mut body = events.into_body();
    // Usually the end has come together with the answer.
    if !matches!(body.chunk().now_or_never(), Some(None)) {
        link.drain(body);
    }
}

/// What became of an attempt to resume a stream.
enum Resumed {
    Stream(InBody),
    /// The server was not there, or was not ready.
    NotYet,
    Impossible,
    SessionLost(Failure),
}

/// Waits as long as the server wishes and asks for the rest of a stream.
async fn resume(link: &HttpLink, face: &Face, asked: &Asked, position: &mut Position) -> Resumed {
    let Some(last_id) = position.last_id.clone() else {
        return Resumed::Impossible;
    };
    let pause_ms = position
        .retry_ms
        .unwrap_or(RESUME_MS)
        .clamp(RESUME_MS_MIN, RESUME_MS_MAX);
    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    position.reconnected();
    let headers = || face.for_get(Some(&last_id));
    let Ok(response) = link
        .send(&link.streams, Method::GET, headers, &Payload::Empty, None)
        .await
    else {
        return Resumed::NotYet;
    };
    let (head, body) = response.into_parts();
    if head.status == StatusCode::OK && framing(&head.headers) == Framing::Events {
        return Resumed::Stream(body);
    }
    if head.status.is_server_error() {
        link.drain(body);
        return Resumed::NotYet;
    }
    let said = body::collect_some(body).await;
    match verdict::judge(&link.target, head.status, &head.headers, said, asked) {
        Verdict::Rejected(failure) | Verdict::Doubted(failure)
            if failure.kind == FailureKind::SessionLost =>
        {
            Resumed::SessionLost(failure)
        }
        Verdict::Answer(_)
        | Verdict::Rejected(_)
        | Verdict::Doubted(_)
        | Verdict::Suspected(_)
        | Verdict::Lost(_) => Resumed::Impossible,
    }
}
