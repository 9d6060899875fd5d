//! A fake MCP server that wants tokens of a fake authorization server, and says so as the specification wants it said.
//!
//! Behind the guard stands the ordinary [`HttpServer`](crate::http_server::HttpServer) with all that it can do.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Authority;
use super::http::{Reply, under};
use super::script::{Guard, MetadataAt};
use super::serving::Serving;
use super::state::State;
use crate::http_server::{HttpServer, Script, serve_request};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What the guard saw.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entries {
    /// Requests that were let in, by the subject of their token.
    pub admitted: BTreeMap<String, u64>,
    /// Requests that were refused, by why: `no token`, `expired`, `revoked`, `audience`, `scope`, and the like.
    pub refused: BTreeMap<String, u64>,
    /// Requests for the metadata.
    pub metadata: u64,
    /// Every token that came, and how often.
    pub tokens: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Shared {
    authority: Arc<State>,
    /// The MCP endpoint.
    url: String,
    origin: String,
    guard: Mutex<Guard>,
    entries: Mutex<Entries>,
    server: HttpServer,
}

/// A protected MCP server. Dropping it ends every connection.
#[derive(Debug)]
pub struct Protected {
    shared: Arc<Shared>,
    serving: Serving,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Protected {
    /// Starts one on a free loopback port that trusts this authorization server.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(authority: &Authority, guard: Guard, script: Script) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(address).await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            authority: Arc::clone(authority.state()),
            url: format!("{origin}/mcp"),
            origin,
            guard: Mutex::new(guard),
            entries: Mutex::default(),
            server: HttpServer::start(script).await?,
        });
        let serving = Serving::start(listener, {
            let shared = Arc::clone(&shared);
            move |request| serve(Arc::clone(&shared), request)
        })?;
        Ok(Self { shared, serving })
    }

    /// The MCP endpoint, which is the resource that tokens must be for.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.url.clone()
    }

    /// The address of the event stream of the HTTP+SSE transport of 2024-11-05. Tokens are for [`url`](Self::url).
    #[must_use]
    pub fn sse_url(&self) -> String {
        format!("{}/sse", self.shared.origin)
    }

    /// The server behind the guard: its ledger, its script. Its own address is not guarded.
    #[must_use]
    pub fn server(&self) -> &HttpServer {
        &self.shared.server
    }

    /// What the guard saw.
    #[must_use]
    pub fn entries(&self) -> Entries {
        locked(&self.shared.entries).clone()
    }

    /// Whether a request with this `Authorization` and this body would be let in now: as whom, or why not.
    ///
    /// # Errors
    /// Why not: `audience`, `scope`, `expired`, `revoked` and the like.
    pub fn admits(&self, authorization: &str, body: &str) -> Result<String, &'static str> {
        let body = Bytes::from(body.to_owned());
        let admitted = admit(&self.shared, Some(authorization), &body);
        admitted.map_err(|closed| closed.why)
    }

    /// Changes the guard; applies from the next request on.
    pub fn change(&self, change: impl FnOnce(&mut Guard)) {
        change(&mut locked(&self.shared.guard));
    }

    /// Stops listening and cuts every connection.
    pub async fn stop(&mut self) {
        self.serving.stop().await;
        self.shared.server.forget_sessions();
        self.shared.server.end_streams();
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// When the port was taken by somebody else meanwhile.
    pub async fn start_again(&mut self) -> io::Result<()> {
        self.serving.start_again().await
    }
}

/// Why a request is not let in.
struct Closed {
    status: u16,
    error: Option<&'static str>,
    why: &'static str,
    scopes: Vec<String>,
}

async fn serve(shared: Arc<Shared>, request: Request<Body>) -> io::Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    if path.starts_with("/.well-known/") {
        return metadata(&shared, &path).await;
    }
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 32 * 1024 * 1024)
        .await
        .map_err(io::Error::other)?;
    let header = head.headers.get("authorization");
    let header = header.and_then(|value| value.to_str().ok());
    match admit(&shared, header, &body) {
        Ok(subject) => {
            *locked(&shared.entries).admitted.entry(subject).or_default() += 1;
            serve_request(&shared.server, Request::from_parts(head, Body::from(body))).await
        }
        Err(closed) => {
            let mut entries = locked(&shared.entries);
            *entries.refused.entry(closed.why.to_owned()).or_default() += 1;
            drop(entries);
            challenge(&shared, &closed).into_response()
        }
    }
}

