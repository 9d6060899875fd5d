//! Calls that wait between two requests of their client, and the sealed text by which the client finds its call again.
//!
//! A parked call belongs to whoever brings its state: unchanged, in time, for the same endpoint, method and parameters, and
//! for the round that was asked last. Anything else changes nothing for it. Bounded in number and in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay::Principal;
use mainstay_wire::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::conversation::Conversation;
use super::digest;
use super::inputs::Kind;
use super::signin::Wanted;
use crate::serve::Shared;
use crate::serve::endpoint::Routed;
use crate::serve::fault::Fault;
use crate::serve::seal::{Purpose, Sealer};

/// What `requestState` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The parked call.
    call: u128,
    /// The endpoint: a server's name, or nothing for the aggregate.
    at: String,
    /// The fingerprint of method and parameters.
    asks: String,
    /// Whose call it is; `None`: nobody's in particular.
    principal: Option<String>,
    until_unix_ms: u64,
    round: u32,
    /// Makes every state another one.
    random: u128,
}

/// What a client came back with: a state that is its own, in time and for this very request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    call: u128,
    round: u32,
    random: u128,
}

/// Whether a text was sealed here as a request state, whatever it says.
pub(crate) fn is_ours(sealer: &Sealer, state: &str) -> bool {
    sealer.unseal(Purpose::RequestState, state).is_some()
}

/// Reads the state that came with a request.
///
/// # Errors
/// What is wrong with it, for the client.
pub(crate) fn ticket(sealer: &Sealer, state: &str, bound: Bound<'_>) -> Result<Ticket, Fault> {
    ticket_at(sealer, state, bound, now_ms())
}

/// What a request must have in common with the one that was parked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound<'p> {
    /// The endpoint: a server's name, or nothing for the aggregate.
    pub(crate) at: &'p str,
    /// The request as the client sent it.
    pub(crate) request: &'p Message,
    /// Whose request it is; `None`: nobody's in particular.
    pub(crate) principal: Option<&'p Principal>,
}

fn ticket_at(sealer: &Sealer, state: &str, bound: Bound<'_>, now_ms: u64) -> Result<Ticket, Fault> {
    let Bound {
        at,
        request,
        principal,
    } = bound;
    let wrong = |what: &str| Fault::params(format!("`params.requestState` {what}"));
    // Somebody else's is told nothing else than one that never was.
    let state: State = sealer
        .unseal(Purpose::RequestState, state)
        .and_then(|payload| serde_json::from_slice(&payload).ok())
        .filter(|state: &State| state.principal.as_deref() == principal.map(Principal::name))
        .ok_or_else(|| {
            wrong("is none that was handed out here; start the call again without it")
        })?;
    if state.at != at {
        return Err(wrong("belongs to another endpoint"));
    }
    if state.asks != digest::of_request(request) {
        return Err(wrong(
            "belongs to another request: method and parameters must stay the same",
        ));
    }
    if state.until_unix_ms <= now_ms {
        return Err(wrong("has expired; start the call again without it"));
    }
    Ok(Ticket {
        call: state.call,
        round: state.round,
        random: state.random,
    })
}

/// What waits.
pub(crate) enum Waiting {
    /// A call on its way.
    Call(Box<Conversation>),
    /// A call that is to be made again when the user has been to these addresses, as entries of `inputRequests`.
    Visits(Vec<String>),
    /// A call that is to be made when somebody has signed in to its server.
    SignIn(Box<Stopped>),
    /// A call that is made when the client's user has approved it, as entries of `inputRequests`. It is this very request:
    /// principal, endpoint, method and parameters are bound by its state.
    Approval {
        entries: Vec<String>,
        until: Instant,
    },
}

/// A call that was not made for want of a sign-in.
pub(crate) struct Stopped {
    /// The call as it was to be made.
    pub(crate) routed: Routed,
    /// What is missing.
    pub(crate) wanted: Wanted,
    /// What the client was asked, as an entry of `inputRequests`.
    pub(crate) entry: String,
}

