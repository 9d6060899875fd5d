//! Calling a tool over the admin API.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use mainstay::{Answer, CallError, CallOptions, Origin, Request};
use mainstay_wire::{json_string, method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::{NO_SUCH_SERVER, Refusal, Route, refusal};
use super::dto::{ErrorDetail, raw};
use super::{Problem, find, json_of, json_with};
use crate::serve::Gateway;
use crate::serve::fault::Fault;

/// This part's rows of the table.
pub(super) const ROUTES: &[Route] = &[Route::post(
    "/api/v1/servers/{name}/call",
    "callTool",
    "Calls a tool of a server. Whoever leaves cancels the call.",
    || post(call),
)
.takes::<CallBody<'static>>()
.json::<Answered>()
.refuses(REFUSALS)];

const REFUSALS: &[Refusal] = &[
    NO_SUCH_SERVER,
    refusal::<NotAnswered>("502", "Rejected: the server did not run it."),
    refusal::<NotAnswered>("503", "Refused: it was never sent."),
    refusal::<NotAnswered>("504", "Unknown: it was sent, and no answer came."),
];

/// A call to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CallBody<'b> {
    /// The server's own name of the tool.
    tool: String,
    /// Passed on as it is written; absent stays absent.
    #[serde(borrow)]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    arguments: Option<&'b RawValue>,
    /// One deadline over everything. Default: the server's.
    timeout_ms: Option<u64>,
}

/// What the server answered, a result or an error.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Answered {
    /// `answered`.
    outcome: &'static str,
    /// The result as the server wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    result: Option<Box<RawValue>>,
    /// The error as the server wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    error: Option<Box<RawValue>>,
    /// Which generation answered.
    generation: u64,
    /// Time in our queue, in milliseconds.
    queued_ms: u64,
    /// Time at the server, in milliseconds.
    served_ms: u64,
    /// How often it was sent.
    attempts: u32,
}

/// The server gave no answer.
#[derive(Debug, Serialize, JsonSchema)]
struct NotAnswered {
    /// `refused`, `rejected` or `unknown`.
    outcome: &'static str,
    error: ErrorDetail,
}

/// Calls a tool. A client that leaves cancels its call.
pub(super) async fn call(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let server = match find(&gateway, &name) {
        Ok(server) => server,
        Err(problem) => return problem.into_response(),
    };
    let body: CallBody<'_> = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(error) => {
            let mut problem = Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the body is not understood: {error}"),
            );
            problem.hint =
                Some(r#"send {"tool":"NAME","arguments":{...},"timeoutMs":N}"#.to_owned());
            return problem.into_response();
        }
    };
    let tool = json_string(&body.tool);
    let params = match body.arguments {
        Some(arguments) => format!("{{\"name\":{tool},\"arguments\":{arguments}}}"),
        None => format!("{{\"name\":{tool}}}"),
    };
    let total = body.timeout_ms.map(Duration::from_millis);
    let options = CallOptions {
        total,
        origin: Some(Arc::new(Origin::new("admin"))),
        ..CallOptions::default()
    };
    match server
        .request(Request::new(method::TOOLS_CALL, Some(&params)), options)
        .await
    {
        Ok(answer) => json_of(&answered(&answer)),
        Err(error) => failed(&error),
    }
}

fn answered(answer: &Answer) -> Answered {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Answered {
        outcome: "answered",
        result: answer.result().and_then(raw),
        error: answer.error().and_then(raw),
        generation: answer.generation.0,
        queued_ms: millis(answer.queued),
        served_ms: millis(answer.served),
        attempts: answer.attempts,
    }
}

fn failed(error: &CallError) -> Response {
    let status = match error {
        CallError::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
        CallError::Rejected(_) => StatusCode::BAD_GATEWAY,
        CallError::Unknown(_) => StatusCode::GATEWAY_TIMEOUT,
    };
    let fault = Fault::from(error);
    let hint = fault
        .data
        .as_ref()
        .and_then(|data| data.get("hint"))
        .and_then(|hint| hint.as_str())
        .map(str::to_owned);
    let error_told = ErrorDetail {
        message: fault.message,
        hint,
        code: Some(fault.code),
        data: fault.data,
    };
    json_with(
        status,
        &NotAnswered {
            outcome: error.class(),
            error: error_told,
        },
    )
}
