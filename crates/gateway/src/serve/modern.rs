//! Clients of the modern era (2026-07-28): every request stands for itself.
//!
//! Requests pass a ladder of checks in a fixed order, the first failure wins; what it says about HTTP statuses is the
//! specification's. A disconnect cancels the call.
//!
//! What a server asks of a client in the course of a call, and everything else that is said meanwhile, is `bridge`'s business.

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use mainstay::catalog::CacheHint;
use mainstay_wire::views::{CallView, ListenFilter};
use mainstay_wire::{
    Era, Id, Kind, ListKind, Message, Parts, Revision, codes, headers, meta, method, raw,
};
use serde_json::json;

use super::Shared;
use super::adapt::Recipient;
use super::body::{self, Reply};
use super::bridge;
use super::call::{self, Caller};
use super::caller::Caller as Who;
use super::discovery::{self, Met};
use super::endpoint::Endpoint;
use super::endpoint::others::Issuer;
use super::fault::{Fault, LIMIT_REACHED, shown};
use super::pages;
use super::push::{self, Resources, Wanted};
use super::subscriptions::{SUBSCRIPTIONS_MAX, Terms};
use super::view::{Viewer, face_of};
use super::whence;
use crate::policy::gate;

/// Answers one POST of a modern client.
pub(crate) async fn post(
    shared: &Arc<Shared>,
    caller: &Arc<Who>,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    message: Message,
) -> Reply {
    match message.kind() {
        Kind::Request => {}
        Kind::Notification => return notification(headers),
        Kind::Result | Kind::Error => {
            let wrong = Fault::new(
                codes::INVALID_REQUEST,
                "a client of this revision sends no responses",
            );
            return fault(None, &wrong);
        }
    }
    let Some(id) = message.id().cloned() else {
        return body::empty(StatusCode::BAD_REQUEST);
    };
    let who = Viewer::of_request(caller, &message);
    if let Err(wrong) = check(shared, (endpoint, &who), headers, &message) {
        return fault(Some(&id), &wrong);
    }
    let name = message.method().unwrap_or_default();
    if let Some(kind) = ListKind::of_method(name) {
        return list(shared, (endpoint, &who), kind, &id, &message).await;
    }
    match name {
        method::DISCOVER => discover(shared, (endpoint, &who), &id).await,
        method::LISTEN => listen(shared, (endpoint, who), id, &message).await,
        removed if method::REMOVED_IN_MODERN.contains(&removed) => {
            fault(Some(&id), &Fault::no_method(removed))
        }
        _ => pass_on(shared, (endpoint, &who), headers, id, message).await,
    }
}

/// Notifications mean nothing here: a call is cancelled by closing its stream.
fn notification(headers: &HeaderMap) -> Reply {
    let served = headers
        .get(headers::PROTOCOL_VERSION)
        .is_none_or(|version| version.to_str().ok().and_then(Revision::parse).is_some());
    if served {
        return body::empty(StatusCode::ACCEPTED);
    }
    let requested = headers
        .get(headers::PROTOCOL_VERSION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    fault(None, &unsupported(requested))
}

/// The ladder. The order is part of the protocol's behaviour: a header mismatch is judged before the version itself.
fn check(
    shared: &Shared,
    at: (&Endpoint, &Viewer),
    headers: &HeaderMap,
    message: &Message,
) -> Result<(), Fault> {
    for name in [headers::PROTOCOL_VERSION, headers::METHOD, headers::NAME] {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(mismatch(format!("{name} was sent twice")));
        }
    }
    let version = message.member(&meta::in_params(meta::PROTOCOL_VERSION));
    let version = version.ok_or_else(|| missing_meta(meta::PROTOCOL_VERSION))?;
    match message.member(&meta::in_params(meta::CLIENT_CAPABILITIES)) {
        None => return Err(missing_meta(meta::CLIENT_CAPABILITIES)),
        Some(capabilities) if !raw::is_object(capabilities) => {
            return Err(Fault::params(format!(
                "`params._meta[\"{}\"]` must be an object",
                meta::CLIENT_CAPABILITIES
            )));
        }
        Some(_) => {}
    }
    check_version(headers, version)?;
    check_names(headers, message)?;
    let plain = raw::string(version);
    let plain = plain.ok_or_else(|| {
        Fault::params(format!(
            "`params._meta[\"{}\"]` must be a string",
            meta::PROTOCOL_VERSION
        ))
    })?;
    if Revision::parse(&plain).is_none_or(|revision| revision.era() != Era::Modern) {
        return Err(unsupported(&plain));
    }
    check_params(shared, at, headers, message)
}

fn check_version(headers: &HeaderMap, version: &str) -> Result<(), Fault> {
    let header = headers
        .get(headers::PROTOCOL_VERSION)
        .ok_or_else(|| mismatch("MCP-Protocol-Version is missing"))?;
    // A version that is no string is judged one step later; here it can equal no header.
    match raw::string(version) {
        Some(version) if header.as_bytes() != version.as_bytes() => Err(mismatch(format!(
            "MCP-Protocol-Version header value '{}' does not match body value '{}'",
            shown(&String::from_utf8_lossy(header.as_bytes())),
            shown(&version),
        ))),
        Some(_) | None => Ok(()),
    }
}