/// What is parked, with its place.
pub(crate) struct Held {
    pub(crate) seat: Seat,
    pub(crate) waiting: Waiting,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("round", &self.seat.round)
            .finish_non_exhaustive()
    }
}

type Claim = oneshot::Sender<oneshot::Sender<Held>>;

/// All parked calls of a gateway.
#[derive(Debug)]
pub(crate) struct Parked {
    table: Mutex<HashMap<u128, Entry>>,
    count_max: usize,
    expiry: Duration,
}

#[derive(Debug)]
struct Entry {
    round: u32,
    random: u128,
    questions: Arc<[(String, Kind)]>,
    /// Where it was parked, whose it is, and what its client declared: calls with the same may be in each other's way.
    kin: (Box<str>, Option<Principal>, Box<str>),
    since: Instant,
    /// None while a request of the client attends to the call.
    claim: Option<Claim>,
}

impl Parked {
    /// An empty table for at most `count_max` calls, each of which is given up after `expiry`.
    pub(crate) fn new(count_max: usize, expiry: Duration) -> Self {
        Self {
            table: Mutex::default(),
            count_max,
            expiry,
        }
    }

    /// How many calls are parked or attended to after that.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// The questions that a ticket answers.
    ///
    /// # Errors
    /// Why there is nothing to answer, for the client.
    pub(crate) fn questions(&self, ticket: Ticket) -> Result<Arc<[(String, Kind)]>, Fault> {
        let table = self.lock();
        let entry = fitting(&table, ticket)?;
        Ok(Arc::clone(&entry.questions))
    }

