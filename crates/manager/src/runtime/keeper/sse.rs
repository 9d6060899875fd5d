//! The keeper of a connection over HTTP+SSE (2024-11-05), and the choice between the two HTTP transports.
//!
//! The specification's order: streamable HTTP first; an address that refuses `initialize` with 400, 404 or 405 is asked for
//! an event stream, and an `endpoint` event on it settles the matter. What worked is remembered, and tried first from then
//! on; if it works no more, the other one is tried once in the same generation.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::effect::StopStep;
use mainstay_core::lifecycle::input::{Input, Phase};
use mainstay_wire::envelope::Message;
use mainstay_wire::method;
use mainstay_wire::revision::Era;

use super::{Orders, Setup, http, list_and_report, probe, restore, runtime, send_notices};
use crate::config::HttpKind;
use crate::runtime::http::{HttpLink, NoStream};
use crate::runtime::refresh::refresh;
use crate::runtime::sse::{SseLink, listen};
use crate::runtime::{Link, Runtime, handshake};
use crate::settings;

/// How long an address that refused streamable HTTP may take to prove that it speaks the older transport.
const DETECT: Duration = Duration::from_secs(15);

/// Keeps a connection over whichever HTTP transport the server speaks.
pub(super) async fn keep_either(setup: Setup, kind: HttpKind) {
    let connecting = http::connect(&setup);
    let mut orders = setup.orders.clone();
    let stopped = orders.wait_for(|orders| !matches!(orders.stop, None | Some(StopStep::Drain)));
    let connected = tokio::select! {
        // Dropped only when nobody wants the connection any more; whatever fetches a token goes on.
        connected = connecting => connected,
        // Cancel-safe: a watch is a level. A driver that is gone wants nothing.
        _stopped = stopped => return,
    };
    let link = match connected {
        Ok(link) => Arc::new(link),
        Err(failure) => return report_failed(&setup, failure).await,
    };
    let fixed = settings::fixed_era(&setup.config);
    match (kind, fixed) {
        (HttpKind::Sse, Some(Era::Modern)) => {
            let detail = "`type` is `sse`, which only servers of the legacy era speak, and `protocol` is `modern`";
            report_failed(
                &setup,
                Failure::new(FailureKind::BadConfig).with_detail(detail),
            )
            .await;
        }
        (HttpKind::Sse, _) => {
            if let Some(failure) = keep(&setup, &link, None).await {
                report_failed(&setup, failure).await;
            }
        }
        (HttpKind::Auto, Some(Era::Modern)) => {
            if let Some(failure) = http::keep(&setup, &link).await {
                report_failed(&setup, failure).await;
            }
        }
        (HttpKind::Auto, _) if setup.slot.over_sse() => {
            if keep(&setup, &link, None).await.is_some() {
                setup.slot.set_over_sse(false);
                if let Some(failure) = http::keep(&setup, &link).await {
                    report_failed(&setup, failure).await;
                }
            }
        }
        (HttpKind::Auto, _) => {
            if let Some(failure) = http::keep(&setup, &link).await
                && keep(&setup, &link, Some(DETECT)).await.is_some()
            {
                // What streamable HTTP said is the better explanation: it is what the entry asks for first.
                report_failed(&setup, failure).await;
            }
        }
    }
    http::leave(&setup, &link).await;
}

async fn report_failed(setup: &Setup, failure: Failure) {
    let generation = setup.generation;
    setup
        .reports
        .input(Input::OpenFailed {
            generation,
            failure,
        })
        .await;
}

/// How the work of a generation ended.
enum Outcome {
    /// This is no HTTP+SSE server.
    NotOffered(Failure),
    /// Opening failed.
    Failed(Failure),
    /// The stream of an opened generation ended.
    Ended(Failure),
}

