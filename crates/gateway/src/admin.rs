//! The admin API: what the command line, the dashboard and other local tools ask of a running Mainstay.
//!
//! Served on a local Unix socket, which the file system keeps for its owner. It looks and it passes orders on; what an
//! order means is the lifecycle's business. No answer holds a secret (law 31): it shows states, names and what servers
//! themselves wrote.
//!
//! Its routes are the tables named `ROUTES`, here and in the modules of this one (see `api.rs`);
//! `GET /api/v1/openapi.json` describes them. On the socket, everything that is not below `/api/` is the same as on the
//! TCP side: MCP itself, for `mainstay stdio` and other clients of this user.
//!
//! Errors are `{"error":{"message","hint"?,"data"?}}` under a matching HTTP status.

mod api;
mod approvals;
mod audit;
mod auth;
mod call;
mod calls;
pub(crate) mod door;
mod dto;
mod follow;
mod journal;
mod openapi;
mod profiles;
mod reload;
mod socket;
mod tokens;
mod tools;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use mainstay::error::OperatorError;
use mainstay::{ServerHandle, ServerStatus};
use serde::{Deserialize, Serialize};

use self::api::{NO_SUCH_SERVER, Route, param, refusal};
use self::dto::{
    CatalogList, ErrorBody, ErrorDetail, EventList, LogLine, LogLines, Overview, ServerDetail,
    Stopping, Told, ToolList,
};
use crate::serve::Gateway;
use crate::serve::fault::shown;

pub use self::socket::serve_unix;

/// Log lines that one answer holds at most.
const LINES_MAX: usize = 10_000;

/// Log lines that are shown when none are asked for.
const LINES_DEFAULT: usize = 100;

/// A refusal in plain words is at most this long.
const WORDS_BYTES_MAX: usize = 16 * 1024;

/// The first rows of the table: servers, what they list, what happens to them.
const ROUTES: &[Route] = &[
    Route::get("/api/v1/status", "getStatus", "Mainstay and all servers.", || get(status)).json::<Overview>(),
    Route::post(STOP, "stop", "Ends Mainstay. On the local socket only.", || post(stop)).json::<Stopping>(),
    Route::get("/api/v1/servers/{name}", "getServer", "One server, its catalog and its last events.", || get(server))
        .json::<ServerDetail>()
        .refuses(&[NO_SUCH_SERVER]),
    Route::post(
        "/api/v1/servers/{name}/restart",
        "restartServer",
        "Restarts a server, from whatever state; its status once the order is in force.",
        || post(restart),
    )
    .json::<ServerStatus>()
    .refuses(ORDER_REFUSALS),
    Route::post(
        "/api/v1/servers/{name}/enable",
        "enableServer",
        "Enables a server; its status once the order is in force.",
        || post(enable),
    )
    .json::<ServerStatus>()
    .refuses(ORDER_REFUSALS),
    Route::post(
        "/api/v1/servers/{name}/disable",
        "disableServer",
        "Disables a server: it is stopped, and clients do not see it any more; its status once the order is in force.",
        || post(disable),
    )
    .json::<ServerStatus>()
    .refuses(ORDER_REFUSALS),
    Route::get(
        "/api/v1/servers/{name}/logs",
        "getLogs",
        "The last lines of a server's stderr; with `follow` as events, and every new line as it is written.",
        || get(logs),
    )
    .params(&[
        param::<usize>("lines", "How many of the last lines. Default: 100; more than 10,000 are never given."),
        param::<String>("follow", "Anything but `0` and `false`: go on with every new line."),
    ])
    .json::<LogLines>()
    .events::<LogLine>()
    .refuses(&[NO_SUCH_SERVER]),
    Route::get("/api/v1/tools", "getTools", "All published tools, and what is hidden.", || get(tools))
        .json::<ToolList>(),
    Route::get(
        "/api/v1/catalog",
        "getCatalog",
        "All published prompts, resources and resource templates.",
        || get(catalog),
    )
    .json::<CatalogList>(),
    Route::get("/api/v1/events", "followEvents", "What happens, as it happens; with `follow=0` what happened, as one answer.", || get(events))
        .params(&[
            param::<usize>("recent", "How many past events come first. Default: none, or all with `since`."),
            param::<String>("server", "Only those of this server."),
            param::<u64>("since", "Only those since then, in milliseconds since 1970."),
            param::<String>("follow", "`0` or `false`: one answer with those of the past, and no more."),
        ])
        .json::<EventList>()
        .events::<Told>(),
];

