//! The journal over the admin API: looking back, also over restarts.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use mainstay::journal::{self, Kind, Page};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::{Route, param, refusal};
use super::calls::outcomes;
use super::dto::ErrorBody;
use super::{Problem, aside, json_of};
use crate::serve::Gateway;
use crate::serve::fault::shown;

/// Records that are shown when it is not said how many.
const LIMIT: usize = 1_000;

/// The rows of the journal.
pub(super) const ROUTES: &[Route] = &[Route::get(
    "/api/v1/journal",
    "readJournal",
    "What the journal on disk holds: events and calls, the newest that fit, oldest first.",
    || get(read),
)
.params(&[
    param::<String>(
        "kind",
        "`events` or `calls`. Default: both, and what the journal says of itself.",
    ),
    param::<u64>("since", "Only from then on, in milliseconds since 1970."),
    param::<u64>("until", "Only up to then, in milliseconds since 1970."),
    param::<String>("server", "Only those of this server."),
    param::<String>(
        "tool",
        "Only calls of this tool, by its own name or the one that clients see.",
    ),
    param::<String>(
        "outcome",
        "Only calls that ended so: one or more of the words, with commas between.",
    ),
    param::<usize>(
        "limit",
        "How many at most. Default: 1,000; more than 10,000 are never given.",
    ),
])
.json::<JournalPage>()
.refuses(&[
    refusal::<ErrorBody>(
        "400",
        "A word that is not known; the hint lists those there are.",
    ),
    refusal::<ErrorBody>("404", "No journal is kept."),
])];

#[derive(Debug, Default, Deserialize)]
struct JournalQuery {
    kind: Option<String>,
    since: Option<u64>,
    until: Option<u64>,
    server: Option<String>,
    tool: Option<String>,
    outcome: Option<String>,
    limit: Option<usize>,
}

/// Records of the journal.
#[derive(Debug, Serialize, JsonSchema)]
struct JournalPage {
    /// Oldest first. Each is an event or the record of a call as elsewhere in this API, with its `kind`: `event`, `call`, or
    /// `journal` for what the journal says of itself.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    records: Vec<Box<RawValue>>,
    /// There are more that fit; these are the newest.
    truncated: bool,
}

impl JournalQuery {
    fn understood(self) -> Result<journal::Query, Problem> {
        let kind = match self.kind.as_deref() {
            None => None,
            Some("events") => Some(Kind::Events),
            Some("calls") => Some(Kind::Calls),
            Some(other) => {
                return Err(Problem {
                    hint: Some("kinds are: events, calls".to_owned()),
                    ..Problem::new(
                        StatusCode::BAD_REQUEST,
                        format!("`{}` is no kind of record", shown(other)),
                    )
                });
            }
        };
        Ok(journal::Query {
            kind,
            since_unix_ms: self.since,
            until_unix_ms: self.until,
            server: self.server,
            tool: self.tool,
            outcomes: outcomes(self.outcome.as_deref())?,
            limit: Some(self.limit.unwrap_or(LIMIT)),
        })
    }
}

async fn read(State(gateway): State<Gateway>, Query(query): Query<JournalQuery>) -> Response {
    let query = match query.understood() {
        Ok(query) => query,
        Err(problem) => return problem.into_response(),
    };
    aside(move || match gateway.manager().read_journal(&query) {
        Some(Ok(Page { records, truncated })) => json_of(&JournalPage { records, truncated }),
        Some(Err(error)) => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the journal cannot be read: {error}"),
        )
        .into_response(),
        None => Problem {
            hint: Some(
                "set `mainstay.journal.enabled`, and a state directory that can be written"
                    .to_owned(),
            ),
            ..Problem::new(StatusCode::NOT_FOUND, "no journal is kept")
        }
        .into_response(),
    })
    .await
}
