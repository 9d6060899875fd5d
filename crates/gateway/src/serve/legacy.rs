//! Clients of the legacy era (2024-11-05 .. 2025-11-25): sessions, and what is asked inside them.
//!
//! Inside a session everything is answered under HTTP 200, errors included, because known clients give up the session on
//! anything else. Only what happens before a session is found has a status of its own: 400 without a session id, 404
//! with an unknown one.
//!
//! What a server asks of a client in the course of a call, and everything else that is said meanwhile, is `bridge`'s business.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode};
use mainstay::{ClientFace, ServerHandle};
use mainstay_wire::views::{CallView, CancelledView, InitializeParams};
use mainstay_wire::{Era, Id, Kind, ListKind, Message, Parts, codes, headers, method};

use super::Shared;
use super::adapt::Recipient;
use super::body::{self, Reply, TextStream};
use super::bridge::legacy::Client;
use super::call::{self, Caller};
use super::caller::Caller as Who;
use super::discovery::{self, Met};
use super::endpoint::Endpoint;
use super::endpoint::others::Issuer;
use super::fault::{Fault, LIMIT_REACHED};
use super::levels;
use super::pages;
use super::push::{self, Told};
use super::replay::Resume;
use super::sessions::{At, NoSession, Opening, Session};
use super::subscriptions;
use super::view::Viewer;
use super::whence;
use crate::policy::gate;

/// How long a client's notification may take on its way to the server.
const TELL: Duration = Duration::from_secs(2);

/// Answers one POST of a legacy client.
pub(crate) async fn post(
    shared: &Arc<Shared>,
    caller: &Arc<Who>,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    message: Message,
) -> Reply {
    let is_request = message.kind() == Kind::Request;
    if is_request && message.method() == Some(method::INITIALIZE) {
        return open(shared, caller, endpoint, &message).await.1;
    }
    let session = match find(shared, caller, endpoint, headers) {
        Ok(session) => session,
        Err(lost) => return lost.reply(message.id().filter(|_| is_request)),
    };
    match message.kind() {
        Kind::Request => request(shared, endpoint, (&session, caller), headers, message).await,
        Kind::Notification | Kind::Result | Kind::Error => {
            take_note(endpoint, &session, message).await;
            body::empty(StatusCode::ACCEPTED)
        }
    }
}

/// Takes a message of a client that has no answer.
pub(crate) async fn take_note(endpoint: &Endpoint, session: &Session, message: Message) {
    match message.kind() {
        Kind::Notification => notification(endpoint, session, message).await,
        // An answer that comes too late is nobody's (F114); the client can do nothing about it.
        Kind::Result | Kind::Error => {
            session.asked.answer(message);
        }
        Kind::Request => {}
    }
}

/// The session that the headers name, if they name one; why it is not to be had as a finished answer.
pub(crate) fn session_of(
    shared: &Arc<Shared>,
    caller: &Arc<Who>,
    endpoint: &Endpoint,
    headers: &HeaderMap,
) -> Option<Result<Arc<Session>, Reply>> {
    match find(shared, caller, endpoint, headers) {
        Ok(session) => Some(Ok(session)),
        Err(Lost::Missing) => None,
        Err(lost @ (Lost::Unknown | Lost::NoRoom(_))) => Some(Err(lost.reply(None))),
    }
}

/// Opens the push stream of a session, or the stream that a client has lost and names by its last event.
pub(crate) fn get(
    shared: &Arc<Shared>,
    caller: &Arc<Who>,
    endpoint: &Endpoint,
    headers: &HeaderMap,
) -> Reply {
    let session = match find(shared, caller, endpoint, headers) {
        Ok(session) => session,
        // Without a session there is nothing to push: clients take 405 as "no such stream" and go on without.
        Err(Lost::Missing) => return super::http::method_not_allowed("POST"),
        Err(lost @ (Lost::Unknown | Lost::NoRoom(_))) => return lost.reply(None),
    };
    let last = headers
        .get(headers::LAST_EVENT_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| !id.is_empty());
    let from = match last.and_then(|last| session.replay.resume(last)) {
        Some(Resume::Call(stream)) => return resumed(shared, stream),
        Some(Resume::Push(from)) => Some(from),
        None => None,
    };
    let who = session.viewer(caller).into_owned();
    let stream = session
        .open_stream()
        .and_then(|open| push::session_stream(shared, (endpoint.clone(), who), open));
    match stream {
        Some(stream) => body::events(session.replay.push(stream, from)),
        None => too_many_streams(),
    }
}

