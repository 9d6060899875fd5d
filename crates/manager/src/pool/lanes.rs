//! Whose turn it is on connections that can serve one client at a time.
//!
//! On a stream that calls share, a question of the server does not say which call it belongs to. So once a server has
//! asked something, each of its connections serves one client at a time, and the others get another one or wait, first
//! come, first served. This is only the account: which lane is which connection is not its business.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Calls of a client that may still join it on its lane although others wait for one. Enough for a client that has to call
/// something before it can answer a question; and an end, so that nobody waits for ever behind one that never stops.
const OVERTAKES_MAX: usize = 16;

/// The lanes of callers with the same capabilities.
#[derive(Default)]
pub(crate) struct Lanes(Mutex<State>);

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What names a client may be all that it takes to speak as that client (law 31).
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    seats: Vec<Seat>,
    /// Those who wait, in the order in which they came. Bounded by whoever lets calls wait.
    queue: VecDeque<Waiting>,
    /// Seats that may be used.
    max: usize,
}

/// One lane. Free when it has no calls.
#[derive(Default)]
struct Seat {
    calls: usize,
    /// The client that all of its calls come from; `None`: one caller without a name, or several clients.
    client: Option<Arc<str>>,
    /// Calls that joined while others waited.
    overtakes: usize,
}

struct Waiting {
    client: Option<Arc<str>>,
    turn: oneshot::Sender<Lane>,
}

/// One call's place on a lane. Dropping it gives the place to whoever waits longest.
#[derive(Debug)]
pub(crate) struct Lane {
    lanes: Arc<Lanes>,
    /// Which lane.
    pub(crate) at: usize,
}

impl Drop for Lane {
    fn drop(&mut self) {
        let granted = {
            let mut state = self.lanes.lock();
            if let Some(seat) = state.seats.get_mut(self.at) {
                seat.calls = seat.calls.saturating_sub(1);
            }
            self.lanes.serve(&mut state)
        };
        // Outside the lock: what finds nobody any more comes back here.
        granted.into_iter().for_each(hand_over);
    }
}

fn hand_over((turn, lane): (oneshot::Sender<Lane>, Lane)) {
    drop(turn.send(lane));
}

/// What a call gets.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A place.
    Now(Lane),
    /// A place in the queue. Dropping it leaves the queue; a place that has come meanwhile goes on to the next.
    Later(oneshot::Receiver<Lane>),
}

impl Lanes {
    /// A place that is shared with whoever else comes this way.
    pub(crate) fn join(self: &Arc<Self>, client: Option<&Arc<str>>) -> Lane {
        self.lock().enter(0, client);
        self.lane(0)
    }

    /// A place on a lane that serves nobody but this client (`None`: nobody but this call), of which there may be `max`.
    pub(crate) fn take(self: &Arc<Self>, client: Option<&Arc<str>>, max: usize) -> Taken {
        let mut state = self.lock();
        state.max = max.max(1);
        state.queue.retain(|waiting| !waiting.turn.is_closed());
        let at = if state.queue.is_empty() {
            state.seat_for(client)
        } else {
            state.overtake(client)
        };
        if let Some(at) = at {
            state.enter(at, client);
            return Taken::Now(self.lane(at));
        }
        let (turn, wait) = oneshot::channel();
        let client = client.cloned();
        state.queue.push_back(Waiting { client, turn });
        // Others may have left, or there may be more lanes than before.
        let granted = self.serve(&mut state);
        drop(state);
        granted.into_iter().for_each(hand_over);
        Taken::Later(wait)
    }

    /// Lets there be so many lanes from now on, and seats whoever waits for one.
    pub(crate) fn allow(self: &Arc<Self>, max: usize) {
        let mut state = self.lock();
        state.max = max.max(1);
        let granted = self.serve(&mut state);
        drop(state);
        granted.into_iter().for_each(hand_over);
    }

    /// Calls that wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Seats whoever can be seated, in order.
    fn serve(self: &Arc<Self>, state: &mut State) -> Vec<(oneshot::Sender<Lane>, Lane)> {
        let mut granted = Vec::new();
        state.queue.retain(|waiting| !waiting.turn.is_closed());
        while let Some(first) = state.queue.front() {
            let Some(at) = state.seat_for(first.client.as_ref()) else {
                break;
            };
            let Some(Waiting { client, turn }) = state.queue.pop_front() else {
                break;
            };
            state.enter(at, client.as_ref());
            granted.push((turn, self.lane(at)));
        }
        granted
    }