fn check_names(headers: &HeaderMap, message: &Message) -> Result<(), Fault> {
    let name = message.method().unwrap_or_default();
    let header = headers
        .get(headers::METHOD)
        .ok_or_else(|| mismatch("Mcp-Method is missing"))?;
    if header.as_bytes() != name.as_bytes() {
        let header = String::from_utf8_lossy(header.as_bytes());
        return Err(mismatch(format!(
            "Mcp-Method header value '{}' does not match body value '{}'",
            shown(&header),
            shown(name)
        )));
    }
    // Compared only if the body has the value: its absence is a matter of the parameters, not of the headers.
    let Some(expected) = headers::name_path(name).and_then(|path| message.string_member(path))
    else {
        return Ok(());
    };
    let header = headers
        .get(headers::NAME)
        .ok_or_else(|| mismatch("Mcp-Name is missing"))?;
    let decoded = header.to_str().ok().and_then(headers::decode_value);
    if decoded.as_deref() == Some(&*expected) {
        return Ok(());
    }
    let header = String::from_utf8_lossy(header.as_bytes());
    Err(mismatch(format!(
        "Mcp-Name header value '{}' does not match body value '{}'",
        shown(&header),
        shown(&expected)
    )))
}

/// Compares the headers that a tool's schema asks for with the arguments. A schema that is illegal itself checks nothing.
fn check_params(
    shared: &Shared,
    (endpoint, who): (&Endpoint, &Viewer),
    headers: &HeaderMap,
    message: &Message,
) -> Result<(), Fault> {
    if message.method() != Some(method::TOOLS_CALL) {
        return Ok(());
    }
    let Some(tool) = message
        .string_member(&["params", "name"])
        .and_then(|name| endpoint.tool(shared, who, &name))
    else {
        return Ok(());
    };
    let Ok(text) = std::str::from_utf8(&tool) else {
        return Ok(());
    };
    let annotated =
        raw::member(text, &["inputSchema"]).and_then(|schema| headers::param_headers(schema).ok());
    for param in annotated.unwrap_or_default() {
        let mut values = headers.get_all(&param.header).iter();
        let value = values.next().map(|value| value.to_str().unwrap_or("\u{0}"));
        if values.next().is_some() {
            return Err(mismatch(format!("{} was sent twice", param.header)));
        }
        param
            .check(value, message.member(&["params", "arguments"]))
            .map_err(|problem| mismatch(problem.to_string()))?;
    }
    Ok(())
}

fn mismatch(what: impl std::fmt::Display) -> Fault {
    Fault::new(codes::HEADER_MISMATCH, format!("Header mismatch: {what}"))
}

fn missing_meta(key: &str) -> Fault {
    Fault::params(format!(
        "`params._meta[\"{key}\"]` is missing; every request of this revision carries it"
    ))
}

/// `data.supported` names modern revisions only: those are the ones that can be had without a handshake.
fn unsupported(requested: &str) -> Fault {
    let legacy: Vec<&str> = Revision::ALL
        .into_iter()
        .filter(|revision| revision.era() == Era::Legacy)
        .map(Revision::as_str)
        .collect();
    let text = format!(
        "Unsupported protocol version (with `initialize` also: {})",
        legacy.join(", ")
    );
    Fault::new(codes::UNSUPPORTED_PROTOCOL_VERSION, text).with(
        json!({ "supported": [Revision::LATEST_MODERN.as_str()], "requested": shown(requested) }),
    )
}

async fn discover(shared: &Arc<Shared>, (endpoint, who): (&Endpoint, &Viewer), id: &Id) -> Reply {
    let face = endpoint.face(shared, who, Era::Modern).await;
    let instructions = face
        .instructions
        .map(|text| format!("\"instructions\":{text},"))
        .unwrap_or_default();
    let result = format!(
        "{{\"supportedVersions\":[\"{}\"],\"capabilities\":{},{instructions}{}}}",
        Revision::LATEST_MODERN,
        face.capabilities,
        pages::modern_tail(CacheHint::NONE, &face.info),
    );
    body::json(
        StatusCode::OK,
        Parts::from(format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}"
        )),
    )
}

async fn list(
    shared: &Arc<Shared>,
    (endpoint, who): (&Endpoint, &Viewer),
    kind: ListKind,
    id: &Id,
    message: &Message,
) -> Reply {
    let cursor = match pages::cursor(message) {
        Ok(cursor) => cursor,
        Err(wrong) => return fault(Some(id), &wrong),
    };
    let what = (kind, Era::Modern);
    endpoint.ready(shared, who).await;
    match endpoint.list(shared, who, what, cursor.as_deref()).await {
        Ok(page) => {
            let info = endpoint.info(shared);
            let to = Recipient {
                era: Era::Modern,
                id,
                method: kind.method(),
                info: &info,
            };
            body::json(StatusCode::OK, pages::render(kind.key(), page, to))
        }
        Err(wrong) => fault(Some(id), &wrong),
    }
}

