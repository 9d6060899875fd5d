//! JSON-RPC batches, which only clients that negotiated 2025-03-26 may send.
//!
//! A batch is taken apart and each member treated as if it had come alone, at the same time as the others. The answers go
//! out as one array, or on one event stream if a server has something to say before; a batch without requests has no
//! answer. For everybody else an array is what it always was: no message.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, SelectAll};
use futures_util::{FutureExt, StreamExt};
use http::{HeaderMap, StatusCode};
use mainstay_wire::envelope::{Refused, Why, split_batch};
use mainstay_wire::{Kind, Message, Parts, Revision, codes, method};

use super::body::{self, Content, Reply, TextStream};
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::fault::Fault;
use super::sessions::Session;
use super::{Shared, events, http as face, legacy};

/// Whether a body is an array, which no single message is.
pub(crate) fn is_array(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    text.trim_ascii_start().first() == Some(&b'[')
}

/// Answers one POST whose body is an array.
pub(crate) async fn post(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    text: Bytes,
) -> Reply {
    let limits = &shared.settings.limits;
    let session = match legacy::session_of(shared, caller, endpoint, headers) {
        Some(Ok(session)) if session.opening.revision == Revision::V2025_03_26 => session,
        Some(Err(lost)) => return lost,
        Some(Ok(_)) | None => {
            return match Message::parse(text, limits) {
                Err(refused) => face::refusal(&refused),
                // An array is never a message.
                Ok(_) => body::empty(StatusCode::BAD_REQUEST),
            };
        }
    };
    let members = match split_batch(text, limits) {
        Ok(members) => members,
        Err(refused) => return face::refusal(&refused),
    };
    let max = shared.settings.batch_messages_max;
    if members.len() > max {
        return face::refusal(&Refused {
            why: Why::NotAMessage("a batch of too many messages"),
            id: None,
            method: None,
            jsonrpc: true,
        });
    }
    answer(shared, (caller, endpoint), &session, members).await
}

/// What became of one member: its place, and its answer if it has one.
type Answered = (usize, Content);

async fn answer(
    shared: &Arc<Shared>,
    (caller, endpoint): (&Arc<Caller>, &Endpoint),
    session: &Arc<Session>,
    members: Vec<Bytes>,
) -> Reply {
    let mut done: Vec<Answered> = Vec::new();
    let running = FuturesUnordered::new();
    for (place, member) in members.into_iter().enumerate() {
        let message = match Message::parse(member, &shared.settings.limits) {
            Ok(message) => message,
            Err(refused) => {
                done.push((place, Content::Text(face::refusal_text(&refused))));
                continue;
            }
        };
        match message.kind() {
            Kind::Request if message.method() == Some(method::INITIALIZE) => {
                let fault = Fault::new(
                    codes::INVALID_REQUEST,
                    "`initialize` must not be part of a batch",
                );
                done.push((place, Content::Text(fault.answer(message.id()))));
            }
            Kind::Request => {
                let (shared, endpoint) = (Arc::clone(shared), endpoint.clone());
                let (session, caller) = (Arc::clone(session), Arc::clone(caller));
                running.push(
                    async move {
                        let none = http::HeaderMap::new();
                        let asked = (&session, &caller);
                        let reply =
                            legacy::unwrapped(&shared, &endpoint, asked, &none, message).await;
                        (place, reply.into_body().into_content())
                    }
                    .boxed(),
                );
            }
            Kind::Notification | Kind::Result | Kind::Error => {
                legacy::take_note(endpoint, session, message).await;
            }
        }
    }
    if done.is_empty() && running.is_empty() {
        return body::empty(StatusCode::ACCEPTED);
    }
    collect(session, done, running).await
}

/// Waits for all answers as long as they are plain, and makes a stream of what is left when one is not.
async fn collect(
    session: &Session,
    mut done: Vec<Answered>,
    mut running: FuturesUnordered<futures_util::future::BoxFuture<'static, Answered>>,
) -> Reply {
    while let Some((place, content)) = running.next().await {
        match content {
            Content::Text(_) => done.push((place, content)),
            Content::Stream(first) => {
                let mut all = SelectAll::new();
                all.push(first);
                let rest = running.flat_map_unordered(None, |(_, content)| said(content));
                all.push(rest.boxed());
                let before = stream::iter(done.into_iter().map(|(_, content)| content));
                let texts = before.flat_map(said).chain(all).boxed();
                return body::events(session.replay.wrap(None, texts));
            }
        }
    }
    done.sort_by_key(|(place, _)| *place);
    let mut array = Parts::new();
    for (number, (_, content)) in done.into_iter().enumerate() {
        array.push(Bytes::from_static(if number == 0 { b"[" } else { b"," }));
        if let Content::Text(text) = content {
            array.append(text);
        }
    }
    array.push(Bytes::from_static(b"]"));
    body::json(StatusCode::OK, array)
}

/// An answer as it is said on a stream.
fn said(content: Content) -> TextStream {
    match content {
        Content::Text(text) => stream::once(std::future::ready(events::frame(text))).boxed(),
        Content::Stream(texts) => texts,
    }
}
