//! How a call finds its connection among several, and keeps it.
//!
//! Level-triggered and cancel-safe throughout: a caller that leaves gives back what it held (law 1).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_core::lifecycle::status::StateWord;
use mainstay_wire::method;
use mainstay_wire::revision::Era;
use tokio::time::Instant;

use super::lanes::{Lane, Lanes, Taken};
use super::{Hold, Key, Way, subject};
use crate::call::{Caller, gone};
use crate::driver::{Desk, Place};
use crate::error::{CallError, Refusal};
use crate::request::{CallOptions, Request};
use crate::slot::Slot;

/// A call's place on one of a server's further connections. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Seat {
    hold: Hold,
    _lane: Option<Lane>,
}

impl Seat {
    /// The connection.
    pub(crate) fn place(&self) -> &Place {
        self.hold.place()
    }
}

/// How long a call may take to find its connection.
#[derive(Debug, Clone, Copy)]
struct Until {
    /// For a connection.
    patience: Instant,
    /// For its turn.
    deadline: Instant,
    started: Instant,
}

impl Until {
    fn of(slot: &Slot, options: &CallOptions, started: Instant) -> Self {
        let config = slot.config.load();
        let timeouts = &config.timeouts;
        let total = options
            .total
            .unwrap_or(Duration::from_millis(timeouts.call_total_ms));
        let patience = options.patience;
        let patience = patience.unwrap_or_else(|| Duration::from_millis(slot.edge_patience_ms()));
        Self {
            patience: started + patience.min(total),
            deadline: started + total,
            started,
        }
    }
}

/// Sees to it that there is a connection for a client, and holds it for a moment.
///
/// # Errors
/// A typed refusal.
pub(crate) async fn connect(shared: &Place, desk: &Desk, way: &Way) -> Result<Hold, CallError> {
    let options = CallOptions::default();
    let until = Until::of(&shared.slot, &options, Instant::now());
    let hold = connection(shared, desk, way, &way.key, &options, until).await?;
    bring(&hold, way, &options, until).await;
    Ok(hold)
}

/// Finds a place for a call: opens a connection if there is none, and waits for its turn where one serves one client at a
/// time. All of that is our time, not the server's (law 19).
///
/// # Errors
/// A typed refusal: nothing was sent.
pub(crate) async fn seat(
    shared: &Place,
    desk: &Desk,
    way: &Way,
    options: &CallOptions,
    started: Instant,
) -> Result<Seat, CallError> {
    let slot = &shared.slot;
    let until = Until::of(slot, options, started);
    let client = options
        .client
        .as_ref()
        .and_then(|face| face.client.as_ref())
        .or(way.client.as_ref());
    let mut lanes_max = Max {
        lanes: slot.config.load().connections.lanes,
        beyond: true,
    };
    // A connection for one client alone needs no turns.
    let turns = way.key.client.is_none();
    let lanes = turns.then(|| slot.family.lanes(&way.key));
    loop {
        let lane = match &lanes {
            Some(lanes) => Some(turn(slot, &way.key, lanes, client, lanes_max, until).await?),
            None => None,
        };
        let at = lane.as_ref().map_or(0, |lane| lane.at);
        match connection(shared, desk, way, &way.key.at(at), options, until).await {
            Ok(hold) => {
                bring(&hold, way, options, until).await;
                return Ok(Seat { hold, _lane: lane });
            }
            // Then the lanes there are have to do.
            Err(CallError::Refused(
                Refusal::TooManyConnections { .. } | Refusal::TooManyConnectionsOfUser { .. },
            )) if at > 0 => {
                lanes_max = Max {
                    lanes: slot.family.lanes_of(&way.key).clamp(1, at),
                    beyond: false,
                };
            }
            Err(error) => return Err(error),
        }
    }
}

/// Brings what the caller proved itself with, or whoever the way was made for, if that is of use there.
async fn bring(hold: &Hold, way: &Way, options: &CallOptions, until: Until) {
    let face = options.client.as_ref();
    let own = face.filter(|face| face.principal.is_some() && face.principal == way.key.principal);
    let place = hold.place();
    if let Some(brought) = subject::of(&place.slot, own).or(way.subject.as_ref()) {
        // Boxed: what few calls need must not make the state of every call larger.
        Box::pin(subject::bring(place, brought, until.patience)).await;
    }
}

/// How many lanes there may be.
#[derive(Debug, Clone, Copy)]
struct Max {
    lanes: usize,
    /// One more for each that only waits for its client, who may take minutes or never come back.
    beyond: bool,
}

