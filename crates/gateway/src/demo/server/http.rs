//! The demo's two HTTP servers: one with sessions (2025-11-25), one without (2026-07-28).

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, stdin};
use tokio::net::TcpListener;

use super::{DemoServer, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError, response};
use crate::cli::HttpServerArgs;
use crate::cli::output::Output;
use crate::exit::{Exit, Stop};

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const MODERN: &str = "2026-07-28";
/// A demo has one client; more sessions than this are somebody's mistake.
const SESSIONS_MAX: usize = 1_000;
/// A port that was ours a moment ago may need this long to be free again.
const BIND_MAX: Duration = Duration::from_secs(5);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// 2025-11-25: `initialize` opens a session, and everything else needs one.
    Sessions,
    /// 2026-07-28: no handshake, every request says what it needs.
    Stateless,
}

#[derive(Debug)]
struct Shared {
    server: DemoServer,
    sessions: Mutex<HashSet<String>>,
}

/// Serves on loopback, prints the address on stdout. With `--lifeline`, ends when stdin closes.
pub(super) async fn serve(
    server: DemoServer,
    flavour: Flavour,
    args: &HttpServerArgs,
) -> Result<(), Stop> {
    let listener = bind(args.port).await?;
    let address = listener
        .local_addr()
        .map_err(|error| Stop::unexpected("cannot read the listener's address", error))?;
    Output::new(crate::cli::ColorWhen::Never).line(&format!("listening on {address}"))?;
    let router = router(server, flavour);
    if !args.lifeline {
        return axum::serve(listener, router)
            .await
            .map_err(|error| Stop::unexpected("cannot serve", error));
    }
    // Both arms end the process: nothing is lost by dropping the other.
    tokio::select! {
        // Cancel-safe in the only way that matters here: the process ends with this function.
        served = axum::serve(listener, router) => served.map_err(|error| Stop::unexpected("cannot serve", error)),
        // Cancel-safe: it only looks for the end of stdin.
        () = stdin_closed() => Ok(()),
    }
}

async fn bind(port: u16) -> Result<TcpListener, Stop> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let free = async {
        loop {
            match TcpListener::bind(address).await {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                bound => return bound,
            }
        }
    };
    match tokio::time::timeout(BIND_MAX, free).await {
        Ok(Ok(listener)) => Ok(listener),
        Ok(Err(error)) => Err(Stop::unexpected(
            &format!("cannot listen on {address}"),
            error,
        )),
        Err(_late) => Err(Stop::new(Exit::PortInUse, format!("{address} is in use"))),
    }
}

async fn stdin_closed() {
    let mut buffer = [0; 256];
    let mut stdin = stdin();
    while stdin.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

fn router(server: DemoServer, flavour: Flavour) -> Router {
    let shared = Arc::new(Shared {
        server,
        sessions: Mutex::default(),
    });
    let methods = match flavour {
        Flavour::Sessions => post(post_sessions).get(get_sessions).delete(delete_session),
        // Everything but POST is answered 405 by the router.
        Flavour::Stateless => post(post_stateless),
    };
    Router::new().route("/mcp", methods).with_state(shared)
}

async fn post_sessions(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return rpc_error(
            StatusCode::BAD_REQUEST,
            &Value::Null,
            (-32_700, "Parse error".to_owned()),
        );
    };
    let (method, id) = (
        message["method"].as_str().unwrap_or_default(),
        message.get("id"),
    );
    if method == "initialize" {
        return shared.open_session(id.unwrap_or(&Value::Null), &message["params"]);
    }
    if let Err(refusal) = shared.admit(&headers) {
        return refusal;
    }
    match (method, id) {
        ("ping", Some(id)) => json_response(&response(id, Ok(json!({})))),
        ("tools/call", Some(id)) => {
            let answer = response(id, shared.server.answer(method, &message["params"]));
            // A stream of one event: clients must be able to read both forms.
            let event = Event::default().event("message").data(answer.to_string());
            Sse::new(stream::iter([Ok::<_, Infallible>(event)])).into_response()
        }
        (method, Some(id)) if !method.is_empty() => json_response(&response(
            id,
            shared.server.answer(method, &message["params"]),
        )),
        _notification_or_response => StatusCode::ACCEPTED.into_response(),
    }
}