fn admit(shared: &Shared, header: Option<&str>, body: &Bytes) -> Result<String, Closed> {
    let mut guard = locked(&shared.guard);
    let refused = guard.refuse.pop_front();
    let guard = guard.clone();
    let closed = |status, error, why| Closed {
        status,
        error,
        why,
        scopes: guard.scopes.clone(),
    };
    let token = header.and_then(|header| header.strip_prefix("Bearer "));
    if let Some(token) = token {
        let mut entries = locked(&shared.entries);
        *entries.tokens.entry(token.to_owned()).or_default() += 1;
    }
    if let Some(status) = refused {
        return Err(closed(status, Some("invalid_token"), "planned"));
    }
    let Some(token) = token else {
        return Err(closed(401, None, "no token"));
    };
    let claims = shared
        .authority
        .check(token)
        .map_err(|why| closed(401, Some("invalid_token"), why))?;
    let audience = claims.get("aud").and_then(Value::as_str);
    let mine = |aud: &str| {
        aud.trim_end_matches('/') == shared.url || aud.trim_end_matches('/') == shared.origin
    };
    if !guard.any_audience && !audience.is_some_and(mine) {
        return Err(closed(401, Some("invalid_token"), "audience"));
    }
    let held = claims
        .get("scope")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let held: Vec<&str> = held.split_whitespace().collect();
    let mut needed = guard.scopes.clone();
    needed.extend(
        tools_called(body).flat_map(|tool| guard.tools.get(&tool).cloned().unwrap_or_default()),
    );
    if needed.iter().any(|scope| !held.contains(&scope.as_str())) {
        return Err(Closed {
            scopes: needed,
            ..closed(403, Some("insufficient_scope"), "scope")
        });
    }
    Ok(claims
        .get("sub")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned())
}

fn tools_called(body: &Bytes) -> impl Iterator<Item = String> {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let is_call = message.get("method").and_then(Value::as_str) == Some("tools/call");
    let name = message.pointer("/params/name").and_then(Value::as_str);
    name.filter(|_| is_call).map(str::to_owned).into_iter()
}

fn challenge(shared: &Shared, closed: &Closed) -> Reply {
    let mut parts = Vec::new();
    if let Some(error) = closed.error {
        parts.push(format!("error=\"{error}\""));
        parts.push(format!("error_description=\"{}\"", closed.why));
    }
    if !closed.scopes.is_empty() {
        parts.push(format!("scope=\"{}\"", closed.scopes.join(" ")));
    }
    if locked(&shared.guard).metadata_at == MetadataAt::Challenge {
        parts.push(format!(
            "resource_metadata=\"{}{WELL_KNOWN}/mcp\"",
            shared.origin
        ));
    }
    let words = if parts.is_empty() {
        String::new()
    } else {
        format!(" {}", parts.join(", "))
    };
    let mut reply = Reply::json(
        closed.status,
        &json!({"error": closed.error.unwrap_or("unauthorized")}),
    );
    let header = ("www-authenticate".to_owned(), format!("Bearer{words}"));
    reply.headers.push(header);
    reply
}

async fn metadata(shared: &Shared, path: &str) -> io::Result<Response<Body>> {
    let (fault, guard) = {
        let mut guard = locked(&shared.guard);
        (guard.faults.pop_front(), guard.clone())
    };
    let is_here = match guard.metadata_at {
        MetadataAt::Challenge | MetadataAt::Path => path == format!("{WELL_KNOWN}/mcp"),
        MetadataAt::Root => path == WELL_KNOWN,
        MetadataAt::Nowhere => false,
    };
    locked(&shared.entries).metadata += 1;
    if !is_here {
        return Reply::text(404, "text/plain", "nothing here").into_response();
    }
    let work = || {
        let servers = guard.servers_told.clone();
        let mut all = json!({
            "resource": guard.resource_told.clone().unwrap_or_else(|| shared.url.clone()),
            "authorization_servers": servers.unwrap_or_else(|| vec![shared.authority.issuer()]),
            "bearer_methods_supported": ["header"],
        });
        if let Some(scopes) = &guard.scopes_supported {
            all["scopes_supported"] = json!(scopes);
        }
        super::http::instead(fault.as_ref()).unwrap_or_else(|| Reply::json(200, &all))
    };
    match under(fault.as_ref(), &shared.authority, work).await {
        Ok(reply) => reply.into_response(),
        Err(()) => Err(io::Error::other("a planned end of the connection")),
    }
}
