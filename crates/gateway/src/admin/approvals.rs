//! Calls that wait for the operator's word, over the admin API.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Route, refusal};
use super::dto::ErrorBody;
use super::{Problem, json_of};
use crate::policy::approvals::PendingApproval;
use crate::serve::Gateway;
use crate::serve::fault::shown;

/// This part's rows of the table.
pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/approvals",
        "getApprovals",
        "The calls that wait for the operator to approve them, the oldest first.",
        || get(list),
    )
    .json::<ApprovalList>(),
    Route::post(
        "/api/v1/approvals/{id}",
        "decideApproval",
        "Allows or denies one call that waits; the call as it was. Holds for this one call and nothing else.",
        || post(decide),
    )
    .takes::<Decision>()
    .json::<PendingApproval>()
    .refuses(&[
        refusal::<ErrorBody>("400", "It is not said whether to allow or to deny."),
        refusal::<ErrorBody>("404", "No call of that id waits (any more)."),
    ]),
];

/// The calls that wait.
#[derive(Debug, Serialize, JsonSchema)]
struct ApprovalList {
    /// The oldest first.
    approvals: Vec<PendingApproval>,
}

/// The operator's word.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Decision {
    /// Whether the call is to be made.
    allow: bool,
}

async fn list(State(gateway): State<Gateway>) -> Response {
    json_of(&ApprovalList {
        approvals: gateway.shared.gate.approvals.list(),
    })
}

async fn decide(State(gateway): State<Gateway>, Path(id): Path<String>, body: Bytes) -> Response {
    let decision: Decision = match serde_json::from_slice(&body) {
        Ok(decision) => decision,
        Err(error) => {
            return Problem {
                hint: Some("send `{\"allow\": true}` or `{\"allow\": false}`".to_owned()),
                ..Problem::new(StatusCode::BAD_REQUEST, error.to_string())
            }
            .into_response();
        }
    };
    match gateway.shared.gate.approvals.decide(&id, decision.allow) {
        Some(decided) => json_of(&decided),
        None => Problem {
            hint: Some(
                "`mainstay approvals` lists those that wait; the call may have ended meanwhile"
                    .to_owned(),
            ),
            ..Problem::new(
                StatusCode::NOT_FOUND,
                format!("no call waits for approval under `{}`", shown(&id)),
            )
        }
        .into_response(),
    }
}