impl Max {
    fn now(self, slot: &Slot, key: &Key) -> usize {
        if !self.beyond {
            return self.lanes;
        }
        let waits = |place: &Arc<Place>| {
            let runtime = place.slot.current.load();
            runtime
                .as_ref()
                .is_some_and(|runtime| runtime.waits_for_clients())
        };
        let lanes = slot.family.lanes_at(key);
        self.lanes + lanes.iter().filter(|place| waits(place)).count()
    }
}

/// How often whoever waits looks whether others have begun to wait for their clients.
const LOOK: Duration = Duration::from_secs(1);

/// Waits for a lane that serves this client.
async fn turn(
    slot: &Slot,
    key: &Key,
    lanes: &Arc<Lanes>,
    client: Option<&Arc<str>>,
    max: Max,
    until: Until,
) -> Result<Lane, CallError> {
    if !slot.family.asked.load(Ordering::Acquire) {
        return Ok(lanes.join(client));
    }
    let limit = slot.config.load().waiting;
    if lanes.waiting() >= limit {
        let refusal = Refusal::TooManyWaiting {
            server: (&*slot.name).into(),
            state: slot.view.borrow().status.state.word(),
            limit,
        };
        return Err(CallError::Refused(refusal));
    }
    let mut wait = match lanes.take(client, max.lanes) {
        Taken::Now(lane) => return Ok(lane),
        Taken::Later(wait) => wait,
    };
    let mut view = slot.view.subscribe();
    let over = view.wait_for(|view| {
        view.shutting_down || view.status.state == StateWord::Disabled || is_off(slot)
    });
    let mut over = std::pin::pin!(over);
    loop {
        let refusal = tokio::select! {
            // Cancel-safe: a place that has come goes on to the next when it is dropped.
            Ok(lane) = &mut wait => return Ok(lane),
            // Cancel-safe: a level.
            Ok(view) = &mut over => if view.shutting_down || slot.is_removed() {
                gone(slot)
            } else {
                Refusal::Disabled { server: (&*slot.name).into() }
            },
            // Cancel-safe: sleeps hold nothing.
            () = tokio::time::sleep_until(until.deadline) => Refusal::DeadlineInQueue {
                server: (&*slot.name).into(),
                waited_ms: u64::try_from(until.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            },
            () = tokio::time::sleep(LOOK), if max.beyond => {
                lanes.allow(max.now(slot, key));
                continue;
            }
        };
        return Err(CallError::Refused(refusal));
    }
}

/// Holds the connection of a key, which the driver opens if there is none.
async fn connection(
    shared: &Place,
    desk: &Desk,
    way: &Way,
    key: &Key,
    options: &CallOptions,
    until: Until,
) -> Result<Hold, CallError> {
    let slot = &shared.slot;
    if let Some(hold) = slot.family.find(key).as_ref().and_then(Hold::take) {
        return Ok(hold);
    }
    if slot.is_removed() {
        return Err(CallError::Refused(gone(slot)));
    }
    if is_off(slot) {
        let server = (&*slot.name).into();
        return Err(CallError::Refused(Refusal::Disabled { server }));
    }
    let state = slot.view.borrow().status.state;
    // A principal has an account of its own: what parked the server for others need not concern it.
    let parked = state == StateWord::Parked && key.principal.is_none();
    if parked || state == StateWord::Disabled {
        // Whatever parked the server would park this one too: its caller is told what every other is, and at most this
        // one attempt follows.
        era_of(shared, options).await?;
    }
    let wanted = desk.derive(slot.id, key.clone(), way);
    match tokio::time::timeout_at(until.patience, wanted).await {
        Ok(answer) => answer.map_err(CallError::Refused),
        // A place was to become free, and did not.
        Err(_elapsed) => Err(CallError::Refused(too_many(slot))),
    }
}

/// Law 5: from the order on, not from the moment in which the last process has gone.
fn is_off(slot: &Slot) -> bool {
    slot.family.off.load(Ordering::Acquire)
}

/// No place for a further connection.
pub(crate) fn too_many(slot: &Slot) -> Refusal {
    Refusal::TooManyConnections {
        server: (&*slot.name).into(),
        limit: slot.config.load().connections.max,
    }
}

/// Waits for the shared connection as a call does, and says which era it speaks.
///
/// # Errors
/// What a call would be told.
pub(crate) async fn era_of(shared: &Place, options: &CallOptions) -> Result<Era, CallError> {
    let request = Request::new(method::PING, None);
    let caller = Caller::new(&shared.slot, &shared.reports, &request, options);
    caller.era().await
}
