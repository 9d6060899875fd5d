//! HTTP requests of the fake authorization server: which endpoint, which planned fault.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Request, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::ledger::{Outcome, TokenRequest};
use super::script::{At, Fault};
use super::state::{State, unix_ms};
use super::token::{self, Form, Refusal};
use super::{authorize, client, register};

/// The biggest request body that is read.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// An answer before it is written.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            headers: vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("cache-control".to_owned(), "no-store".to_owned()),
            ],
            body: body.to_string().into(),
        }
    }

    pub(super) fn text(status: u16, kind: &str, body: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            body: body.to_owned().into(),
        }
    }

    pub(super) fn refusal(refusal: &Refusal) -> Self {
        let body = json!({"error": refusal.error, "error_description": refusal.description});
        Self::json(refusal.status, &body)
    }

    pub(super) fn redirect(status: u16, to: &str) -> Self {
        Self {
            status,
            headers: vec![("location".to_owned(), to.to_owned())],
            body: Bytes::new(),
        }
    }

    pub(super) fn into_response(self) -> io::Result<Response<Body>> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        response
            .body(Body::from(self.body))
            .map_err(io::Error::other)
    }
}

/// Serves one request. `Err` closes the connection without an answer.
pub(super) async fn serve(state: Arc<State>, request: Request<Body>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(io::Error::other)?;
    let Some(at) = place(&state, head.uri.path()) else {
        return Reply::text(404, "text/plain", "nothing here").into_response();
    };
    let fault = state.script().take(at);
    count(&state, at);
    let _under_way = (at == At::Token).then(|| UnderWay::of(&state, &body));
    let work = || work(&state, at, &head, &body, fault.as_ref());
    let reply = match under(fault.as_ref(), &state, work).await {
        Ok(reply) => reply,
        Err(()) => return Err(io::Error::other("a planned end of the connection")),
    };
    reply.into_response()
}

/// A refresh request on its way, counted by its family.
struct UnderWay<'s>(&'s State, Option<u64>);

impl<'s> UnderWay<'s> {
    fn of(state: &'s State, body: &[u8]) -> Self {
        let form = form(body);
        let mut books = state.books();
        let family = form.get("refresh_token");
        let Some(family) = family.and_then(|token| books.family_of(token)) else {
            return Self(state, None);
        };
        family.under_way += 1;
        let (id, now) = (family.id, family.under_way);
        drop(books);
        state.ledger.count(|counts| {
            counts.refreshes_at_once = counts.refreshes_at_once.max(now);
        });
        Self(state, Some(id))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut books = self.0.books();
        if let Some(family) = self.1.and_then(|family| books.families.get_mut(&family)) {
            family.under_way = family.under_way.saturating_sub(1);
        }
    }
}

/// Does the work under a fault. `Err` closes the connection.
pub(super) async fn under(
    fault: Option<&Fault>,
    state: &State,
    work: impl FnOnce() -> Reply,
) -> Result<Reply, ()> {
    match fault {
        None => Ok(work()),
        Some(Fault::Slow { ms }) => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            Ok(work())
        }
        Some(Fault::SlowAnswer { ms }) => {
            let reply = work();
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            Ok(reply)
        }
        Some(Fault::HeldAnswer) => {
            let released = state.released.notified();
            let reply = work();
            released.await;
            Ok(reply)
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Close | Fault::CloseAfter) => {
            let _: Reply = work();
            Err(())
        }
        Some(
            Fault::Status { .. }
            | Fault::Html
            | Fault::Redirect { .. }
            | Fault::Without(_)
            | Fault::With(..)
            | Fault::Cut(_),
        ) => Ok(altered(work(), fault)),
    }
}

/// The answer in place of the right one, if the fault does nothing of the work.
pub(super) fn instead(fault: Option<&Fault>) -> Option<Reply> {
    match fault? {
        Fault::Status {
            status,
            headers,
            body,
        } => {
            let mut reply = Reply::text(*status, "application/json", body);
            for (name, value) in headers {
                reply.headers.retain(|(known, _)| known != name);
                reply.headers.push((name.clone(), value.clone()));
            }
            Some(reply)
        }
        Fault::Html => Some(Reply::text(
            200,
            "text/html",
            "<!doctype html><title>Sign in</title><p>Please sign in to the network.",
        )),
        Fault::Redirect { status, to } => Some(Reply::redirect(*status, to)),
        Fault::Close => Some(Reply::text(500, "text/plain", "closed")),
        Fault::Slow { .. }
        | Fault::SlowAnswer { .. }
        | Fault::HeldAnswer
        | Fault::Hang
        | Fault::CloseAfter
        | Fault::Without(_)
        | Fault::With(..)
        | Fault::Cut(_) => None,
    }
}

