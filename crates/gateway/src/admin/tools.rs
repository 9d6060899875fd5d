//! What operators approve of servers' tools (`tools.pin`): what waits for approval, and approving it.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use mainstay::pins::{ApprovedProgram, PinError, ToolChange};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{NO_SUCH_SERVER, Refusal, Route, param, refusal};
use super::dto::ErrorBody;
use super::{Problem, find, json_of};
use crate::serve::Gateway;

/// This part's rows of the table.
pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/tools/changes",
        "getToolChanges",
        "Tools of pinned servers that are not as they were approved: they are held back, or gone.",
        || get(changes),
    )
    .params(&[param::<String>("server", "Only those of this server.")])
    .json::<Changes>()
    .refuses(&[NO_SUCH_SERVER]),
    Route::post(
        "/api/v1/servers/{name}/approve",
        "approveTools",
        "Approves the tools of a pinned server as they are now: those that are named, or all of them.",
        || post(approve),
    )
    .may_take::<Approve>()
    .json::<Approved>()
    .refuses(REFUSALS),
];

const REFUSALS: &[Refusal] = &[
    NO_SUCH_SERVER,
    refusal::<ErrorBody>(
        "409",
        "The server's tools are not pinned, or were never listed.",
    ),
    refusal::<ErrorBody>("503", "Mainstay is ending."),
];

/// Which changes.
#[derive(Debug, Deserialize)]
struct Which {
    server: Option<String>,
}

/// What waits for approval.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Changes {
    /// By server and tool.
    changes: Vec<ToolChange>,
}

/// What to approve.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Approve {
    /// The server's own names. Default: everything that waits for approval.
    tools: Option<Vec<String>>,
    /// The program itself (`pinProgram`), instead of tools.
    #[serde(default)]
    program: bool,
}

/// What was approved.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Approved {
    /// The tools that were not as approved before; names that are gone are among them.
    approved: Vec<String>,
    /// The program, if that is what was approved. The server is started anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<ApprovedProgram>,
}

async fn changes(State(gateway): State<Gateway>, Query(which): Query<Which>) -> Response {
    let servers = match which.server {
        None => gateway.manager().servers(),
        Some(name) => match find(&gateway, &name) {
            Ok(server) => vec![server],
            Err(problem) => return problem.into_response(),
        },
    };
    json_of(&Changes {
        changes: servers
            .iter()
            .flat_map(mainstay::ServerHandle::tool_changes)
            .collect(),
    })
}

async fn approve(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let server = match find(&gateway, &name) {
        Ok(server) => server,
        Err(problem) => return problem.into_response(),
    };
    let which = if body.is_empty() {
        Ok(Approve::default())
    } else {
        serde_json::from_slice(&body)
    };
    let which: Approve = match which {
        Ok(which) => which,
        Err(error) => {
            let message = format!("the body is not understood: {error}");
            let mut problem = Problem::new(StatusCode::BAD_REQUEST, message);
            problem.hint = Some(r#"send {"tools":["NAME"]}, or nothing for all"#.to_owned());
            return problem.into_response();
        }
    };
    let approved = if which.program {
        let program = server.approve_program().await;
        program.map(|program| Approved {
            approved: Vec::new(),
            program: Some(program),
        })
    } else {
        let approved = server.approve(which.tools).await;
        approved.map(|approved| Approved {
            approved,
            program: None,
        })
    };
    match approved {
        Ok(approved) => json_of(&approved),
        Err(error) => Problem::new(status_of(&error), error.to_string()).into_response(),
    }
}

fn status_of(error: &PinError) -> StatusCode {
    match error {
        PinError::NotPinned { .. }
        | PinError::NotListed { .. }
        | PinError::ProgramNotPinned { .. }
        | PinError::NoProgram { .. } => StatusCode::CONFLICT,
        PinError::NoSuchTool { .. } => StatusCode::NOT_FOUND,
        PinError::Unwritable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        PinError::Ended(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
