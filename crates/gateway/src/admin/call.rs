//! Calling a tool over the admin API.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use mainstay::{Answer, CallError, CallOptions, Origin, Request};
use mainstay_wire::{json_string, method};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::dto::raw;
use super::{Problem, find, json_of, json_text};
use crate::serve::Gateway;
use crate::serve::fault::Fault;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CallBody<'b> {
    /// The server's own name of the tool.
    tool: String,
    /// Passed on as it is written; absent stays absent.
    #[serde(borrow)]
    arguments: Option<&'b RawValue>,
    /// One deadline over everything. Default: the server's.
    timeout_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
    generation: u64,
    queued_ms: u64,
    served_ms: u64,
    attempts: u32,
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
        .cloned();
    let mut told = json!({ "message": fault.message, "code": fault.code, "data": fault.data });
    if let Some(hint) = hint {
        told["hint"] = hint;
    }
    json_text(
        status,
        json!({ "outcome": error.class(), "error": told }).to_string(),
    )
}