fn altered(mut reply: Reply, fault: Option<&Fault>) -> Reply {
    let change = |reply: &mut Reply, change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        if let Ok(Value::Object(mut body)) = serde_json::from_slice(&reply.body) {
            change(&mut body);
            reply.body = Value::Object(body).to_string().into();
        }
    };
    match fault {
        Some(Fault::Without(names)) => change(&mut reply, &|body| {
            names.iter().for_each(|name| {
                body.remove(name);
            });
        }),
        Some(Fault::With(name, value)) => change(&mut reply, &|body| {
            body.insert(name.clone(), value.clone());
        }),
        Some(Fault::Cut(bytes)) => reply.body.truncate(*bytes),
        Some(
            Fault::Slow { .. }
            | Fault::SlowAnswer { .. }
            | Fault::HeldAnswer
            | Fault::Hang
            | Fault::Status { .. }
            | Fault::Html
            | Fault::Close
            | Fault::CloseAfter
            | Fault::Redirect { .. },
        )
        | None => {}
    }
    reply
}

fn place(state: &State, path: &str) -> Option<At> {
    let behind = |known: &str| path == known || path == format!("{known}{}", state.path());
    let script = state.script();
    if behind("/.well-known/oauth-authorization-server") {
        return script.oauth_metadata.then_some(At::Metadata);
    }
    if behind("/.well-known/openid-configuration")
        || path == format!("{}/.well-known/openid-configuration", state.path())
    {
        return script.openid_metadata.then_some(At::Metadata);
    }
    match path {
        "/register" => Some(At::Register),
        "/authorize" => Some(At::Authorize),
        "/token" => Some(At::Token),
        "/device_authorization" => Some(At::Device),
        "/jwks" => Some(At::Jwks),
        "/revoke" => Some(At::Revoke),
        _ => None,
    }
}

fn count(state: &State, at: At) {
    state.ledger.count(|counts| match at {
        At::Metadata => counts.metadata += 1,
        At::Jwks => counts.jwks += 1,
        At::Authorize => counts.authorizations += 1,
        At::Token => counts.token_requests += 1,
        At::Register | At::Device | At::Revoke | At::ResourceMetadata => {}
    });
}

fn work(state: &State, at: At, head: &Parts, body: &Bytes, fault: Option<&Fault>) -> Reply {
    if at == At::Token {
        return token_request(state, head, body, fault);
    }
    if let Some(reply) = instead(fault) {
        return reply;
    }
    match at {
        At::Metadata => Reply::json(200, &register::metadata(state)),
        At::Jwks => Reply::json(200, &state.keys().jwks()),
        At::Register => register::register(state, body),
        At::Authorize => authorize::page(state, head.uri.query().unwrap_or_default()),
        At::Device => authorize::device(state, &form(body)),
        At::Revoke => revoke(state, &form(body)),
        At::Token | At::ResourceMetadata => Reply::text(404, "text/plain", "nothing here"),
    }
}

pub(super) fn form(body: &[u8]) -> Form {
    url::form_urlencoded::parse(body).into_owned().collect()
}

fn token_request(state: &State, head: &Parts, body: &Bytes, fault: Option<&Fault>) -> Reply {
    let form = form(body);
    let grant_type = form.get("grant_type").cloned().unwrap_or_default();
    let headers = headers(head);
    let is_refresh = grant_type == "refresh_token";
    if is_refresh {
        state.ledger.count(|counts| counts.refresh_requests += 1);
    }
    let instead = instead(fault);
    let (reply, outcome) = if let Some(reply) = instead {
        (reply, Outcome::Fault)
    } else {
        let _turn = state.turn();
        let authorization = headers.get("authorization").map(String::as_str);
        let served = client::identify(state, authorization, &form)
            .and_then(|client| token::serve(state, &form, &client));
        match served {
            Ok((body, outcome)) => (Reply::json(200, &body), outcome),
            Err(refusal) => (
                Reply::refusal(&refusal),
                Outcome::Refused(refusal.error.to_owned()),
            ),
        }
    };
    state.ledger.record(TokenRequest {
        at_unix_ms: unix_ms(),
        client_id: form.get("client_id").cloned().unwrap_or_default(),
        grant_type,
        headers,
        form,
        outcome,
        answer_lost: matches!(
            fault,
            Some(Fault::CloseAfter | Fault::HeldAnswer | Fault::SlowAnswer { .. } | Fault::Cut(_))
        ),
    });
    reply
}

pub(super) fn headers(head: &Parts) -> std::collections::BTreeMap<String, String> {
    let text =
        |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    head.headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

fn revoke(state: &State, form: &Form) -> Reply {
    let token = form.get("token").cloned().unwrap_or_default();
    let mut books = state.books();
    let family = books.family_of(&token).map(|family| family.id);
    let lived = family.is_some_and(|family| books.revoke(family));
    drop(books);
    state
        .ledger
        .count(|counts| counts.revocations += u64::from(lived));
    Reply::text(200, "text/plain", "")
}
