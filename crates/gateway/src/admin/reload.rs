//! The config of a running Mainstay over the admin API: what holds, and loading it anew.
//!
//! No value of the file is ever shown: names, keys and places (law 31).

use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use mainstay::Plan;
use mainstay::config::{Origin, Problem as ConfigProblem, ServerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Route, refusal};
use super::dto::ErrorBody;
use super::{Problem, json_of, json_with};
use crate::reload::{ConfigLife, Reloaded, Trigger};
use crate::serve::Gateway;

/// The rows of the config.
pub(super) const ROUTES: &[Route] = &[
    Route::get(
        "/api/v1/config",
        "getConfig",
        "The configuration that holds: its file, where each entry stands, how the last reload went.",
        || get(config),
    )
    .json::<ConfigDetail>()
    .refuses(&[NO_FILE]),
    Route::post(
        "/api/v1/reload",
        "reloadConfig",
        "Reads the configuration file again and makes it true; with `dryRun` only tells what that would take.",
        || post(reload),
    )
    .may_take::<ReloadBody>()
    .json::<ReloadAnswer>()
    .refuses(&[
        NO_FILE,
        refusal::<ReloadAnswer>("422", "The file is not to be loaded; what was loaded before stays."),
    ]),
];

const NO_FILE: super::api::Refusal =
    refusal::<ErrorBody>("404", "This Mainstay was not started from a file.");

/// What is to be done with the file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReloadBody {
    /// Only tell what would be done. Default: false.
    #[serde(default)]
    dry_run: bool,
}

/// What came of a reload, or would come of it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ReloadAnswer {
    ok: bool,
    dry_run: bool,
    /// What was done, or would be. Absent if the file is not to be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    problems: Vec<ProblemDetail>,
}

/// One thing that is wrong with the file.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProblemDetail {
    /// `note`, `warning` or `error`.
    severity: String,
    /// The server it belongs to; absent when it concerns the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// Where it stands, as far as that is known.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
    message: String,
    /// What to do about it. May be empty.
    remedy: String,
}

/// Where something stands.
#[derive(Debug, Serialize, JsonSchema)]
struct Place {
    file: String,
    line: usize,
    column: usize,
    /// The keys that lead there.
    path: String,
}

/// How the last reload went.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastReload {
    at_unix_ms: u64,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    problems: Vec<ProblemDetail>,
}

/// The configuration in short.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigBrief {
    path: String,
    loaded_at_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reload: Option<LastReload>,
}

/// The configuration that holds.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConfigDetail {
    path: String,
    /// Whether the file is watched for changes.
    watched: bool,
    servers: Vec<Entry>,
    /// The names of the profiles.
    profiles: Vec<String>,
    loaded_at_unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_reload: Option<LastReload>,
    /// Settings that were loaded and hold after a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Plan>,
}

/// One server's entry.
#[derive(Debug, Serialize, JsonSchema)]
struct Entry {
    name: String,
    /// Where what it connects to is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Place>,
}

impl Place {
    fn of(origin: &Origin) -> Self {
        Self {
            file: shown(&origin.file),
            line: origin.line,
            column: origin.column,
            path: origin.path.clone(),
        }
    }
}

impl ProblemDetail {
    fn of(problem: &ConfigProblem) -> Self {
        Self {
            severity: problem.severity.to_string(),
            server: problem.server.as_deref().map(ToOwned::to_owned),
            place: problem.origin.as_ref().map(Place::of),
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
        }
    }

    fn all(problems: &[ConfigProblem]) -> Vec<Self> {
        problems.iter().map(Self::of).collect()
    }
}

impl LastReload {
    fn of(reloaded: &Arc<Reloaded>) -> Self {
        Self {
            at_unix_ms: reloaded.at_unix_ms,
            ok: reloaded.ok,
            plan: reloaded.plan.clone(),
            problems: ProblemDetail::all(&reloaded.problems),
        }
    }
}

impl ConfigBrief {
    /// `None`: Mainstay was not started from a file.
    pub(super) fn of(gateway: &Gateway) -> Option<Self> {
        let life = gateway.config_life()?;
        let state = life.state();
        Some(Self {
            path: shown(life.path()),
            loaded_at_unix_ms: state.loaded_at_unix_ms,
            last_reload: state.last.as_ref().map(LastReload::of),
        })
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn entry(server: &ServerConfig) -> Entry {
    let problems = server.problems().iter();
    let mut origins = server
        .templates()
        .into_iter()
        .filter_map(|template| template.origin())
        .chain(problems.filter_map(|problem| problem.origin.as_ref()));
    Entry {
        name: server.name.clone(),
        origin: origins.next().map(Place::of),
    }
}

fn life(gateway: &Gateway) -> Result<Arc<ConfigLife>, Problem> {
    gateway.config_life().ok_or_else(|| Problem {
        status: StatusCode::NOT_FOUND,
        message: "this Mainstay was not started from a configuration file".to_owned(),
        hint: None,
    })
}

async fn config(State(gateway): State<Gateway>) -> Response {
    let life = match life(&gateway) {
        Ok(life) => life,
        Err(problem) => return problem.into_response(),
    };
    let state = life.state();
    let settings = gateway.manager().settings();
    json_of(&ConfigDetail {
        path: shown(life.path()),
        watched: settings.watch.is_some(),
        profiles: settings.profiles.keys().cloned().collect(),
        servers: state.config.servers.iter().map(entry).collect(),
        loaded_at_unix_ms: state.loaded_at_unix_ms,
        last_reload: state.last.as_ref().map(LastReload::of),
        pending: life.pending(),
    })
}

async fn reload(State(gateway): State<Gateway>, body: Bytes) -> Response {
    let life = match life(&gateway) {
        Ok(life) => life,
        Err(problem) => return problem.into_response(),
    };
    let asked: Result<ReloadBody, _> = match &*body {
        [] => Ok(ReloadBody::default()),
        body => serde_json::from_slice(body),
    };
    let ReloadBody { dry_run } = match asked {
        Ok(asked) => asked,
        Err(error) => {
            let message = format!("the body cannot be understood: {error}");
            return Problem::new(StatusCode::BAD_REQUEST, message).into_response();
        }
    };
    let answer = |reloaded: &Reloaded| ReloadAnswer {
        ok: reloaded.ok,
        dry_run,
        plan: reloaded.plan.clone(),
        problems: ProblemDetail::all(&reloaded.problems),
    };
    let answer = if dry_run {
        answer(&life.rehearse().await)
    } else {
        // In a task of its own: who asked may leave, and what was begun is brought to its end and remembered.
        let reloading = tokio::spawn(async move { life.reload(Trigger::Asked).await });
        match reloading.await {
            Ok(reloaded) => answer(&reloaded),
            Err(failed) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Problem::new(status, failed.to_string()).into_response();
            }
        }
    };
    let status = if answer.ok {
        StatusCode::OK
    } else {
        StatusCode::UNPROCESSABLE_ENTITY
    };
    json_with(status, &answer)
}
