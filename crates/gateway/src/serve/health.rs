//! `/healthz` and `/readyz`, for whoever watches Mainstay itself.

use http::StatusCode;
use mainstay_wire::Parts;
use serde_json::json;

use super::Shared;
use super::body::{self, Reply};

/// The process is up and answers.
pub(crate) fn healthz() -> Reply {
    body::json(StatusCode::OK, Parts::from(r#"{"status":"ok"}"#.to_owned()))
}

/// Every server that is `required` is connected; otherwise 503 with which are not, and why (F21).
///
/// One that starts on demand and rests is as ready as it ever will be before somebody calls it: to ask for more would keep
/// away the very calls that start it.
pub(crate) fn readyz(shared: &Shared) -> Reply {
    let required = shared
        .manager
        .servers()
        .into_iter()
        .filter(mainstay::ServerHandle::required);
    let missing: Vec<_> = required
        .map(|server| server.status())
        .filter(|status| !matches!(status.state, "connected" | "idle"))
        .map(|status| {
            json!({
                "name": status.name,
                "state": status.state,
                "reason": status.word,
                "cause": status.last_failure,
                "hint": status.hint,
                "nextAttemptInMs": status.next_attempt_in_ms,
            })
        })
        .collect();
    if missing.is_empty() {
        return body::json(
            StatusCode::OK,
            Parts::from(r#"{"status":"ready"}"#.to_owned()),
        );
    }
    let text = json!({ "status": "not ready", "missing": missing }).to_string();
    body::json(StatusCode::SERVICE_UNAVAILABLE, Parts::from(text))
}