    /// Takes the call of a ticket; of two that come at once, one gets it.
    ///
    /// # Errors
    /// As for [`Parked::questions`].
    pub(crate) async fn claim(&self, ticket: Ticket) -> Result<Held, Fault> {
        let (sender, held) = oneshot::channel();
        {
            let mut table = self.lock();
            fitting(&table, ticket)?;
            let claim = table
                .get_mut(&ticket.call)
                .and_then(|entry| entry.claim.take());
            // It fails only if the keeper has just given the call up.
            if claim.is_none_or(|claim| claim.send(sender).is_err()) {
                return Err(gone());
            }
        }
        held.await.map_err(|_given_up| gone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fitting(table: &HashMap<u128, Entry>, ticket: Ticket) -> Result<&Entry, Fault> {
    let entry = table.get(&ticket.call).ok_or_else(gone)?;
    if (entry.round, entry.random) != (ticket.round, ticket.random) {
        return Err(Fault::params(
            "`params.requestState` was used already; answer what was asked last",
        ));
    }
    if entry.claim.is_none() {
        return Err(Fault::params(
            "another request with this `params.requestState` is being served",
        ));
    }
    Ok(entry)
}

/// The call of a state does not exist any more.
fn gone() -> Fault {
    Fault::params(
        "the call of this `params.requestState` does not wait any more (it ended, it expired, or Mainstay was restarted); \
         start the call again without it",
    )
}

/// A place in the table; given back when dropped.
pub(crate) struct Seat {
    parked: Arc<Parked>,
    call: u128,
    pub(crate) round: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.parked.lock().remove(&self.call);
    }
}

impl Seat {
    /// A place for a call that is to be parked. `None`: all are taken.
    pub(crate) fn take(parked: &Arc<Parked>) -> Option<Self> {
        let (call, random) = (random()?, random()?);
        let mut table = parked.lock();
        if table.len() >= parked.count_max || table.contains_key(&call) {
            return None;
        }
        let entry = Entry {
            round: 0,
            random,
            questions: Arc::new([]),
            kin: Default::default(),
            since: Instant::now(),
            claim: None,
        };
        table.insert(call, entry);
        drop(table);
        Some(Self {
            parked: Arc::clone(parked),
            call,
            round: 0,
        })
    }
}

/// What a parked call is found by, and what it asks.
pub(crate) struct Parking<'p> {
    pub(crate) questions: Vec<(String, Kind)>,
    pub(crate) bound: Bound<'p>,
    /// What the client declared.
    pub(crate) capabilities: &'p str,
}

/// Parks a call for its next round and seals the state by which it is found. The outcome is that state.
///
/// # Errors
/// Nothing can be sealed; the call is given up.
pub(crate) fn park(
    shared: &Arc<Shared>,
    mut held: Held,
    parking: Parking<'_>,
) -> Result<String, Fault> {
    let Parking {
        questions,
        bound,
        capabilities,
    } = parking;
    let Bound {
        at,
        request,
        principal,
    } = bound;
    let expiry = held.seat.parked.expiry;
    held.seat.round += 1;
    let state = State {
        call: held.seat.call,
        at: at.to_owned(),
        asks: digest::of_request(request),
        principal: principal.map(|whose| whose.name().to_owned()),
        until_unix_ms: now_ms()
            .saturating_add(u64::try_from(expiry.as_millis()).unwrap_or(u64::MAX)),
        round: held.seat.round,
        random: random().ok_or_else(|| unsealed("the system gave no random bytes"))?,
    };
    let payload = serde_json::to_vec(&state).map_err(unsealed)?;
    let sealed = shared
        .sealer
        .seal(Purpose::RequestState, &payload)
        .map_err(unsealed)?;
    let (claim, claimed) = oneshot::channel();
    if let Some(entry) = held.seat.parked.lock().get_mut(&held.seat.call) {
        *entry = Entry {
            round: state.round,
            random: state.random,
            questions: questions.into(),
            kin: (at.into(), principal.cloned(), capabilities.into()),
            since: Instant::now(),
            claim: Some(claim),
        };
    }
    let keeper = Keeper {
        until: Instant::now() + expiry,
        yields: Duration::from_millis(shared.settings.parked_yield_ms),
        ending: shared.ending.clone(),
    };
    shared.tasks.spawn(keeper.keep(held, claimed));
    Ok(sealed)
}

/// Keeps one parked call.
struct Keeper {
    until: Instant,
    yields: Duration,
    ending: CancellationToken,
}

impl Keeper {
    async fn keep(self, mut held: Held, mut claimed: oneshot::Receiver<oneshot::Sender<Held>>) {
        let mut look = Instant::now() + self.yields;
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a channel keeps its value.
                claimed = &mut claimed => {
                    if let Ok(reply) = claimed {
                        // Whoever claimed it may have left meanwhile: then the call is cancelled, as by any disconnect.
                        drop(reply.send(held));
                    }
                    return;
                }
                // Never resolves; cancel-safe.
                () = held.waiting.idle() => {}
                // Cancel-safe: sleeps and tokens hold nothing.
                () = tokio::time::sleep_until(self.until) => return give_up(held).await,
                () = self.ending.cancelled() => return,
                () = tokio::time::sleep_until(look) => {
                    if held.is_in_the_way() {
                        return give_up(held).await;
                    }
                    look = Instant::now() + LOOK;
                }
            }
        }
    }
}

/// How often a parked call looks whether it is in the way of others.
const LOOK: Duration = Duration::from_millis(250);

impl Held {
    /// Whether others wait for its connection, and none of its kind is parked longer.
    fn is_in_the_way(&self) -> bool {
        let Waiting::Call(conversation) = &self.waiting else {
            return false;
        };
        if !conversation.is_in_the_way() {
            return false;
        }
        let table = self.seat.parked.lock();
        let Some(own) = table.get(&self.seat.call) else {
            return false;
        };
        table
            .values()
            .filter(|other| other.claim.is_some() && other.kin == own.kin)
            .all(|other| other.since >= own.since)
    }
}

/// Nobody came back in time. The place is given away first, so that nobody finds a call that is about to end.
async fn give_up(held: Held) {
    let Held { seat, waiting } = held;
    drop(seat);
    match waiting {
        Waiting::Call(mut conversation) => conversation.expire().await,
        Waiting::Visits(_) | Waiting::SignIn(_) | Waiting::Approval { .. } => {}
    }
}

