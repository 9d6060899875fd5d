//! The admin API: what the command line and other local tools ask of a running Mainstay.
//!
//! Served on a local Unix socket only, which the file system keeps for its owner; not on TCP. It looks and it passes
//! orders on; what an order means is the lifecycle's business. No answer holds a secret (law 31): it shows states, names
//! and what servers themselves wrote.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/status` | Mainstay and all servers |
//! | `GET /api/v1/servers/{name}` | one server, its catalog, its last events |
//! | `POST /api/v1/servers/{name}/restart`, `/enable`, `/disable` | its status once the order is in force |
//! | `GET /api/v1/servers/{name}/logs?lines=N[&follow=1]` | its stderr: `{lines}`, or events `{line}` |
//! | `GET /api/v1/tools` | all published tools and what is hidden |
//! | `POST /api/v1/servers/{name}/call` | calls a tool: `{tool, arguments?, timeoutMs?}` |
//! | `GET /api/v1/events[?recent=N][&server=NAME][&since=UNIX_MS]` | what happens, as events |
//! | `GET /api/v1/calls[?recent=N][&server=NAME][&tool=NAME][&outcome=WORDS][&follow=1]` | how calls ended: `{calls, dropped}`, or events |
//! | `/mcp`, `/servers/{name}/mcp` | MCP itself, for `mainstay stdio` and other clients of this user |
//!
//! Errors are `{"error":{"message","hint"?,"data"?}}` under a matching HTTP status.

mod call;
mod calls;
mod dto;
mod follow;
mod socket;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use mainstay::ServerHandle;
use mainstay::error::OperatorError;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::dto::{Overview, ServerDetail, ToolList};
use crate::serve::Gateway;
use crate::serve::fault::shown;

pub use self::socket::serve_unix;

/// Log lines that one answer holds at most.
const LINES_MAX: usize = 10_000;

/// Log lines that are shown when none are asked for.
const LINES_DEFAULT: usize = 100;

/// The admin API of a gateway and its manager.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/stop", post(stop))
        .route("/api/v1/servers/{name}", get(server))
        .route("/api/v1/servers/{name}/{order}", post(order))
        .route("/api/v1/servers/{name}/logs", get(logs))
        .route("/api/v1/servers/{name}/call", post(call::call))
        .route("/api/v1/tools", get(tools))
        .route("/api/v1/events", get(events))
        .route("/api/v1/calls", get(calls::calls))
        .fallback(elsewhere)
        .with_state(gateway)
}

/// What is wrong with a request.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    message: String,
    hint: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            hint: None,
        }
    }

    fn into_response(self) -> Response {
        let mut error = json!({ "message": self.message });
        if let Some(hint) = self.hint {
            error["hint"] = hint.into();
        }
        json_text(self.status, json!({ "error": error }).to_string())
    }
}

fn json_text(status: StatusCode, text: impl Into<Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn json_of(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => json_text(StatusCode::OK, text),
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

fn find(gateway: &Gateway, name: &str) -> Result<ServerHandle, Problem> {
    let manager = gateway.manager();
    manager.server(name).ok_or_else(|| {
        let known: Vec<String> = manager
            .servers()
            .iter()
            .map(|server| server.name().to_owned())
            .collect();
        let hint = if known.is_empty() {
            "no servers are configured".to_owned()
        } else {
            format!("configured are: {}", known.join(", "))
        };
        Problem {
            hint: Some(hint),
            ..Problem::new(
                StatusCode::NOT_FOUND,
                format!("no server is named `{}`", shown(name)),
            )
        }
    })
}

/// What is not of the admin API: the MCP endpoints, as on the TCP side.
async fn elsewhere(State(gateway): State<Gateway>, request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/mcp") || path.starts_with("/servers/") {
        return gateway.handle_local(request).await.map(Body::new);
    }
    Problem::new(StatusCode::NOT_FOUND, "no such path in the admin API").into_response()
}

/// Ends Mainstay, if whoever runs this gateway listens to that.
async fn stop(State(gateway): State<Gateway>) -> Response {
    gateway.stop_asked().cancel();
    json_of(&json!({ "pid": std::process::id() }))
}

async fn status(State(gateway): State<Gateway>) -> Response {
    json_of(&Overview::of(&gateway))
}

async fn server(State(gateway): State<Gateway>, Path(name): Path<String>) -> Response {
    match find(&gateway, &name) {
        Ok(server) => json_of(&ServerDetail::of(&gateway, &server)),
        Err(problem) => problem.into_response(),
    }
}

async fn order(
    State(gateway): State<Gateway>,
    Path((name, order)): Path<(String, String)>,
) -> Response {
    let server = match find(&gateway, &name) {
        Ok(server) => server,
        Err(problem) => return problem.into_response(),
    };
    let obeyed = match order.as_str() {
        "restart" => server.restart().await,
        "enable" => server.enable().await,
        "disable" => server.disable().await,
        other => {
            let message = format!(
                "`{}` is no order; orders are restart, enable and disable",
                shown(other)
            );
            return Problem::new(StatusCode::NOT_FOUND, message).into_response();
        }
    };
    match obeyed {
        Ok(()) => json_of(&server.status()),
        Err(error @ OperatorError::Ended) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
        }
    }
}

#[derive(Debug, Deserialize)]
struct LogsQuery {
    lines: Option<usize>,
    follow: Option<String>,
}

async fn logs(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Response {
    let server = match find(&gateway, &name) {
        Ok(server) => server,
        Err(problem) => return problem.into_response(),
    };
    let lines = query.lines.unwrap_or(LINES_DEFAULT).min(LINES_MAX);
    match query.follow.as_deref() {
        None | Some("0" | "false") => json_of(&json!({ "lines": server.stderr_tail(lines) })),
        Some(_) => follow::logs(&gateway, server, lines),
    }
}

async fn tools(State(gateway): State<Gateway>) -> Response {
    json_of(&ToolList::of(&gateway))
}

async fn events(
    State(gateway): State<Gateway>,
    Query(query): Query<follow::EventsQuery>,
) -> Response {
    follow::events(&gateway, &query)
}
