//! What became of calls, over the admin API: the last ones, and every new one as it ends.
//!
//! Records hold no arguments and no results, unless the config asks for arguments.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use mainstay::calls::{CallRecord, Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Route, param, refusal};
use super::dto::{ErrorBody, Lagged};
use super::{Problem, follow, json_of};
use crate::serve::Gateway;
use crate::serve::fault::shown;

/// Records that are shown when it is not said how many.
const RECENT: usize = 100;

/// The rows of calls.
pub(super) const ROUTES: &[Route] = &[Route::get(
    "/api/v1/calls",
    "getCalls",
    "The last calls; with `follow` as events, and every call as it ends.",
    || get(calls),
)
.params(&[
    param::<usize>(
        "recent",
        "How many of the last calls. Default: 100, and none with `follow`.",
    ),
    param::<String>("server", "Only those of this server."),
    param::<String>(
        "tool",
        "Only those of this tool, by its own name or the one that clients see.",
    ),
    param::<String>(
        "outcome",
        "Only those that ended so: one or more of the words, with commas between.",
    ),
    param::<String>(
        "follow",
        "Anything but `0` and `false`: go on with every new call.",
    ),
])
.json::<CallList>()
.events::<ToldCall>()
.refuses(&[refusal::<ErrorBody>(
    "400",
    "No such outcome; the hint lists those there are.",
)])];

/// What a stream of calls tells.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "says what a stream holds, whose parts are written one by one"
)]
pub(super) enum ToldCall {
    /// A call ended.
    Call(Box<CallRecord>),
    /// The reader was too slow.
    Lagged(Lagged),
}

/// Which calls are asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CallsQuery {
    recent: Option<usize>,
    server: Option<String>,
    tool: Option<String>,
    outcome: Option<String>,
    follow: Option<String>,
}

/// The last calls.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallList {
    /// Oldest first.
    #[schemars(with = "Vec<CallRecord>")]
    calls: Vec<Record>,
    /// How many calls ended since the start whose records are not in memory any more.
    dropped: u64,
}

/// A record that is shared with the ring it stands in.
#[derive(Debug)]
pub(super) struct Record(pub(super) Arc<CallRecord>);

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// Which records are wanted.
struct Wanted {
    server: Option<String>,
    tool: Option<String>,
    outcomes: Vec<Outcome>,
}

impl Wanted {
    fn of(query: &CallsQuery) -> Result<Self, Problem> {
        Ok(Self {
            server: query.server.clone(),
            tool: query.tool.clone(),
            outcomes: outcomes(query.outcome.as_deref())?,
        })
    }

    fn fits(&self, record: &CallRecord) -> bool {
        let is = |wanted: &Option<String>, there: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == there
        };
        let tool =
            is(&self.tool, record.tool.as_deref()) || is(&self.tool, record.exposed.as_deref());
        is(&self.server, Some(&record.server))
            && tool
            && (self.outcomes.is_empty() || self.outcomes.contains(&record.outcome))
    }

    /// The last of them that are still in memory, oldest first.
    fn recent(&self, gateway: &Gateway, most: usize) -> Vec<Arc<CallRecord>> {
        let manager = gateway.manager();
        let mut found = manager.recent_calls();
        found.retain(|record| self.fits(record));
        // A server keeps a few of its own, however busy the others are.
        let own = self.server.as_deref().and_then(|name| manager.server(name));
        let own = own.map(|server| server.recent_calls()).unwrap_or_default();
        let own: Vec<_> = own.into_iter().filter(|record| self.fits(record)).collect();
        if own.len() > found.len() {
            found = own;
        }
        found.drain(..found.len().saturating_sub(most));
        found
    }
}

/// The outcomes that a list of words names.
pub(super) fn outcomes(words: Option<&str>) -> Result<Vec<Outcome>, Problem> {
    words
        .unwrap_or_default()
        .split(',')
        .filter(|word| !word.is_empty())
        .map(|word| Outcome::parse(word).ok_or_else(|| no_outcome(word)))
        .collect()
}

fn no_outcome(word: &str) -> Problem {
    let known: Vec<&str> = Outcome::ALL.into_iter().map(Outcome::word).collect();
    Problem {
        hint: Some(format!("outcomes are: {}", known.join(", "))),
        ..Problem::new(
            StatusCode::BAD_REQUEST,
            format!("`{}` is no outcome", shown(word)),
        )
    }
}

/// The last calls; with `follow` as events, and then every call that ends.
async fn calls(State(gateway): State<Gateway>, Query(query): Query<CallsQuery>) -> Response {
    let wanted = match Wanted::of(&query) {
        Ok(wanted) => wanted,
        Err(problem) => return problem.into_response(),
    };
    match query.follow.as_deref() {
        None | Some("0" | "false") => {
            let made = gateway.manager().calls_made();
            let kept = gateway.manager().recent_calls().len();
            let recent = wanted.recent(&gateway, query.recent.unwrap_or(RECENT));
            json_of(&CallList {
                calls: recent.into_iter().map(Record).collect(),
                dropped: made.saturating_sub(kept as u64),
            })
        }
        Some(_) => {
            // Subscribed first: what ends in between is told twice rather than not at all.
            let live = gateway.manager().calls();
            let past = wanted.recent(&gateway, query.recent.unwrap_or(0));
            follow::records(
                &gateway,
                past,
                live,
                move |record| wanted.fits(record),
                |record| follow::json_line(&**record),
            )
        }
    }
}
