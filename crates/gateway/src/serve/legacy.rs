//! Clients of the legacy era (2024-11-05 .. 2025-11-25): sessions, and what is asked inside them.
//!
//! Inside a session everything is answered under HTTP 200, errors included, because known clients give up the session on
//! anything else. Only what happens before a session is found has a status of its own: 400 without a session id, 404
//! with an unknown one.
//!
//! Not here yet, and answered honestly until then: subscriptions to single resources (`resources/subscribe` is "method not
//! found" and not declared), resuming a broken stream, batches.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use mainstay::ClientFace;
use mainstay_wire::views::{CallView, CancelledView, InitializeParams};
use mainstay_wire::{Era, Id, Kind, ListKind, Message, Parts, codes, headers, method, raw};

use super::Shared;
use super::adapt::{self, Recipient};
use super::body::{self, Reply};
use super::bridge::legacy::Client;
use super::call::{self, Caller};
use super::endpoint::Endpoint;
use super::fault::{Fault, LIMIT_REACHED};
use super::push::{self, Told};
use super::sessions::{Opening, Session, SessionId};

/// The protocol's log levels, least severe first.
const LOG_LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

/// Answers one POST of a legacy client.
pub(crate) async fn post(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    message: Message,
) -> Reply {
    let is_request = message.kind() == Kind::Request;
    if is_request && message.method() == Some(method::INITIALIZE) {
        return initialize(shared, endpoint, &message).await;
    }
    let session = match find(shared, endpoint, headers) {
        Ok(session) => session,
        Err(lost) => return lost.reply(message.id().filter(|_| is_request)),
    };
    match message.kind() {
        Kind::Request => request(shared, endpoint, &session, message).await,
        Kind::Notification => {
            notification(&session, &message);
            body::empty(StatusCode::ACCEPTED)
        }
        Kind::Result | Kind::Error => {
            // An answer that comes too late is nobody's (F114); the client can do nothing about it.
            session.asked.answer(message);
            body::empty(StatusCode::ACCEPTED)
        }
    }
}

/// Opens the push stream of a session.
pub(crate) fn get(shared: &Arc<Shared>, endpoint: &Endpoint, headers: &HeaderMap) -> Reply {
    let session = match find(shared, endpoint, headers) {
        Ok(session) => session,
        // Without a session there is nothing to push: clients take 405 as "no such stream" and go on without.
        Err(Lost::Missing) => return super::http::method_not_allowed("POST"),
        Err(Lost::Unknown) => return Lost::Unknown.reply(None),
    };
    let stream = session
        .open_stream()
        .and_then(|open| push::session_stream(shared, endpoint.clone(), open));
    match stream {
        Some(stream) => body::events(stream),
        None => {
            let fault = Fault::new(
                codes::INVALID_REQUEST,
                "Too many push streams are open; close one first",
            );
            body::json(StatusCode::CONFLICT, fault.answer(None))
        }
    }
}

/// Ends a session.
pub(crate) fn delete(shared: &Arc<Shared>, endpoint: &Endpoint, headers: &HeaderMap) -> Reply {
    match find(shared, endpoint, headers) {
        Ok(session) => {
            shared.sessions.close(session.id);
            body::empty(StatusCode::OK)
        }
        Err(Lost::Missing) => super::http::method_not_allowed("POST"),
        Err(Lost::Unknown) => Lost::Unknown.reply(None),
    }
}

/// Why a request belongs to no session.
enum Lost {
    Missing,
    Unknown,
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
        };
        body::json(status, Fault::new(codes::INVALID_REQUEST, text).answer(id))
    }
}

fn find(shared: &Shared, endpoint: &Endpoint, headers: &HeaderMap) -> Result<Arc<Session>, Lost> {
    let header = headers.get(headers::SESSION_ID).ok_or(Lost::Missing)?;
    let id = SessionId::parse(header.as_bytes()).ok_or(Lost::Unknown)?;
    let session = shared.sessions.find(id).ok_or(Lost::Unknown)?;
    // A session belongs to the endpoint that opened it.
    if session.opening.server.as_deref() == endpoint.server_name() {
        Ok(session)
    } else {
        Err(Lost::Unknown)
    }
}