/// The stream for messages from the server: this one never has any.
async fn get_sessions(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match shared.admit(&headers) {
        Ok(_id) => Sse::new(stream::pending::<Result<Event, Infallible>>())
            .keep_alive(KeepAlive::default())
            .into_response(),
        Err(refusal) => refusal,
    }
}

async fn delete_session(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match shared.admit(&headers) {
        Ok(id) => {
            shared
                .sessions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            StatusCode::OK.into_response()
        }
        Err(refusal) => refusal,
    }
}

impl Shared {
    fn open_session(&self, id: &Value, params: &Value) -> Response {
        let mut random = [0_u8; 16];
        if getrandom::fill(&mut random).is_err() {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        let session: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        sessions.insert(session.clone());
        let answer = response(id, Ok(self.server.initialize(params)));
        ([(SESSION, session)], json_response(&answer)).into_response()
    }

    /// The id of the session that the request belongs to, or the refusal.
    #[expect(
        clippy::result_large_err,
        reason = "the refusal is the response, sent as it is"
    )]
    fn admit(&self, headers: &HeaderMap) -> Result<String, Response> {
        let Some(id) = headers.get(SESSION).and_then(|value| value.to_str().ok()) else {
            let error = (-32_600, "Bad Request: Missing session ID".to_owned());
            return Err(rpc_error(StatusCode::BAD_REQUEST, &Value::Null, error));
        };
        if self
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(id)
        {
            return Ok(id.to_owned());
        }
        Err(rpc_error(
            StatusCode::NOT_FOUND,
            &Value::Null,
            (-32_600, "Session not found".to_owned()),
        ))
    }
}

async fn post_stateless(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return rpc_error(
            StatusCode::BAD_REQUEST,
            &Value::Null,
            (-32_700, "Parse error".to_owned()),
        );
    };
    let Some(method) = message["method"].as_str() else {
        return rpc_error(
            StatusCode::BAD_REQUEST,
            &Value::Null,
            (-32_600, "Invalid request".to_owned()),
        );
    };
    let Some(id) = message.get("id") else {
        return StatusCode::ACCEPTED.into_response();
    };
    if let Err(refusal) = check_modern(&headers, method, id, &message) {
        return refusal;
    }
    let outcome = match method {
        "server/discover" => {
            Ok(json!({ "supportedVersions": [MODERN], "capabilities": { "tools": {} } }))
        }
        other => shared.server.answer(other, &message["params"]),
    };
    match outcome {
        Ok(mut result) => {
            result["resultType"] = "complete".into();
            result["_meta"] = json!({ "io.modelcontextprotocol/serverInfo": shared.server.info() });
            if method != "tools/call" {
                result["ttlMs"] = 0.into();
                result["cacheScope"] = "private".into();
            }
            json_response(&response(id, Ok(result)))
        }
        Err(error) if error.0 == METHOD_NOT_FOUND => rpc_error(StatusCode::NOT_FOUND, id, error),
        Err(error) => rpc_error(StatusCode::BAD_REQUEST, id, error),
    }
}

/// What revision 2026-07-28 demands of every request.
#[expect(
    clippy::result_large_err,
    reason = "the refusal is the response, sent as it is"
)]
fn check_modern(
    headers: &HeaderMap,
    method: &str,
    id: &Value,
    message: &Value,
) -> Result<(), Response> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let meta = &message["params"]["_meta"];
    let refuse = |error| Err(rpc_error(StatusCode::BAD_REQUEST, id, error));
    let (Some(version), true) = (
        meta["io.modelcontextprotocol/protocolVersion"].as_str(),
        meta["io.modelcontextprotocol/clientCapabilities"].is_object(),
    ) else {
        return refuse((
            INVALID_PARAMS,
            "`_meta` lacks the protocol version or the client capabilities".to_owned(),
        ));
    };
    if header(VERSION) != Some(version) || header(METHOD) != Some(method) {
        return refuse((
            -32_020,
            "Header mismatch: headers and body name different versions or methods".to_owned(),
        ));
    }
    if version == MODERN {
        return Ok(());
    }
    let error = json!({
        "jsonrpc": "2.0", "id": id,
        "error": {
            "code": -32_022, "message": "Unsupported protocol version",
            "data": { "supported": [MODERN], "requested": version }
        }
    });
    Err((StatusCode::BAD_REQUEST, json_response(&error)).into_response())
}

fn rpc_error(status: StatusCode, id: &Value, error: RpcError) -> Response {
    (status, json_response(&response(id, Err(error)))).into_response()
}

fn json_response(body: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}