impl Waiting {
    async fn idle(&mut self) {
        match self {
            Self::Call(conversation) => conversation.idle().await,
            Self::Visits(_) | Self::SignIn(_) | Self::Approval { .. } => {
                std::future::pending().await
            }
        }
    }
}

fn unsealed(error: impl std::fmt::Display) -> Fault {
    Fault::new(
        mainstay_wire::codes::INTERNAL_ERROR,
        format!("the server asks for input, and its question cannot be sealed: {error}"),
    )
}

fn random() -> Option<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(u128::from_ne_bytes(bytes))
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mainstay_wire::Limits;

    fn request(name: &str) -> Message {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}"}}}}"#
        );
        Message::parse(Bytes::from(text), &Limits::default()).unwrap()
    }

    fn state() -> State {
        State {
            call: u128::MAX,
            at: "s".to_owned(),
            asks: digest::of_request(&request("t")),
            principal: None,
            until_unix_ms: 1_000,
            round: 1,
            random: 5,
        }
    }

    fn sealed(sealer: &Sealer, state: &State) -> String {
        let payload = serde_json::to_vec(state).unwrap();
        sealer.seal(Purpose::RequestState, &payload).unwrap()
    }

    #[test]
    fn f256_every_part_of_a_state_counts() {
        let sealer = Sealer::ephemeral().unwrap();
        let good = sealed(&sealer, &state());
        let read_as = |principal: Option<&Principal>, text: &str, at: &str, name: &str, now_ms| {
            let bound = Bound {
                at,
                request: &request(name),
                principal,
            };
            ticket_at(&sealer, text, bound, now_ms)
        };
        let read = |text: &str, at: &str, name: &str, now_ms| read_as(None, text, at, name, now_ms);
        let ticket = read(&good, "s", "t", 999).unwrap();
        assert_eq!(
            ticket,
            Ticket {
                call: u128::MAX,
                round: 1,
                random: 5
            }
        );
        let refused = |result: Result<Ticket, Fault>, words: &str| {
            let fault = result.unwrap_err();
            assert_eq!(fault.code, -32_602);
            assert!(fault.message.contains(words), "{} / {words}", fault.message);
        };
        refused(read(&good, "other", "t", 999), "another endpoint");
        refused(read(&good, "s", "u", 999), "another request");
        refused(read(&good, "s", "t", 1_000), "expired");
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        let of_ann = State {
            principal: Some("ann".to_owned()),
            ..state()
        };
        let of_ann = sealed(&sealer, &of_ann);
        let unknown = "none that was handed out here";
        assert_eq!(
            read_as(ann.as_ref(), &of_ann, "s", "t", 999).unwrap(),
            ticket
        );
        refused(read_as(bob.as_ref(), &of_ann, "s", "t", 999), unknown);
        refused(read(&of_ann, "s", "t", 999), unknown);
        refused(read_as(bob.as_ref(), &good, "s", "t", 999), unknown);
        // Forged: other bytes, other keys, other purposes, no seal at all.
        let foreign = sealed(&Sealer::ephemeral().unwrap(), &state());
        let payload = serde_json::to_vec(&state()).unwrap();
        let session = sealer.seal(Purpose::Session, &payload).unwrap();
        let nothing = sealer.seal(Purpose::RequestState, b"{}").unwrap();
        let tampered = format!("{good}-TAMPERED");
        for forged in [
            "",
            "x",
            tampered.as_str(),
            &good[1..],
            &good[..good.len() - 1],
            &foreign,
            &session,
            &nothing,
        ] {
            refused(read(forged, "s", "t", 999), "none that was handed out here");
        }
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert!(read(&forged, "s", "t", 999).is_err(), "byte {at}");
        }
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let parked = Arc::new(Parked::new(2, Duration::from_secs(1)));
        let seats: Vec<_> = std::iter::from_fn(|| Seat::take(&parked)).take(5).collect();
        assert_eq!((seats.len(), parked.count()), (2, 2));
        drop(seats);
        assert_eq!(parked.count(), 0, "F231: nothing is left behind");
    }
}