async fn initialize(shared: &Arc<Shared>, endpoint: &Endpoint, message: &Message) -> Reply {
    let Some(id) = message.id() else {
        return body::empty(StatusCode::BAD_REQUEST);
    };
    let params = match InitializeParams::read(message.params().unwrap_or("{}")) {
        Ok(params) => params,
        Err(error) => return fault(id, &Fault::params(error.to_string())),
    };
    // What the client knows is what was published before it asked.
    let told = Told::now(shared, endpoint);
    let face = endpoint.face(shared, Era::Legacy).await;
    let opening = Opening {
        server: endpoint.server_name().map(Into::into),
        revision: params.negotiated(),
        client_info: params.client_info.map(|info| info.raw.into()),
        client_capabilities: message
            .member(&["params", "capabilities"])
            .filter(|capabilities| raw::is_object(capabilities))
            .unwrap_or("{}")
            .into(),
    };
    let revision = opening.revision;
    let session = match shared.sessions.open(opening, told) {
        Ok(session) => session,
        Err(error) => return fault(id, &Fault::new(LIMIT_REACHED, error.to_string())),
    };
    let instructions = face
        .instructions
        .map(|text| format!(",\"instructions\":{text}"))
        .unwrap_or_default();
    let result = format!(
        "{{\"protocolVersion\":\"{revision}\",\"capabilities\":{},\"serverInfo\":{}{instructions}}}",
        face.capabilities, face.info,
    );
    let mut reply = answer(id, &result);
    if let Ok(value) = HeaderValue::try_from(session.id.to_string()) {
        reply.headers_mut().insert(headers::SESSION_ID, value);
    }
    reply
}

fn notification(session: &Session, message: &Message) {
    // `initialized` needs no action; roots are not passed on to servers; unknown ones belong to nobody.
    if message.method() == Some(method::CANCELLED) {
        match CancelledView::of(message) {
            // Whether there still is such a call is a race that the client knows about.
            Ok(cancelled) => _ = session.cancel(&cancelled.request_id),
            Err(error) => tracing::debug!(%error, "a cancel notice that names no request"),
        }
    }
}

async fn request(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    session: &Arc<Session>,
    message: Message,
) -> Reply {
    let Some(id) = message.id().cloned() else {
        return body::empty(StatusCode::BAD_REQUEST);
    };
    let name = message.method().unwrap_or_default();
    if let Some(kind) = ListKind::of_method(name) {
        return list(shared, endpoint, session, kind, &id, &message).await;
    }
    match name {
        method::PING => answer(&id, "{}"),
        method::SET_LEVEL => set_level(session, &id, &message),
        method::SUBSCRIBE | method::UNSUBSCRIBE | method::LISTEN | method::DISCOVER => {
            fault(&id, &Fault::no_method(name))
        }
        _ => pass_on(shared, endpoint, session, id, message).await,
    }
}

async fn list(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    session: &Session,
    kind: ListKind,
    id: &Id,
    message: &Message,
) -> Reply {
    if let Some(wrong) = super::cursor_fault(message) {
        return fault(id, &wrong);
    }
    // Taken first: what changes while the items are read is told afterwards.
    let told = Told::now(shared, endpoint);
    match endpoint.list(shared, kind).await {
        Ok(items) => {
            session.listed(kind, &told);
            let to = Recipient {
                era: Era::Legacy,
                id,
                method: kind.method(),
                info: "",
            };
            body::json(StatusCode::OK, adapt::listing(kind.key(), items, to))
        }
        Err(wrong) => fault(id, &wrong),
    }
}

fn set_level(session: &Session, id: &Id, message: &Message) -> Reply {
    let level = message.string_member(&["params", "level"]);
    let known = level.and_then(|level| LOG_LEVELS.iter().position(|known| *known == level));
    match known.and_then(|level| u8::try_from(level).ok()) {
        Some(level) => {
            session.set_log_level(level);
            answer(id, "{}")
        }
        None => fault(
            id,
            &Fault::params(format!(
                "`params.level` must be one of {}",
                LOG_LEVELS.join(", ")
            )),
        ),
    }
}

async fn pass_on(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    session: &Arc<Session>,
    id: Id,
    message: Message,
) -> Reply {
    let progress_token = CallView::of(&message).progress_token.map(Into::into);
    let method = message.method().unwrap_or_default().into();
    if let Err(wrong) = endpoint.listed(shared, &message).await {
        return fault(&id, &wrong);
    }
    let routed = match endpoint.route(shared, message) {
        Ok(routed) => routed,
        Err(wrong) => return fault(&id, &wrong),
    };
    let face = ClientFace {
        capabilities: session.opening.client_capabilities.clone(),
        info: session.opening.client_info.clone(),
        client: Some(session.id.to_string().into()),
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
        info: String::new(),
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
