//! The keeper of a connection over HTTP: greet, list, hold the push stream, and leave politely.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};
use mainstay_core::lifecycle::effect::StopStep;
use mainstay_core::lifecycle::input::{Input, OpenMode, Phase};

use super::{Orders, Setup, list_and_report, probe, restore, runtime, send_notices};
use crate::config::Push;
use crate::runtime::freshness::PushState;
use crate::runtime::greeting::Greeting;
use crate::runtime::http::{HttpLink, HttpSetup, PushEnd, Reread, Window};
use crate::runtime::refresh::refresh;
use crate::runtime::{Link, Runtime};
use crate::settings;

/// When a connection is tried again whose token took longer than its own time, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Keeps a connection over streamable HTTP. `Some`: it is not one, and nothing has been reported of that; `None`: the
/// generation is over, except for [`leave`].
pub(super) async fn keep(setup: &Setup, link: &Arc<HttpLink>) -> Option<Failure> {
    let generation = setup.generation;
    let (runtime, notices) = runtime(setup, Link::Http(Arc::clone(link)));
    let mut orders = setup.orders.clone();
    let mut obeyed = Orders::default();
    let mut told_drained = false;
    {
        let mut work = pin!(work(setup, &runtime, link));
        let mut worked = false;
        let mut saying = pin!(send_notices(&runtime, notices));
        let mut drained = pin!(runtime.leases.drained());
        loop {
            tokio::select! {
                // Cancel-safe: pinned; it ends only when opening failed, and that is reported once.
                failure = &mut work, if !worked => {
                    worked = true;
                    if link.may_be_old() {
                        return Some(failure);
                    }
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
    None
}

/// Ends the session on the server, unless a kill order says that there is no time for it. Its failure changes nothing
/// (law 4).
pub(super) async fn leave(setup: &Setup, link: &HttpLink) {
    let mut orders = setup.orders.clone();
    let killed = orders.wait_for(|orders| orders.stop == Some(StopStep::Kill));
    tokio::select! {
        // Bounded by the link's own deadline; dropping it only leaves the session to expire on the server.
        () = link.close() => {}
        // Cancel-safe: a watch is a level. A driver that is gone counts as a kill.
        _killed = killed => {}
    }
}

pub(super) async fn connect(setup: &Setup) -> Result<HttpLink, Failure> {
    let resolved = settings::look_up_endpoint(&setup.config, Some(&setup.guardian)).await?;
    let credentials = setup.office.credentials(
        &setup.config,
        &resolved.url,
        setup.slot.principal(),
        &setup.slot,
        &setup.reports,
    );
    let link = HttpLink::new(HttpSetup {
        credentials,
        reread: reread(setup),
        headers: resolved.headers,
        limits: setup.link_limits(),
        push_idle_ms: setup.config.timeouts.push_idle_ms,
        connect_ms: setup
            .config
            .timeouts
            .tcp_connect_ms
            .min(setup.config.timeouts.spawn_ms),
        route: resolved.route,
        // A host that has enough of one principal may have nothing against the others.
        pauses: match &setup.slot.account {
            Some(account) => Arc::clone(&account.pauses),
            None => Arc::clone(&setup.pauses),
        },
        window: Window {
            min_ms: setup.config.restart.retry_after_min_ms,
            max_ms: setup.config.restart.retry_after_max_ms,
        },
        ..HttpSetup::new(resolved.url)
    })?;
    // Before the greeting, whose time is the server's (F205). What takes longer than this goes on, and the next attempt,
    // which nobody is charged for, finds it done.
    let timeouts = &setup.config.timeouts;
    let within = Duration::from_millis(timeouts.spawn_ms.min(timeouts.connect_ms) / 2);
    match tokio::time::timeout(within, link.ready()).await {
        Ok(ready) => ready.map(|()| link),
        Err(_elapsed) => Err(Failure::new(FailureKind::SignInDelayed)
            .with_detail(format!(
                "its authorization server has given no token within {} ms; the answer is still awaited",
                within.as_millis()
            ))
            .with_retry_after_ms(RETRY_MS)),
    }
}

/// Looks the headers up again when the server refuses them, if any of them is kept elsewhere.
fn reread(setup: &Setup) -> Option<Reread> {
    settings::has_kept_headers(&setup.config).then(|| {
        let (config, guardian) = (Arc::clone(&setup.config), Arc::clone(&setup.guardian));
        Reread::new(move || {
            let (config, guardian) = (Arc::clone(&config), Arc::clone(&guardian));
            async move { settings::headers_now(&config, &guardian).await }
        })
    })
}

/// Does a part of opening whose clock stands still while a token is fetched: that has a bound of its own, and the deadline
/// of the whole attempt still holds (F205).
async fn unhurried<T>(setup: &Setup, link: &HttpLink, work: impl Future<Output = T>) -> T {
    let timeouts = &setup.config.timeouts;
    let often_ms = timeouts.greet_ms.min(timeouts.list_ms) / 4;
    let often = Duration::from_millis(often_ms.clamp(10, 1_000));
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(often, &mut work).await {
            Ok(done) => return done,
            Err(_elapsed) if link.waits_for_token() => {
                let generation = setup.generation;
                setup.reports.input(Input::Life { generation }).await;
            }
            Err(_elapsed) => {}
        }
    }
}

/// Called once per generation, when it has been greeted and before it lists or serves: whatever the former generation had
/// agreed on with the server is agreed on again from here (law 25).
fn just_greeted(setup: &Setup, runtime: &Runtime, greeting: &Greeting) {
    runtime.greeted(greeting.clone());
    runtime.set_push(match setup.config.push {
        Push::Auto => PushState::Opening,
        Push::Off => PushState::Off,
    });
    if setup.mode == OpenMode::Fresh {
        // Should this generation end without a word now, it was the listing that hung (F32).
        setup.slot.era.listing(greeting.revision.era());
    }
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
    link.declare(runtime.declare(), runtime.introduce());
    let hint = setup.slot.era.hint(settings::fixed_era(&setup.config));
    setup.slot.era.greeting();
    let probe_ms = setup.config.timeouts.probe_ms;
    let greeting = link.greet(&setup.slot.ids, hint, probe_ms, &**runtime);
    let greeted = unhurried(setup, link, greeting).await;
    // What is remembered corrects itself in the next attempt, so an outage need not be forgotten for.
    setup.slot.era.no_verdict();
    let greeting = match greeted {
        Ok(greeting) => greeting,
        Err(failure) => return failure,
    };
    just_greeted(setup, runtime, &greeting);
    // Beside the listing, not after it: a change in between must not be missed (law 23).
    let push = async {
        if setup.config.push == Push::Auto {
            match link.push(&greeting, &**runtime, &**runtime).await {
                PushEnd::Unsupported => runtime.set_push(PushState::Unsupported),
                PushEnd::Refused => runtime.set_push(PushState::Refused),
                PushEnd::SessionLost => runtime.session_lost(),
            }
        }
        std::future::pending::<Failure>().await
    };
    let serve = async {
        let listing = list_and_report(setup, runtime, &greeting);
        let doubted = match unhurried(setup, link, listing).await {
            Ok(doubted) => doubted,
            Err(failure) => {
                setup.slot.era.no_verdict();
                // A session that is lost before it was ever of use went to another instance (F107).
                return if failure.kind == FailureKind::SessionLost {
                    Failure {
                        kind: FailureKind::SessionUnstable,
                        ..failure
                    }
                } else {
                    failure
                };
            }
        };
        tokio::join!(
            refresh(setup, runtime, doubted),
            probe(setup, runtime),
            restore(&setup.slot.events, runtime)
        );
        runtime.failure()
    };
    tokio::select! {
        // Cancel-safe: both are dropped together with the generation.
        failure = serve => failure,
        // Cancel-safe: never ends; dropping it closes the stream.
        failure = push => failure,
    }
}