/// The stream of a call that its client lost. It counts as a stream of the gateway like any other.
fn resumed(shared: &Shared, stream: TextStream) -> Reply {
    let Ok(permit) = Arc::clone(&shared.push_streams).try_acquire_owned() else {
        return too_many_streams();
    };
    let stream = stream.map(move |text| {
        let _counted = &permit;
        text
    });
    body::events(stream.boxed())
}

fn too_many_streams() -> Reply {
    let fault = Fault::new(
        codes::INVALID_REQUEST,
        "Too many push streams are open; close one first",
    );
    body::json(StatusCode::CONFLICT, fault.answer(None))
}

/// Ends a session.
pub(crate) fn delete(
    shared: &Arc<Shared>,
    caller: &Arc<Who>,
    endpoint: &Endpoint,
    headers: &HeaderMap,
) -> Reply {
    match find(shared, caller, endpoint, headers) {
        Ok(session) => {
            shared.sessions.close(session.id);
            body::empty(StatusCode::OK)
        }
        Err(Lost::Missing) => super::http::method_not_allowed("POST"),
        Err(lost @ (Lost::Unknown | Lost::NoRoom(_))) => lost.reply(None),
    }
}

/// Why a request belongs to no session.
enum Lost {
    Missing,
    Unknown,
    /// There was one before a restart, and now there are too many others.
    NoRoom(NoSession),
}

impl Lost {
    fn reply(&self, id: Option<&Id>) -> Reply {
        let (status, text) = match self {
            Self::Missing => (
                StatusCode::BAD_REQUEST,
                "Bad Request: Missing session ID; call `initialize` first",
            ),
            Self::Unknown => (
                StatusCode::NOT_FOUND,
                "Session not found; call `initialize` again",
            ),
            Self::NoRoom(error) => {
                // A request is answered like any other that fails: clients die of a status.
                let status = match id {
                    Some(_) => StatusCode::OK,
                    None => StatusCode::SERVICE_UNAVAILABLE,
                };
                let fault = Fault::new(LIMIT_REACHED, error.to_string());
                return body::json(status, fault.answer(id));
            }
        };
        body::json(status, Fault::new(codes::INVALID_REQUEST, text).answer(id))
    }
}

fn find(
    shared: &Arc<Shared>,
    caller: &Arc<Who>,
    endpoint: &Endpoint,
    headers: &HeaderMap,
) -> Result<Arc<Session>, Lost> {
    let header = headers.get(headers::SESSION_ID).ok_or(Lost::Missing)?;
    let at = At {
        server: endpoint.place(),
        principal: caller.principal.as_ref(),
    };
    let found = shared.sessions.find(header.as_bytes(), at);
    let session = found.map_err(Lost::NoRoom)?.ok_or(Lost::Unknown)?;
    subscriptions::revive(shared, caller, endpoint, &session);
    Ok(session)
}

/// Opens a session and answers `initialize`. Without a session the answer says why.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    caller: &Arc<Who>,
    endpoint: &Endpoint,
    message: &Message,
) -> (Option<Arc<Session>>, Reply) {
    let Some(id) = message.id() else {
        return (None, body::empty(StatusCode::BAD_REQUEST));
    };
    let params = match InitializeParams::read(message.params().unwrap_or("{}")) {
        Ok(params) => params,
        Err(error) => return (None, fault(id, &Fault::params(error.to_string()))),
    };
    let face = ClientFace {
        capabilities: (&*params.capabilities).into(),
        era: Some(Era::Legacy),
        ..ClientFace::default()
    };
    // What the client knows is what was published before it asked.
    let who = Viewer::of(caller, face);
    let told = Told::now(shared, endpoint, &who);
    let face = endpoint.face(shared, &who, Era::Legacy).await;
    let opening = Opening {
        server: endpoint.place().map(Into::into),
        principal: caller.principal.clone(),
        revision: params.negotiated(),
        client_info: params.client_info.map(|info| info.raw.into()),
        client_capabilities: params.capabilities.into(),
    };
    let revision = opening.revision;
    let session = match shared.sessions.open(opening, told) {
        Ok(session) => session,
        Err(error) => {
            let wrong = Fault::new(LIMIT_REACHED, error.to_string());
            return (None, fault(id, &wrong));
        }
    };
    // It will list in a moment.
    endpoint.look(shared, &session.viewer(caller));
    let instructions = face
        .instructions
        .map(|text| format!(",\"instructions\":{text}"))
        .unwrap_or_default();
    let result = format!(
        "{{\"protocolVersion\":\"{revision}\",\"capabilities\":{},\"serverInfo\":{}{instructions}}}",
        face.capabilities,
        super::greet::info_for(&face.info, revision),
    );
    let mut reply = answer(id, &result);
    if let Ok(value) = HeaderValue::from_str(session.text()) {
        reply.headers_mut().insert(headers::SESSION_ID, value);
    }
    (Some(session), reply)
}

