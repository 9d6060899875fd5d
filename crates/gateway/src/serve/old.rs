//! Clients that know nothing but HTTP+SSE, the transport of 2024-11-05.
//!
//! GET opens the one stream of a session, whose first event says where to POST; a POST is answered with 202 and nothing
//! else, everything that there is to say comes on the stream. So the session is the stream: when it ends, the session
//! ends, and what it has in flight is cancelled. What the messages mean is what they mean to every legacy client
//! (`legacy`). No event has an id: there is nothing to resume.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, StatusCode};
use http_body::Body;
use mainstay_wire::{Kind, Message, Parts, codes, method};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::{self, Content, Reply, TextStream};
use super::caller::Caller;
use super::endpoint::Endpoint;
use super::fault::Fault;
use super::sessions::{Session, SessionId};
use super::{Shared, events, http as face, legacy, push};
use crate::policy::gate;

/// Texts that wait for a slow client. What makes them waits too, and with it the calls.
const WAITING_MAX: usize = 64;

/// Requests of one client that are worked on at the same time; more are turned away with 429.
const REQUESTS_MAX: usize = 256;

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<HashMap<SessionId, Arc<Line>>>);

/// One client's line.
#[derive(Debug)]
struct Line {
    /// Whoever opened it. It is nobody else's.
    caller: Arc<Caller>,
    endpoint: Endpoint,
    out: mpsc::Sender<Parts>,
    /// Set once, by `initialize`.
    session: watch::Sender<Option<Arc<Session>>>,
    requests: Arc<Semaphore>,
    ended: CancellationToken,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: SessionId) -> Option<Arc<Line>> {
        self.lock().get(&id).map(Arc::clone)
    }
}

/// Ends a session when its stream is gone.
struct Open {
    shared: Weak<Shared>,
    id: SessionId,
    line: Arc<Line>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        shared.old.lock().remove(&self.id);
        self.line.ended.cancel();
        if let Some(session) = self.line.session.borrow().as_ref() {
            shared.sessions.end(session.id);
        }
    }
}

/// Answers a request to a place where streams are opened.
pub(crate) fn open<B>(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    endpoint: Endpoint,
    request: &Request<B>,
) -> Reply {
    let headers = request.headers();
    // Newer clients POST here first, and take the refusal as a sign to open the stream.
    if *request.method() != Method::GET {
        return face::method_not_allowed("GET");
    }
    if !face::accepts(headers, "text/event-stream", "text/*") {
        return body::plain(
            StatusCode::NOT_ACCEPTABLE,
            "the client must accept text/event-stream",
        );
    }
    let busy = |what: &str| body::plain(StatusCode::SERVICE_UNAVAILABLE, what.to_owned());
    let Ok(permit) = Arc::clone(&shared.push_streams).try_acquire_owned() else {
        return busy("too many streams are open; close one first");
    };
    let Ok(id) = SessionId::random() else {
        return busy("the system gave no random bytes for a session id");
    };
    let (out, waiting) = mpsc::channel(WAITING_MAX);
    let line = Arc::new(Line {
        caller: Arc::clone(caller),
        endpoint,
        out,
        session: watch::Sender::default(),
        requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        ended: CancellationToken::new(),
    });
    match shared.old.lock().entry(id) {
        Entry::Occupied(_) => return busy("two sessions have the same id"),
        Entry::Vacant(free) => free.insert(Arc::clone(&line)),
    };
    let open = Open {
        shared: Arc::downgrade(shared),
        id,
        line,
        _permit: permit,
    };
    let first = Parts::from(format!(
        "event: endpoint\ndata: /messages?session_id={id}\n\n"
    ));
    let first = stream::once(std::future::ready(first));
    body::events(first.chain(spoken(shared, open, waiting)).boxed())
}