/// What an order may be refused with.
const ORDER_REFUSALS: &[api::Refusal] = &[
    NO_SUCH_SERVER,
    refusal::<ErrorBody>("503", "Mainstay is ending."),
];

/// The one path that only the local socket has.
const STOP: &str = "/api/v1/stop";

/// Whether a path is open to all who may use the API at all, on whatever door.
fn open_to_all(path: &str) -> bool {
    path != STOP
}

/// The admin API of a gateway and its manager, and everything else that the gateway answers, for a door that only this
/// user can open.
pub fn router(gateway: Gateway) -> Router {
    finished(api::router(), gateway, audit::Door::Socket)
}

/// The routes with what is common to all of them.
fn finished(routes: Router<Gateway>, gateway: Gateway, door: audit::Door) -> Router {
    let body_bytes_max = gateway.shared.settings.limits.message_bytes_max;
    let noted = from_fn_with_state((gateway.clone(), door), audit::noted);
    routes
        .layer(noted)
        .layer(map_response(worded))
        .fallback(elsewhere)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(body_bytes_max))
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
        let error = ErrorDetail {
            message: self.message,
            hint: self.hint,
            ..ErrorDetail::default()
        };
        json_with(self.status, &ErrorBody { error })
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
    json_with(StatusCode::OK, value)
}

fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => json_text(status, text),
        Err(error) => {
            let message = serde_json::Value::from(error.to_string());
            let text = format!(r#"{{"error":{{"message":{message}}}}}"#);
            json_text(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

/// Refusals that a library wrote in plain words become errors like all others.
async fn worded(response: Response) -> Response {
    let status = response.status();
    let is_words = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !is_words {
        return response;
    }
    let words = axum::body::to_bytes(response.into_body(), WORDS_BYTES_MAX)
        .await
        .unwrap_or_default();
    let message = match String::from_utf8_lossy(&words) {
        words if words.is_empty() => status.to_string(),
        words => words.into_owned(),
    };
    Problem::new(status, message).into_response()
}

async fn no_such_method(request: Request) -> Response {
    let message = format!(
        "{} is not what {} is asked with",
        request.method(),
        shown(request.uri().path())
    );
    let hint = "`/api/v1/openapi.json` lists every path with its methods".to_owned();
    Problem {
        hint: Some(hint),
        ..Problem::new(StatusCode::METHOD_NOT_ALLOWED, message)
    }
    .into_response()
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

/// What is not of the admin API: the MCP endpoints and all else, as on the TCP side.
async fn elsewhere(State(gateway): State<Gateway>, request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/api/") || path == "/" {
        return Problem::new(StatusCode::NOT_FOUND, "no such path in the admin API")
            .into_response();
    }
    gateway.handle_local(request).await.map(Body::new)
}

/// Ends Mainstay, if whoever runs this gateway listens to that.
async fn stop(State(gateway): State<Gateway>) -> Response {
    gateway.stop_asked().cancel();
    json_of(&Stopping {
        pid: std::process::id(),
    })
}

/// Does what blocks for a moment (looking at processes, reading files) where it holds nobody up.
async fn aside(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(response) => response,
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

async fn status(State(gateway): State<Gateway>) -> Response {
    aside(move || json_of(&Overview::of(&gateway))).await
}

async fn server(State(gateway): State<Gateway>, Path(name): Path<String>) -> Response {
    match find(&gateway, &name) {
        Ok(server) => aside(move || json_of(&ServerDetail::of(&gateway, &server))).await,
        Err(problem) => problem.into_response(),
    }
}

async fn restart(State(gateway): State<Gateway>, Path(name): Path<String>) -> Response {
    order(&gateway, &name, async |server| server.restart().await).await
}

async fn enable(State(gateway): State<Gateway>, Path(name): Path<String>) -> Response {
    order(&gateway, &name, async |server| server.enable().await).await
}

async fn disable(State(gateway): State<Gateway>, Path(name): Path<String>) -> Response {
    order(&gateway, &name, async |server| server.disable().await).await
}

/// Passes an order on, and answers when it is in force.
async fn order<F>(gateway: &Gateway, name: &str, give: F) -> Response
where
    F: AsyncFnOnce(&ServerHandle) -> Result<(), OperatorError>,
{
    let server = match find(gateway, name) {
        Ok(server) => server,
        Err(problem) => return problem.into_response(),
    };
    match give(&server).await {
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
        None | Some("0" | "false") => json_of(&LogLines {
            lines: server.stderr_tail(lines),
        }),
        Some(_) => follow::logs(&gateway, server, lines),
    }
}

async fn catalog(State(gateway): State<Gateway>) -> Response {
    json_of(&CatalogList::of(&gateway))
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