/// Answers a ping.
pub(crate) fn pong(message: &Message) -> Reply {
    match message.id() {
        Some(id) => answer(id, "{}"),
        None => body::empty(StatusCode::BAD_REQUEST),
    }
}

async fn notification(endpoint: &Endpoint, session: &Session, message: Message) {
    match message.method() {
        Some(method::CANCELLED) => match CancelledView::of(&message) {
            // Whether there still is such a call is a race that the client knows about.
            Ok(cancelled) => _ = session.cancel(&cancelled.request_id),
            Err(error) => tracing::debug!(%error, "a cancel notice that names no request"),
        },
        // The greeting of the server was ours, and progress is of our requests.
        Some(method::INITIALIZED | method::PROGRESS) | None => {}
        Some(name) => {
            let to_its_own = name == method::ROOTS_LIST_CHANGED;
            // On the aggregate it belongs to nobody in particular.
            if let Endpoint::Server(server) = endpoint {
                tell(server, session, message, to_its_own).await;
            }
        }
    }
}

/// Passes a notification on to a server. Best effort, like every notification. One that is about the client itself goes
/// only to a connection that is this client's own: the others are asked again with the next call.
async fn tell(server: &ServerHandle, session: &Session, message: Message, to_its_own: bool) {
    let telling = async {
        let is_apart = server.is_per_user() && session.opening.principal.is_some();
        if server.is_per_client() || is_apart {
            if let Ok(own) = server.for_client(&session.face()).await {
                own.notify(message).await;
            }
        } else if !to_its_own {
            server.notify(message).await;
        }
    };
    if tokio::time::timeout(TELL, telling).await.is_err() {
        tracing::debug!(
            server = server.name(),
            "a client's notification was not passed on in time"
        );
    }
}

async fn request(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    (session, caller): (&Arc<Session>, &Arc<Who>),
    headers: &HeaderMap,
    message: Message,
) -> Reply {
    let id = message.id().cloned();
    let reply = unwrapped(shared, endpoint, (session, caller), headers, message).await;
    // An answer that is a stream can be resumed; one that is not was never begun when its client left.
    reply.map(|body| body.wrap_stream(|texts| session.replay.wrap(id.as_ref(), texts)))
}

/// Answers a request inside a session. An answer that is a stream cannot be resumed yet. `headers` are those of the HTTP
/// request if it was about this message alone.
pub(crate) async fn unwrapped(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    (session, caller): (&Arc<Session>, &Arc<Who>),
    headers: &HeaderMap,
    message: Message,
) -> Reply {
    let Some(id) = message.id().cloned() else {
        return body::empty(StatusCode::BAD_REQUEST);
    };
    let name = message.method().unwrap_or_default();
    let who = session.viewer(caller);
    if let Some(kind) = ListKind::of_method(name) {
        return list(shared, endpoint, (session, &who), kind, &id, &message).await;
    }
    match name {
        method::PING => answer(&id, "{}"),
        method::SET_LEVEL => match levels::set(shared, session, &message).await {
            Ok(()) => answer(&id, "{}"),
            Err(wrong) => fault(&id, &wrong),
        },
        method::SUBSCRIBE => subscribe(shared, endpoint, (session, &who), &id, &message).await,
        method::UNSUBSCRIBE => unsubscribe(session, &id, &message),
        method::LISTEN | method::DISCOVER => fault(&id, &Fault::no_method(name)),
        _ => pass_on(shared, endpoint, (session, &who), headers, id, message).await,
    }
}

