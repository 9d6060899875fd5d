//! The keeper of one generation: opens it, watches it, obeys the stop order, and ends when nothing of it is left.
//!
//! One task per generation, spawned by the driver and never awaited by it. It decides nothing: it reports, and it obeys.

mod http;
mod sse;
mod stdio;

pub(crate) use self::stdio::MissingModule;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_core::failure::Failure;
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::effect::StopStep;
use mainstay_core::lifecycle::input::{Input, OpenMode, Phase, Proof};
use mainstay_core::time::Time;
use mainstay_wire::envelope::Message;
use mainstay_wire::revision::Era;
use mainstay_wire::{envelope, method};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Runtime;
use super::catalog::{Listing, list_all};
use super::greeting::Greeting;
use super::http::Pauses;
use super::report::{Report, Reports};
use super::restore::restore;
use super::{Cut, Limits, Miss};
use crate::auth::Office;
use crate::config::{ServerConfig, Transport};
use crate::driver::opener::Remains;
use crate::limits::RateGate;
use crate::pool::Beside;
use crate::process::Guardian;
use crate::request::Request;
use crate::settings;
use crate::slot::Slot;

/// Everything that a keeper needs.
pub(crate) struct Setup {
    pub(crate) slot: Arc<Slot>,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) generation: Generation,
    pub(crate) mode: OpenMode,
    pub(crate) reports: Reports,
    pub(crate) orders: watch::Receiver<Orders>,
    /// How to end what would outlive a panic.
    pub(crate) remains: Remains,
    pub(crate) guardian: Arc<Guardian>,
    pub(crate) limits: envelope::Limits,
    pub(crate) pages_max: usize,
    pub(crate) stderr_bytes_max: usize,
    pub(crate) caps: crate::config::Limits,
    pub(crate) pauses: Arc<Pauses>,
    pub(crate) office: Arc<Office>,
}

impl Setup {
    /// The limits of what a link takes in. Of any depth: the runtime judges it, because a listing is judged item by item
    /// (law 24, F247). Reading costs one bit a level, and no stack.
    pub(crate) fn link_limits(&self) -> envelope::Limits {
        envelope::Limits {
            depth_max: usize::MAX,
            ..self.limits
        }
    }
}

/// What the driver wants of a generation. A level, not a queue: a keeper that is busy sees the newest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    /// The stop step in force, if any.
    pub(crate) stop: Option<StopStep>,
    /// How often a probe was ordered.
    pub(crate) probes: u64,
    /// Traffic from here on (the driver's milliseconds) makes the newest probe unnecessary.
    pub(crate) probe_since_ms: u64,
    /// How often a kill was ordered: a repeated one is carried out again.
    pub(crate) kills: u64,
}

/// Keeps one generation from its first moment to its last. Its supervisor reports `Gone` when this returns.
pub(crate) async fn keep(setup: Setup) {
    let generation = setup.generation;
    match &setup.config.transport {
        Transport::Stdio { .. } => stdio::keep(setup).await,
        Transport::Http { kind, .. } => {
            let kind = *kind;
            sse::keep_either(setup, kind).await;
        }
        Transport::Broken { .. } => {
            let failure = settings::unusable(&setup.config);
            setup
                .reports
                .input(Input::OpenFailed {
                    generation,
                    failure,
                })
                .await;
        }
    }
}

/// A runtime and the queue of what it says unasked.
fn runtime(setup: &Setup, link: super::Link) -> (Arc<Runtime>, mpsc::Receiver<Message>) {
    // Cancel notices and answers to the server. Full means that it has stopped reading; further ones are dropped and
    // counted.
    let (outbound, notices) = mpsc::channel(setup.caps.notices);
    let mut runtime = Runtime::new(
        Arc::clone(&setup.slot.name),
        setup.generation,
        link,
        Arc::clone(&setup.slot.ids),
        Arc::clone(&setup.slot.counters),
        setup.reports.clone(),
        outbound,
    )
    .admitting(RateGate::new(setup.caps.requests_per_second));
    runtime.wishes = Arc::clone(&setup.slot.wishes);
    runtime.asked = Arc::clone(&setup.slot.family.asked);
    runtime.gates = Arc::clone(&setup.slot.gates);
    runtime.face = setup.slot.beside.as_ref().map(Beside::face);
    runtime.depth_max = setup.limits.depth_max;
    (runtime.shared(), notices)
}

