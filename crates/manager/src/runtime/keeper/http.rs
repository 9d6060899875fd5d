//! The keeper of a connection over HTTP: greet, list, hold the push stream, and leave politely.

use std::pin::pin;
use std::sync::Arc;

use mainstay_core::failure::Failure;
use mainstay_core::lifecycle::effect::StopStep;
use mainstay_core::lifecycle::input::{Input, Phase};

use super::{Orders, Setup, list_and_report, probe, runtime, send_notices};
use crate::runtime::http::{HttpLink, HttpSetup, PushEnd, Window};
use crate::runtime::refresh::refresh;
use crate::runtime::{Link, Runtime};
use crate::settings;

/// See [`super::keep`].
pub(super) async fn keep(setup: Setup) {
    let generation = setup.generation;
    let link = match connect(&setup) {
        Ok(link) => Arc::new(link),
        Err(failure) => {
            return setup
                .reports
                .input(Input::OpenFailed {
                    generation,
                    failure,
                })
                .await;
        }
    };
    let (runtime, notices) = runtime(&setup, Link::Http(Arc::clone(&link)));
    let mut orders = setup.orders.clone();
    let mut obeyed = Orders::default();
    let mut told_drained = false;
    {
        let mut work = pin!(work(&setup, &runtime, &link));
        let mut worked = false;
        let mut saying = pin!(send_notices(&runtime, notices));
        let mut drained = pin!(runtime.leases.drained());
        loop {
            tokio::select! {
                // Cancel-safe: pinned; it ends only when opening failed, and that is reported once.
                failure = &mut work, if !worked => {
                    worked = true;
                    setup.reports.input(Input::OpenFailed { generation, failure }).await;
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
        // Leaving the block drops the streams of this generation.
    }
    runtime.fail(runtime.failure());
    leave(&link, &mut orders).await;
}

/// Ends the session on the server, unless a kill order says that there is no time for it. Its failure changes nothing
/// (law 4).
async fn leave(link: &HttpLink, orders: &mut tokio::sync::watch::Receiver<Orders>) {
    let killed = orders.wait_for(|orders| orders.stop == Some(StopStep::Kill));
    tokio::select! {
        // Bounded by the link's own deadline; dropping it only leaves the session to expire on the server.
        () = link.close() => {}
        // Cancel-safe: a watch is a level. A driver that is gone counts as a kill.
        _killed = killed => {}
    }
}

fn connect(setup: &Setup) -> Result<HttpLink, Failure> {
    let resolved = settings::resolve_endpoint(&setup.config)?;
    HttpLink::new(HttpSetup {
        headers: resolved.headers,
        limits: setup.link_limits(),
        connect_ms: setup
            .config
            .timeouts
            .tcp_connect_ms
            .min(setup.config.timeouts.spawn_ms),
        route: resolved.route,
        pauses: Arc::clone(&setup.pauses),
        window: Window {
            min_ms: setup.config.restart.retry_after_min_ms,
            max_ms: setup.config.restart.retry_after_max_ms,
        },
        ..HttpSetup::new(resolved.url)
    })
}

/// Opens, and then works until it is dropped. Returns only if opening failed.
async fn work(setup: &Setup, runtime: &Arc<Runtime>, link: &Arc<HttpLink>) -> Failure {
    let generation = setup.generation;
    setup
        .reports
        .input(Input::Phase {
            generation,
            phase: Phase::Greet,
        })
        .await;
    let hint = setup.slot.era.hint(settings::fixed_era(&setup.config));
    let greeting = match link
        .greet(
            &setup.slot.ids,
            hint,
            setup.config.timeouts.probe_ms,
            &**runtime,
        )
        .await
    {
        Ok(greeting) => greeting,
        Err(failure) => {
            setup.slot.era.set(None);
            return failure;
        }
    };
    runtime.greeted(greeting.clone());
    // Beside the listing, not after it: a change in between must not be missed (law 23).
    let push = async {
        match link
            .push(&greeting, &**runtime, &|| runtime.dirty.doubt())
            .await
        {
            PushEnd::Unsupported => {
                tracing::debug!(server = %runtime.server, "the server has no push stream; changes are found on reconnect")
            }
            PushEnd::SessionLost => runtime.session_lost(),
        }
        std::future::pending::<Failure>().await
    };
    let serve = async {
        let doubted = match list_and_report(setup, runtime, &greeting).await {
            Ok(doubted) => doubted,
            Err(failure) => return failure,
        };
        tokio::join!(refresh(setup, runtime, doubted), probe(setup, runtime));
        runtime.failure()
    };
    tokio::select! {
        // Cancel-safe: both are dropped together with the generation.
        failure = serve => failure,
        // Cancel-safe: never ends; dropping it closes the stream.
        failure = push => failure,
    }
}