async fn list(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    (session, who): (&Session, &Viewer),
    kind: ListKind,
    id: &Id,
    message: &Message,
) -> Reply {
    let cursor = match pages::cursor(message) {
        Ok(cursor) => cursor,
        Err(wrong) => return fault(id, &wrong),
    };
    endpoint.ready(shared, who).await;
    // Taken first: what changes while the items are read is told afterwards.
    let told = Told::now(shared, endpoint, who);
    let what = (kind, Era::Legacy);
    match endpoint.list(shared, who, what, cursor.as_deref()).await {
        Ok(page) => {
            session.listed(kind, &told);
            let to = Recipient {
                era: Era::Legacy,
                id,
                method: kind.method(),
                info: "",
            };
            body::json(StatusCode::OK, pages::render(kind.key(), page, to))
        }
        Err(wrong) => fault(id, &wrong),
    }
}

async fn subscribe(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    (session, who): (&Session, &Viewer),
    id: &Id,
    message: &Message,
) -> Reply {
    let Some(uri) = message.string_member(&["params", "uri"]) else {
        return fault(id, &Fault::params("`params.uri` must be a string"));
    };
    let mut words = session
        .subscriber
        .add(shared, endpoint, &[&uri], &session.terms(who))
        .await;
    if let Some(Err(wrong)) = words.pop() {
        return fault(id, &wrong);
    }
    match session.subscribe(&uri) {
        Ok(_is_new) => answer(id, "{}"),
        Err(error) => {
            session.subscriber.remove(&uri);
            fault(id, &Fault::new(LIMIT_REACHED, error.to_string()))
        }
    }
}

/// Who is not subscribed is unsubscribed already.
fn unsubscribe(session: &Session, id: &Id, message: &Message) -> Reply {
    match message.string_member(&["params", "uri"]) {
        Some(uri) => {
            session.unsubscribe(&uri);
            session.subscriber.remove(&uri);
            answer(id, "{}")
        }
        None => fault(id, &Fault::params("`params.uri` must be a string")),
    }
}

async fn pass_on(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    (session, who): (&Arc<Session>, &Viewer),
    headers: &HeaderMap,
    id: Id,
    message: Message,
) -> Reply {
    let message = match discovery::meet(shared, endpoint, (who, Era::Legacy), message) {
        Ok(Met::Goes(message)) => message,
        Ok(Met::Answered(result)) => return answer(&id, &result),
        Err(wrong) => return fault(&id, &wrong),
    };
    let progress_token = CallView::of(&message).progress_token.map(Into::into);
    let method = message.method().unwrap_or_default().into();
    let info = session.opening.client_info.as_deref();
    let origin = whence::origin(endpoint, who.caller(), info, &message, headers);
    if let Err(wrong) = endpoint.listed(shared, who, &message).await {
        return fault(&id, &wrong);
    }
    // Shares the bytes.
    let asked = message.clone();
    let routed = match endpoint.route(shared, who, message) {
        Ok(routed) => routed,
        Err(wrong) => {
            gate::missed(shared, (endpoint, who), &asked, &origin);
            return fault(&id, &wrong);
        }
    };
    let pass = match gate::admit(shared, (endpoint, who), &routed, &asked, (&origin, false)) {
        Ok(pass) => pass,
        Err(wrong) => return fault(&id, &wrong),
    };
    let face = ClientFace {
        subject: who.caller().subject.clone(),
        ..session.face()
    };
    let client = Client {
        session: Arc::clone(session),
        in_flight: session.begin(&id),
    };
    let caller = Caller {
        id,
        method,
        progress_token,
        face,
        origin,
        info: String::new(),
        issuer: Issuer::of(shared, endpoint, who, &routed),
        who: Arc::clone(who.caller()),
        // What a modern server wants back stays here.
        carrier: None,
        pass,
    };
    call::of_session(shared, routed, caller, client).await
}

fn answer(id: &Id, result: &str) -> Reply {
    body::json(
        StatusCode::OK,
        Parts::from(format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}"
        )),
    )
}

fn fault(id: &Id, fault: &Fault) -> Reply {
    body::json(StatusCode::OK, fault.answer(Some(id)))
}
