//! The audit log over the admin API: looking back; and what is recorded of the admin API itself.

use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::{Route, param, refusal};
use super::dto::ErrorBody;
use super::{Problem, aside, json_of};
use crate::audit::{AuditStatus, Kind, Record, Who, read};
use crate::serve::Gateway;
use crate::serve::caller::Caller;
use crate::serve::fault::shown;

/// Records that are given when it is not said how many.
const LIMIT: usize = 1_000;

/// This part's rows of the table.
pub(super) const ROUTES: &[Route] = &[Route::get(
    "/api/v1/audit",
    "readAudit",
    "What the audit log on disk holds: the newest records that fit, oldest first, and how it is doing.",
    || get(read_audit),
)
.params(&[
    param::<u64>("since", "Only from then on, in milliseconds since 1970."),
    param::<u64>("until", "Only up to then, in milliseconds since 1970."),
    param::<String>("principal", "Only what this principal did, by its name or its label."),
    param::<String>("server", "Only what is about this server."),
    param::<String>("kind", "Only `call`, `operator`, `config` or `audit`."),
    param::<usize>("limit", "How many at most. Default: 1,000; more than 10,000 are never given."),
])
.json::<AuditPage>()
.refuses(&[refusal::<ErrorBody>("404", "No audit log is kept.")])];

#[derive(Debug, Default, Deserialize)]
struct AuditQuery {
    since: Option<u64>,
    until: Option<u64>,
    principal: Option<String>,
    server: Option<String>,
    kind: Option<String>,
    limit: Option<usize>,
}

/// Records of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
struct AuditPage {
    /// Oldest first, each as it stands in the log.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    records: Vec<Box<RawValue>>,
    /// There are more that fit; these are the newest.
    truncated: bool,
    /// How the log is doing.
    status: AuditStatus,
}

async fn read_audit(State(gateway): State<Gateway>, Query(query): Query<AuditQuery>) -> Response {
    let Some(audit) = gateway.shared.gate.audit().cloned() else {
        return Problem {
            hint: Some("set `mainstay.audit` to true, and start Mainstay anew".to_owned()),
            ..Problem::new(StatusCode::NOT_FOUND, "no audit log is kept")
        }
        .into_response();
    };
    let query = read::Query {
        since: query.since,
        until: query.until,
        principal: query.principal,
        server: query.server,
        kind: query.kind,
        limit: query.limit.unwrap_or(LIMIT),
    };
    aside(move || match read::read(audit.path(), &query) {
        Ok(page) => json_of(&AuditPage {
            records: page.records,
            truncated: page.truncated,
            status: audit.status(),
        }),
        Err(error) => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the audit log cannot be read: {error}"),
        )
        .into_response(),
    })
    .await
}

/// The door that a request to the admin API came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The local socket.
    Socket,
    /// The TCP port.
    Port,
}

/// Records whatever changes something, with what came of it.
pub(super) async fn noted(
    State((gateway, door)): State<(Gateway, Door)>,
    request: Request,
    next: Next,
) -> Response {
    let gate = &gateway.shared.gate;
    let path = request.uri().path();
    if request.method() != Method::POST || !path.starts_with("/api/") || gate.audit().is_none() {
        return next.run(request).await;
    }
    let who = match request.extensions().get::<std::sync::Arc<Caller>>() {
        Some(caller) => Who::of(caller),
        None => Who::operator(match door {
            Door::Socket => "socket",
            Door::Port => "port",
        }),
    };
    let server = path
        .strip_prefix("/api/v1/servers/")
        .and_then(|rest| rest.split('/').next())
        .map(|segment| {
            let name = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
            shown(&name)
        });
    let mut record = Record {
        who: Some(who),
        method: Some(format!("POST {}", shown(path))),
        server,
        ..Record::new(Kind::Operator)
    };
    let began = tokio::time::Instant::now();
    let response = next.run(request).await;
    record.duration_ms = u64::try_from(began.elapsed().as_millis()).ok();
    record.outcome = Some(response.status().as_u16().to_string());
    gate.note(|| record);
    response
}
