//! The legacy handshake over a link that correlates answers by itself.

use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::input::Phase;
use mainstay_wire::method;
use mainstay_wire::revision::{Era, Revision};
use mainstay_wire::views::{ErrorView, InitializeResult};
use tokio::time::Instant;

use super::greeting::Greeting;
use super::{Cut, Limits, Miss, Runtime};
use crate::request::Request;

/// Asks a server to initialize. `notifications/initialized` is the caller's to send.
///
/// # Errors
/// What the server answered instead, or why it did not.
pub(crate) async fn initialize(runtime: &Runtime, within: Duration) -> Result<Greeting, Failure> {
    let params = format!(
        "{{\"protocolVersion\":\"{}\",\"capabilities\":{},\"clientInfo\":{}}}",
        Revision::LATEST_LEGACY.as_str(),
        runtime.declare(),
        runtime.introduce()
    );
    let request = Request::new(method::INITIALIZE, Some(&params));
    let limits = Limits {
        deadline: Instant::now() + within,
        idle: within,
    };
    let answer = runtime.ask(&request, limits).await.map_err(failure_of)?;
    let Some(result) = answer.result() else {
        let words = ErrorView::of(&answer)
            .map_or_else(|| "an unreadable error".to_owned(), |error| error.message);
        return Err(Failure::new(FailureKind::ProtocolError)
            .with_detail(format!("initialize was refused: {words}")));
    };
    let view = InitializeResult::read(result).map_err(|error| {
        Failure::new(FailureKind::ProtocolError).with_detail(format!("initialize: {error}"))
    })?;
    match view
        .revision()
        .filter(|revision| revision.era() == Era::Legacy)
    {
        Some(revision) => Ok(Greeting::from_initialize(revision, view)),
        None => Err(
            Failure::new(FailureKind::VersionMismatch).with_detail(format!(
                "the server wants protocol version `{}`, which Mainstay does not know",
                view.protocol_version
            )),
        ),
    }
}

/// Why a greeting got no answer, on whatever transport.
pub(crate) fn failure_of(miss: Miss) -> Failure {
    match miss {
        Miss::NotSent(Cut::Ended(failure))
        | Miss::Rejected(failure)
        | Miss::Doubted(failure)
        | Miss::Lost(Cut::Ended(failure)) => failure,
        Miss::NotSent(Cut::Idle | Cut::Total) | Miss::Lost(Cut::Idle | Cut::Total) => {
            Failure::new(FailureKind::ConnectTimeout(Phase::Greet))
        }
        Miss::NotSent(Cut::AnswerRefused(why) | Cut::Cancelled(why))
        | Miss::Lost(Cut::AnswerRefused(why) | Cut::Cancelled(why)) => {
            Failure::new(FailureKind::ProtocolError).with_detail(why)
        }
    }
}