/// Everything that is said to a client after the first event.
fn spoken(shared: &Arc<Shared>, open: Open, waiting: mpsc::Receiver<Parts>) -> TextStream {
    struct State {
        shared: Arc<Shared>,
        session: watch::Receiver<Option<Arc<Session>>>,
        /// What comes without being asked for, once there is a session.
        push: Option<TextStream>,
        waiting: mpsc::Receiver<Parts>,
        open: Open,
    }

    async fn pushed(push: &mut Option<TextStream>) -> Parts {
        match push {
            Some(texts) => match texts.next().await {
                Some(text) => text,
                // It ends with the session or the gateway, which are looked at beside this.
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    async fn step(state: &mut State) -> Option<Parts> {
        let keep_alive = Duration::from_millis(state.shared.settings.keep_alive_ms);
        let silent_until = Instant::now() + keep_alive;
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: tokens hold nothing.
                () = state.shared.ending.cancelled() => return None,
                () = state.open.line.ended.cancelled() => return None,
                // Cancel-safe: it looks at a clock. Whoever is not identified any more hears nothing more (F212).
                () = state.open.line.caller.expired() => return None,
                // Cancel-safe: a channel keeps what was not received.
                text = state.waiting.recv() => return text,
                // Cancel-safe: a watch keeps what was not seen. It changes once.
                changed = state.session.changed(), if state.push.is_none() => {
                    changed.ok()?;
                    let session = state.session.borrow_and_update().clone();
                    state.push = session
                        .and_then(|session| session.open_stream())
                        .and_then(|open| {
                            let line = &state.open.line;
                            let who = open.session().viewer(&line.caller).into_owned();
                            push::session_stream(&state.shared, (line.endpoint.clone(), who), open)
                        });
                }
                // Cancel-safe: the stream stays where it is.
                text = pushed(&mut state.push) => return Some(text),
                // Cancel-safe: a sleep holds nothing.
                () = tokio::time::sleep_until(silent_until) => return Some(events::comment()),
            }
        }
    }

    let state = State {
        shared: Arc::clone(shared),
        session: open.line.session.subscribe(),
        push: None,
        waiting,
        open,
    };
    stream::unfold(state, |mut state| async move {
        let text = step(&mut state).await?;
        Some((text, state))
    })
    .boxed()
}

/// Answers a POST of a message.
pub(crate) async fn post<B>(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    request: Request<B>,
) -> Reply
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return face::method_not_allowed("POST");
    }
    let id = head.uri.query().and_then(session_id);
    let line = id.and_then(|id| shared.old.find(id));
    let is_open = |line: &Arc<Line>| {
        line.caller.is_same_as(caller) && gate::is_open(shared, caller, &line.endpoint)
    };
    let Some(line) = line.filter(is_open) else {
        return body::plain(
            StatusCode::NOT_FOUND,
            "no stream is open for this session; open one with GET first",
        );
    };
    if !face::is_json(&head.headers) {
        return body::plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/json",
        );
    }
    let limits = &shared.settings.limits;
    let pace = face::Pace::new(shared.settings.body_ms);
    let message = match face::read(body, limits.message_bytes_max, pace).await {
        Ok(text) => match Message::parse(text, limits) {
            Ok(message) => message,
            Err(refused) => return face::refusal(&refused),
        },
        Err(refused) => return refused,
    };
    match message.kind() {
        Kind::Request => {
            let Ok(permit) = Arc::clone(&line.requests).try_acquire_owned() else {
                return body::plain(
                    StatusCode::TOO_MANY_REQUESTS,
                    format!("{REQUESTS_MAX} requests of this client are worked on already"),
                );
            };
            work(shared, caller, line, message, permit);
        }
        Kind::Notification | Kind::Result | Kind::Error => {
            let session = line.session.borrow().clone();
            if let Some(session) = session {
                legacy::take_note(&line.endpoint, &session, message).await;
            }
        }
    }
    body::empty(StatusCode::ACCEPTED)
}

/// The session that a query names.
fn session_id(query: &str) -> Option<SessionId> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("session_id="))
        .and_then(|id| SessionId::parse(id.as_bytes()))
}

/// Works on a request beside the POST that brought it. Ends with the stream, with the gateway, or when it is done.
fn work(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    line: Arc<Line>,
    message: Message,
    permit: OwnedSemaphorePermit,
) {
    let (shared, caller) = (Arc::clone(shared), Arc::clone(caller));
    shared.tasks.clone().spawn(async move {
        let ended = line.ended.clone();
        let worked = async {
            match asked(&shared, &caller, &line, message).await {
                Content::Text(text) => drop(line.out.send(events::frame(text)).await),
                Content::Stream(mut texts) => {
                    while let Some(text) = texts.next().await {
                        if line.out.send(text).await.is_err() {
                            break;
                        }
                    }
                }
            }
        };
        tokio::select! {
            // Cancel-safe: nobody is left to whom the rest could be said. The session has cancelled its calls.
            () = worked => {}
            () = ended.cancelled() => {}
            () = shared.hurry.cancelled() => {}
        }
        drop(permit);
    });
}

async fn asked(
    shared: &Arc<Shared>,
    caller: &Arc<Caller>,
    line: &Line,
    message: Message,
) -> Content {
    let session = line.session.borrow().clone();
    let is_opening = message.method() == Some(method::INITIALIZE);
    let reply = match session {
        None if is_opening => {
            let (session, reply) = legacy::open(shared, caller, &line.endpoint, &message).await;
            if let Some(session) = session {
                session.replay.off();
                take(shared, line, session);
            }
            reply
        }
        None if message.method() == Some(method::PING) => legacy::pong(&message),
        None => return refused(&message, "call `initialize` first"),
        Some(_) if is_opening => return refused(&message, "this session is initialized already"),
        Some(session) => {
            // A message of the stream: what its POST said has been forgotten.
            let none = http::HeaderMap::new();
            let asked = (&session, caller);
            legacy::unwrapped(shared, &line.endpoint, asked, &none, message).await
        }
    };
    reply.into_body().into_content()
}

/// The stream has its session, unless it was opened twice at once or the stream has just ended.
fn take(shared: &Shared, line: &Line, session: Arc<Session>) {
    let id = session.id;
    let is_ours = line.session.send_if_modified(|there| {
        let is_free = there.is_none();
        if is_free {
            *there = Some(session);
        }
        is_free
    });
    if !is_ours || line.ended.is_cancelled() {
        shared.sessions.end(id);
    }
}

fn refused(message: &Message, why: &str) -> Content {
    let fault = Fault::new(codes::INVALID_REQUEST, format!("Bad Request: {why}"));
    Content::Text(fault.answer(message.id()))
}
