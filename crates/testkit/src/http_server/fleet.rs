//! Several replicas behind one address, and the load balancer in front of them: which replica a request reaches.
//!
//! Replicas share the ledger and the script, and nothing else: a session lives at the replica that opened it.

use axum::body::Body;
use axum::http::{HeaderMap, Response};

use super::script::{Eras, Script};
use super::service::header;
use super::state::State;

/// The balancer's own cookie.
const COOKIE: &str = "lb";

/// The replica that a request reaches: the one that its cookie names, else any one.
pub(crate) fn route(state: &State, headers: &HeaderMap) -> usize {
    let replicas = state.script().replicas;
    if replicas <= 1 {
        return 0;
    }
    let pinned = header(headers, "cookie").and_then(|cookies| {
        cookies
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == COOKIE)
            .and_then(|(_, value)| value.parse::<usize>().ok())
    });
    match pinned.filter(|replica| *replica < replicas) {
        Some(replica) => replica,
        // As good as random, and the same in every run.
        None => (state.turn().wrapping_mul(2_654_435_761) >> 16) % replicas,
    }
}

/// Tells the client to stay at its replica, if the balancer does that.
pub(crate) fn pin(script: &Script, replica: usize, response: &mut Response<Body>) {
    if script.replicas > 1
        && script.sticky
        && let Ok(value) = format!("{COOKIE}={replica}; Path=/; HttpOnly").parse()
    {
        response.headers_mut().append("set-cookie", value);
    }
}

/// The eras that a replica serves.
pub(crate) fn eras(script: &Script, replica: usize) -> Eras {
    script
        .replica_eras
        .get(replica)
        .copied()
        .unwrap_or(script.eras)
}