async fn listen(
    shared: &Arc<Shared>,
    (endpoint, who): (&Endpoint, Viewer),
    id: Id,
    message: &Message,
) -> Reply {
    let filter = match ListenFilter::of(message) {
        Ok(filter) => filter,
        Err(error) => return fault(Some(&id), &Fault::params(error.to_string())),
    };
    // Acknowledged is what will be kept: what no server takes on is left out.
    let resources = resources(shared, endpoint, &who, filter.uris).await;
    let wanted = Wanted {
        tools: filter.tools && endpoint.offers(shared, "tools"),
        prompts: filter.prompts && endpoint.offers(shared, "prompts"),
        resources: filter.resources && endpoint.offers(shared, "resources"),
    };
    let listener = (endpoint.clone(), who);
    match push::listen_stream(shared, listener, id.clone(), wanted, resources) {
        Some(stream) => body::events(stream),
        None => fault(
            Some(&id),
            &Fault::new(LIMIT_REACHED, "too many streams are open at this Mainstay"),
        ),
    }
}

async fn resources(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    who: &Viewer,
    uris: Vec<String>,
) -> Resources {
    let mut resources = Resources::default();
    if uris.is_empty() {
        return resources;
    }
    let mut seen = HashSet::new();
    let asked: Vec<&str> = uris
        .iter()
        .map(String::as_str)
        .filter(|uri| seen.insert(*uri))
        .take(SUBSCRIPTIONS_MAX)
        .collect();
    let words = resources
        .subscriber
        .add(shared, endpoint, &asked, &Terms::Promise(who.clone()))
        .await;
    for (uri, word) in asked.iter().zip(words) {
        match word {
            Ok(()) => resources.uris.push((*uri).to_owned()),
            Err(why) => tracing::debug!(why = why.message, "a subscription is not honoured"),
        }
    }
    resources
}

async fn pass_on(
    shared: &Arc<Shared>,
    (endpoint, who): (&Endpoint, &Viewer),
    headers: &HeaderMap,
    id: Id,
    message: Message,
) -> Reply {
    let message = match discovery::meet(shared, endpoint, (who, Era::Modern), message) {
        Ok(Met::Goes(message)) => message,
        Ok(Met::Answered(result)) => {
            let answer = Message::result_of(&id, &result);
            return body::json(StatusCode::OK, Parts::from(answer));
        }
        Err(wrong) => return fault(Some(&id), &wrong),
    };
    let view = CallView::of(&message);
    let progress_token = view.progress_token.map(Into::into);
    let face = face_of(who.caller(), &message);
    let origin = whence::origin(
        endpoint,
        who.caller(),
        face.info.as_deref(),
        &message,
        headers,
    );
    let method = message.method().unwrap_or_default().into();
    if let Err(wrong) = endpoint.listed(shared, who, &message).await {
        return fault(Some(&id), &modern_code(wrong));
    }
    let asked = bridge::modern::Request::of(shared, message.clone(), endpoint.place());
    let asked = match asked {
        Ok(asked) => asked,
        Err(wrong) => return fault(Some(&id), &wrong),
    };
    let routed = match endpoint.route(shared, who, message) {
        Ok(routed) => routed,
        Err(wrong) => {
            gate::missed(shared, (endpoint, who), &asked.message, &origin);
            return fault(Some(&id), &modern_code(wrong));
        }
    };
    // A state of ours is held against this request before anything is sent (`bridge::modern`).
    let at = (endpoint, who);
    let pass = match gate::admit(
        shared,
        at,
        &routed,
        &asked.message,
        (&origin, asked.is_ours),
    ) {
        Ok(pass) => pass,
        Err(wrong) => return fault(Some(&id), &modern_code(wrong)),
    };
    // A result names the server that gave it, which on the aggregate is not Mainstay.
    let info = Endpoint::Server(routed.server.clone()).info(shared);
    let caller = Caller {
        id,
        method,
        progress_token,
        face,
        origin,
        info,
        issuer: Issuer::of(shared, endpoint, who, &routed),
        who: Arc::clone(who.caller()),
        pass,
    };
    call::of_modern(shared, routed, caller, asked).await
}

/// Errors of ours that have another code in this era.
fn modern_code(mut fault: Fault) -> Fault {
    if fault.code == codes::RESOURCE_NOT_FOUND {
        fault.code = codes::INVALID_PARAMS;
    }
    fault
}

fn fault(id: Option<&Id>, fault: &Fault) -> Reply {
    body::json(
        call::status(Era::Modern, Some(fault.code)),
        fault.answer(id),
    )
}
