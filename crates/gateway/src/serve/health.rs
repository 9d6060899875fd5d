//! `/healthz`, `/readyz` and `/metrics`, for whoever watches Mainstay itself.

use http::{HeaderValue, StatusCode, header};
use mainstay_wire::Parts;
use serde_json::json;

use super::body::{self, Reply};
use super::{Gateway, Shared};
use crate::telemetry::metrics;

/// What Prometheus reads.
pub(crate) fn metrics(gateway: &Gateway) -> Reply {
    match metrics::render(gateway) {
        Ok(text) => {
            let mut reply = body::plain(StatusCode::OK, text);
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            reply.headers_mut().insert(header::CONTENT_TYPE, kind);
            reply
        }
        // Writing to a string does not fail; a label that cannot be encoded would.
        Err(error) => body::plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// `/healthz` or `/readyz`. `is_open`: whoever asks may hear what is amiss, not only whether something is.
pub(crate) fn answer(shared: &Shared, path: &str, is_open: bool) -> Reply {
    match path {
        "/healthz" => healthz(),
        _readyz => readyz(shared, is_open),
    }
}

/// The process is up and answers.
fn healthz() -> Reply {
    body::json(StatusCode::OK, Parts::from(r#"{"status":"ok"}"#.to_owned()))
}

/// Every server that is `required` is connected; otherwise 503 with which are not, and why (F21).
///
/// One that starts on demand and rests is as ready as it ever will be before somebody calls it: to ask for more would keep
/// away the very calls that start it.
fn readyz(shared: &Shared, is_open: bool) -> Reply {
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
    let text = match is_open {
        true => json!({ "status": "not ready", "missing": missing }),
        false => json!({ "status": "not ready" }),
    };
    let text = text.to_string();
    body::json(StatusCode::SERVICE_UNAVAILABLE, Parts::from(text))
}
