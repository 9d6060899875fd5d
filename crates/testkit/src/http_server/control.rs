//! Remote control of a running fake server, for tests in other languages.
//!
//! `GET /ledger` reads the counters, `GET /seen` the requests, `POST /script` replaces the script, and `POST /forget`,
//! `/release`, `/end-streams` do what they say. `/changed` tells clients that the tools changed.

use axum::body::Body;
use axum::http::Response;
use bytes::Bytes;

use super::service::plain;
use super::state::State;

pub(crate) fn serve(state: &State, path: &str, body: &Bytes) -> Response<Body> {
    match path {
        "/ledger" => json(&state.ledger.counts()),
        "/seen" => json(&state.ledger.seen()),
        "/script" if body.is_empty() => json(&*state.script()),
        "/script" => match serde_json::from_slice(body) {
            Ok(script) => {
                *state.script() = script;
                ok()
            }
            Err(error) => plain(400, "text/plain", &format!("not a script: {error}")),
        },
        "/forget" => {
            state.forget_sessions();
            ok()
        }
        "/release" => {
            state.release();
            ok()
        }
        "/end-streams" => {
            state.end_streams();
            ok()
        }
        "/changed" => {
            state.tell_changed("tools");
            ok()
        }
        other => plain(
            404,
            "text/plain",
            &format!(
                "nothing at {other}; try /mcp, /ledger, /seen, /script, /forget, /release, /end-streams, /changed"
            ),
        ),
    }
}

fn ok() -> Response<Body> {
    plain(200, "text/plain", "ok")
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(text) => plain(200, "application/json", &text),
        Err(error) => plain(500, "text/plain", &error.to_string()),
    }
}