    fn lane(self: &Arc<Self>, at: usize) -> Lane {
        Lane {
            lanes: Arc::clone(self),
            at,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The lane that serves this client already, else the first free one.
    fn seat_for(&self, client: Option<&Arc<str>>) -> Option<usize> {
        let max = self.max.max(1);
        let free = || {
            let mut usable = self.seats.iter().take(max);
            let free = usable.position(|seat| seat.calls == 0);
            free.or_else(|| (self.seats.len() < max).then_some(self.seats.len()))
        };
        self.own(client).or_else(free)
    }

    /// The lane that serves this client and nobody else.
    fn own(&self, client: Option<&Arc<str>>) -> Option<usize> {
        let mut usable = self.seats.iter().take(self.max.max(1));
        usable.position(|seat| seat.calls > 0 && client.is_some() && seat.client.as_ref() == client)
    }

    /// The client's own lane, if it may stay there a little longer although others wait.
    fn overtake(&mut self, client: Option<&Arc<str>>) -> Option<usize> {
        let at = self.own(client)?;
        let seat = self.seats.get_mut(at)?;
        seat.overtakes += 1;
        (seat.overtakes <= OVERTAKES_MAX).then_some(at)
    }

    fn enter(&mut self, at: usize, client: Option<&Arc<str>>) {
        if self.seats.len() <= at {
            self.seats.resize_with(at + 1, Seat::default);
        }
        if let Some(seat) = self.seats.get_mut(at) {
            if seat.calls == 0 {
                seat.client = client.cloned();
                seat.overtakes = 0;
            } else if seat.client.as_ref() != client {
                seat.client = None;
            }
            seat.calls += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Option<Arc<str>> {
        Some(name.into())
    }

    fn now(lanes: &Arc<Lanes>, who: &Option<Arc<str>>, max: usize) -> Lane {
        match lanes.take(who.as_ref(), max) {
            Taken::Now(lane) => lane,
            Taken::Later(_) => panic!("has to wait"),
        }
    }

    fn later(lanes: &Arc<Lanes>, who: &Option<Arc<str>>, max: usize) -> oneshot::Receiver<Lane> {
        match lanes.take(who.as_ref(), max) {
            Taken::Now(_) => panic!("does not have to wait"),
            Taken::Later(mut wait) => {
                assert!(wait.try_recv().is_err());
                wait
            }
        }
    }

    #[test]
    fn one_client_shares_a_lane_with_itself_and_with_nobody_else() {
        let lanes = Arc::new(Lanes::default());
        let (a, b) = (client("a"), client("b"));
        let first = now(&lanes, &a, 2);
        let second = now(&lanes, &a, 2);
        let other = now(&lanes, &b, 2);
        assert_eq!((first.at, second.at, other.at), (0, 0, 1));
        let mut waits = later(&lanes, &None, 2);
        drop(first);
        assert!(waits.try_recv().is_err(), "a still has a call there");
        drop(second);
        let nameless = waits.try_recv().unwrap();
        assert_eq!(nameless.at, 0);
        let mut another = later(&lanes, &None, 2);
        assert!(another.try_recv().is_err(), "a nameless call is alone");
        drop(nameless);
        assert_eq!(another.try_recv().unwrap().at, 0);
    }

    #[test]
    fn law_19_turns_come_in_the_order_of_the_calls_and_nobody_is_overtaken() {
        let lanes = Arc::new(Lanes::default());
        let (a, b) = (client("a"), client("b"));
        let first = now(&lanes, &a, 1);
        let mut of_b = later(&lanes, &b, 1);
        // The client that has the lane may finish what it is about, and not stay for ever.
        let more: Vec<Lane> = (0..OVERTAKES_MAX).map(|_| now(&lanes, &a, 1)).collect();
        let mut of_a = later(&lanes, &a, 1);
        let mut again_b = later(&lanes, &b, 1);
        assert_eq!(lanes.waiting(), 3);
        drop(first);
        assert!(of_b.try_recv().is_err());
        drop(more);
        let held = of_b.try_recv().unwrap();
        assert!(of_a.try_recv().is_err() && again_b.try_recv().is_err());
        drop(held);
        drop(of_a.try_recv().unwrap());
        assert!(again_b.try_recv().is_ok());
    }

    #[test]
    fn law_1_whoever_leaves_the_queue_loses_no_turn_for_the_others() {
        let lanes = Arc::new(Lanes::default());
        let first = now(&lanes, &client("a"), 1);
        let leaves = later(&lanes, &client("b"), 1);
        let leaves_late = later(&lanes, &client("c"), 1);
        let mut stays = later(&lanes, &client("d"), 1);
        drop(leaves);
        drop(first);
        assert!(stays.try_recv().is_err(), "it is c's turn");
        // The turn had come, and nobody took it.
        drop(leaves_late);
        assert!(stays.try_recv().is_ok());
        assert_eq!(lanes.waiting(), 0);
        let _again = now(&lanes, &None, 1);
    }

    #[test]
    fn calls_from_before_the_first_question_count_too() {
        let lanes = Arc::new(Lanes::default());
        let (a, b) = (client("a"), client("b"));
        let before = lanes.join(a.as_ref());
        let too = lanes.join(b.as_ref());
        assert_eq!((before.at, too.at), (0, 0));
        // Two clients are on lane 0: neither of them may go on there.
        let next = now(&lanes, &a, 2);
        assert_eq!(next.at, 1);
        drop((before, too));
        assert_eq!(now(&lanes, &b, 2).at, 0);
    }

    #[test]
    fn fewer_lanes_than_before_are_kept_to_and_more_are_used() {
        let lanes = Arc::new(Lanes::default());
        let first = now(&lanes, &client("a"), 4);
        let second = now(&lanes, &client("b"), 4);
        drop(second);
        let mut waits = later(&lanes, &client("c"), 1);
        let _fourth = later(&lanes, &client("d"), 1);
        assert!(waits.try_recv().is_err());
        let Taken::Later(mut third) = lanes.take(client("e").as_ref(), 4) else {
            panic!("out of turn");
        };
        assert_eq!(waits.try_recv().unwrap().at, 1);
        assert_eq!(third.try_recv().unwrap().at, 3);
        drop(first);
    }
}