/// Keeps a connection over HTTP+SSE. `Some`: the address does not speak it, and nothing has been reported of that; `None`:
/// the generation is over. `detecting` bounds the wait for the proof that it does.
async fn keep(setup: &Setup, http: &Arc<HttpLink>, detecting: Option<Duration>) -> Option<Failure> {
    let generation = setup.generation;
    let link = Arc::new(SseLink::new(Arc::clone(http)));
    let (runtime, notices) = runtime(setup, Link::Sse(Arc::clone(&link)));
    let mut orders = setup.orders.clone();
    let mut obeyed = Orders::default();
    let mut told_drained = false;
    let mut worked = false;
    let mut work = pin!(work(setup, &runtime, &link, detecting));
    let mut saying = pin!(send_notices(&runtime, notices));
    let mut drained = pin!(runtime.leases.drained());
    loop {
        tokio::select! {
            // Cancel-safe: pinned; it ends once, and that is reported once (F236).
            outcome = &mut work, if !worked => {
                worked = true;
                match outcome {
                    Outcome::NotOffered(failure) => return Some(failure),
                    Outcome::Failed(failure) => report_failed(setup, failure).await,
                    Outcome::Ended(failure) => {
                        tracing::debug!(server = %runtime.server, generation = generation.0, %failure, "event stream ended");
                        // Everybody in flight learns it now; the successor needs no permission to end their waiting.
                        runtime.fail(failure);
                        // The stream is the session of this transport, and proxies cut quiet ones as a matter of course
                        // (F123): a new one by the fast path (law 26), charged unless the connection was proven.
                        setup.reports.input(Input::SessionLost { generation }).await;
                    }
                }
            }
            // Cancel-safe: pinned.
            () = &mut saying => {}
            // Cancel-safe: level-triggered.
            () = &mut drained, if !told_drained && obeyed.stop == Some(StopStep::Drain) => {
                told_drained = true;
                setup.reports.input(Input::Drained { generation }).await;
            }
            // Cancel-safe: a watch is a level.
            changed = orders.changed() => {
                obeyed = orders.borrow_and_update().clone();
                if changed.is_err() || !matches!(obeyed.stop, None | Some(StopStep::Drain)) {
                    break;
                }
            }
        }
    }
    runtime.fail(runtime.failure());
    // Leaving drops the stream of this generation.
    None
}

/// Opens, and then works until it is dropped or the stream ends.
async fn work(
    setup: &Setup,
    runtime: &Arc<Runtime>,
    link: &SseLink,
    detecting: Option<Duration>,
) -> Outcome {
    let generation = setup.generation;
    setup
        .reports
        .input(Input::Phase {
            generation,
            phase: Phase::Greet,
        })
        .await;
    let opening = link.open();
    let opened = match detecting {
        None => opening.await,
        Some(limit) => match tokio::time::timeout(limit, opening).await {
            Ok(opened) => opened,
            Err(_elapsed) => {
                let detail = format!("no `endpoint` event within {} ms", limit.as_millis());
                let failure = Failure::new(FailureKind::NotMcp).with_detail(detail);
                return Outcome::NotOffered(failure);
            }
        },
    };
    let stream = match opened {
        Ok(stream) => stream,
        Err(NoStream::NotOffered(failure)) => return Outcome::NotOffered(failure),
        Err(NoStream::Failed(failure)) => return Outcome::Failed(failure),
    };
    let mut opened = false;
    let serve = async {
        let greeting = greet(setup, runtime, link).await?;
        let doubted = list_and_report(setup, runtime, &greeting).await?;
        opened = true;
        tokio::join!(
            refresh(setup, runtime, doubted),
            probe(setup, runtime),
            restore(&setup.slot.events, runtime)
        );
        Err::<(), _>(runtime.failure())
    };
    let ended = tokio::select! {
        // Cancel-safe: dropped together with the generation; it never ends well by itself.
        failed = serve => failed.err(),
        // Cancel-safe: its end is the end of the generation.
        failure = listen(stream, runtime) => Some(failure),
    };
    let failure = ended.unwrap_or_else(|| runtime.failure());
    if opened {
        Outcome::Ended(failure)
    } else {
        Outcome::Failed(failure)
    }
}

/// The handshake. No request goes out before `notifications/initialized` was accepted (F40).
async fn greet(
    setup: &Setup,
    runtime: &Arc<Runtime>,
    link: &SseLink,
) -> Result<super::Greeting, Failure> {
    // The core's own deadline is the one that counts; this one only bounds a greeting that outlives it.
    let within = Duration::from_millis(setup.config.timeouts.connect_ms);
    let greeting = handshake::initialize(runtime, within).await?;
    link.agree(greeting.revision);
    link.notify(Message::notification(method::INITIALIZED, None))
        .await
        .map_err(|failure| {
            let detail = format!("{} was refused: {failure}", method::INITIALIZED);
            // A session that is lost before it was ever used is a server problem, not a renewal.
            let lost = failure.kind == FailureKind::SessionLost;
            let kind = if lost {
                FailureKind::ProtocolError
            } else {
                failure.kind
            };
            Failure {
                kind,
                detail: Some(detail.into()),
                ..failure
            }
        })?;
    runtime.greeted(greeting.clone());
    setup.slot.set_over_sse(true);
    Ok(greeting)
}