/// Lists (unless this is a renewal, which must not wait) and reports the generation as opened. Returns a listing that is
/// not to be believed yet.
async fn list_and_report(
    setup: &Setup,
    runtime: &Arc<Runtime>,
    greeting: &Greeting,
) -> Result<Option<Listing>, Failure> {
    let generation = setup.generation;
    let mut doubted = None;
    let catalog = match setup.mode {
        OpenMode::Fresh => {
            setup
                .reports
                .input(Input::Phase {
                    generation,
                    phase: Phase::List,
                })
                .await;
            // The core's own deadline is the one that counts; this one only bounds a listing that outlives it.
            let within = Duration::from_millis(setup.config.timeouts.connect_ms);
            let listing = list_all(runtime, greeting, &setup.config, setup.pages_max, within)
                .await
                .map_err(|failure| runtime.told(failure))?;
            listing.tell_limits(setup);
            let known = setup.slot.listed.load_full();
            if listing.is_suspicious(known.as_deref()) {
                // Connected, because it has listed; what it listed is looked at again before anybody sees it (F157).
                doubted = Some(listing);
                None
            } else {
                Some(Arc::new(listing.catalog))
            }
        }
        OpenMode::Renewal => {
            // Law 26: calls wait for nothing but the handshake; the listing follows and is compared (law 25).
            runtime.dirty.doubt();
            None
        }
    };
    setup.slot.era.set(Some(greeting.revision.era()));
    if greeting.revision.era() == Era::Modern
        && setup.slot.beside.as_ref().and_then(|beside| beside.key.era) == Some(Era::Legacy)
    {
        // It was asked in the words of the other era, and does not know them.
        setup.slot.family.modern_only.store(true, Ordering::Relaxed);
    }
    // Before anybody can see the generation: what it was told must not be confused with what a former one was.
    runtime.wishes.begin(generation);
    let runtime = Arc::clone(runtime);
    setup
        .reports
        .send(Report::Opened {
            generation,
            runtime,
            catalog,
        })
        .await;
    Ok(doubted)
}

/// Sends what the runtime says unasked, for as long as the generation lives.
async fn send_notices(runtime: &Runtime, mut notices: mpsc::Receiver<Message>) {
    while let Some(notice) = notices.recv().await {
        runtime.tell(notice).await;
    }
}

/// Probes when ordered, and asks for a probe when a call met silence. Never ends by itself.
async fn probe(setup: &Setup, runtime: &Runtime) {
    let generation = setup.generation;
    let mut orders = setup.orders.clone();
    let mut done = orders.borrow_and_update().probes;
    loop {
        tokio::select! {
            // Cancel-safe: a watch is a level.
            changed = orders.changed() => if changed.is_err() {
                // The driver is gone, and with it whoever could order a probe.
                return std::future::pending().await;
            },
            // Cancel-safe: the permit stays.
            () = runtime.suspected() => setup.reports.input(Input::Suspect { generation }).await,
        }
        let (ordered, since_ms) = {
            let orders = orders.borrow_and_update();
            (orders.probes, orders.probe_since_ms)
        };
        if ordered == done {
            continue;
        }
        done = ordered;
        probe_once(setup, runtime, since_ms).await;
    }
}

async fn probe_once(setup: &Setup, runtime: &Runtime, since_ms: u64) {
    let generation = setup.generation;
    // What holds now: a changed setting replaces no connection (F214).
    let config = setup.slot.config.load_full();
    let timeout_ms = config
        .keepalive
        .as_ref()
        .map_or(config.suspicion.timeout_ms, |keepalive| {
            keepalive.timeout_ms
        });
    let life = runtime.last_life_ms();
    // Law 14: a link with traffic inside the window needs no probe; the answer is the traffic.
    if life > 0 && life >= since_ms {
        setup
            .reports
            .input(Input::Traffic {
                generation,
                at: Time(life),
            })
            .await;
        return;
    }
    let method = if runtime.era() == Era::Modern {
        method::DISCOVER
    } else {
        method::PING
    };
    let timeout = Duration::from_millis(timeout_ms);
    let limits = Limits {
        deadline: Instant::now() + timeout,
        idle: timeout,
    };
    let answered = runtime.ask(&Request::new(method, None), limits).await;
    let input = match answered {
        // Law 15: an error is an answer too (F192).
        Ok(_) => Input::Proof {
            generation,
            proof: Proof::ProbeAnswered,
        },
        Err(Miss::Rejected(_) | Miss::Doubted(_)) => Input::Traffic {
            generation,
            at: setup.reports.now(),
        },
        Err(Miss::Lost(Cut::AnswerRefused(_) | Cut::Cancelled(_))) => Input::Proof {
            generation,
            proof: Proof::ProbeAnswered,
        },
        // Law 15: throttling is an answer, and a host that asked to be left alone is left alone (F102).
        Err(Miss::NotSent(Cut::Ended(failure)) | Miss::Lost(Cut::Ended(failure)))
            if failure.kind.is_a_wait() =>
        {
            Input::Traffic {
                generation,
                at: setup.reports.now(),
            }
        }
        Err(Miss::NotSent(_) | Miss::Lost(Cut::Idle | Cut::Total | Cut::Ended(_))) => {
            Input::ProbeMissed { generation }
        }
    };
    setup.reports.input(input).await;
}
