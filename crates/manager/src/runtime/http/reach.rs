//! Whether an address can be reached at all: its name, a connection, TLS, and any HTTP answer.
//!
//! Goes the way that the link would go (proxy, certificates), and speaks no MCP: it changes nothing at the server and
//! proves nothing about it.

use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::Phase;

use super::body::Payload;
use super::client::{Client, Target};
use super::lookup::Lookup;
use super::route::Route;

/// Asks for the head of `url` and returns the HTTP status, whichever it is. Headers of the entry are not sent: a status of
/// refusal is as good an answer. Cancel-safe.
///
/// # Errors
/// `BadConfig` for an address, a proxy or a file of certificates that cannot be used; `Unreachable`, `BadCertificate`,
/// `StreamClosed` or `ConnectTimeout` when no answer came.
pub(crate) async fn reach(url: &str, route: &Route, wait: Duration) -> Result<u16, Failure> {
    let mut target = Target::parse(url)?;
    target.hide(&[], route.proxy.as_deref());
    let client = Client::new(&target, route, &Lookup::new(None), wait)?;
    let mut request = http::Request::new(Payload::Empty.body(None));
    *request.method_mut() = http::Method::HEAD;
    *request.uri_mut() = target.uri().clone();
    match tokio::time::timeout(wait, client.send(request)).await {
        Ok(Ok(response)) => Ok(response.status().as_u16()),
        Ok(Err(failure)) => Err(scrubbed(&target, failure)),
        Err(_late) => Err(Failure::new(FailureKind::ConnectTimeout(Phase::Spawn))
            .with_detail(format!("no answer within {} ms", wait.as_millis()))),
    }
}

/// What a library says may quote the address, with what is secret in it (law 31).
fn scrubbed(target: &Target, failure: Failure) -> Failure {
    match &failure.detail {
        Some(detail) => {
            let detail = target.scrub(detail);
            failure.with_detail(detail)
        }
        None => failure,
    }
}
