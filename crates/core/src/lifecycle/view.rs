//! Looking at a lifecycle: for people ([`Lifecycle::status`]) and for the explorer ([`Lifecycle::normalised`]).

use super::state::{Connected, Keepalive, Next, Opening, State, Successor};
use super::{Lifecycle, Marks, Notes, Status};
use crate::ids::Generation;
use crate::time::Time;

impl Lifecycle {
    /// A snapshot for people and programs. `now` is only used to tell what is due.
    #[must_use]
    pub fn status(&self, now: Time) -> Status {
        let cause = self
            .state_failure()
            .or(self.notes.failure.as_ref())
            .cloned();
        let connected = match &self.state {
            State::Connected(connected) => Some(connected),
            State::Disabled(_)
            | State::Idle
            | State::Connecting(_)
            | State::Draining(_)
            | State::Backoff(_)
            | State::Parked(_) => None,
        };
        Status {
            state: self.state.word(),
            generation: self.generation(),
            since: self.notes.since,
            phase: match &self.state {
                State::Connecting(connecting) => Some(connecting.opening.phase()),
                State::Disabled(_)
                | State::Idle
                | State::Connected(_)
                | State::Draining(_)
                | State::Backoff(_)
                | State::Parked(_) => None,
            },
            step: match &self.state {
                State::Draining(draining) => Some(draining.stopping.step),
                State::Disabled(_)
                | State::Idle
                | State::Connecting(_)
                | State::Connected(_)
                | State::Backoff(_)
                | State::Parked(_) => None,
            },
            attempt: self.budget.charges().saturating_add(1),
            charges: self.budget.charges(),
            hint: cause.as_ref().map(|failure| failure.kind.hint()),
            cause,
            next: self.next_deadline(),
            next_attempt: self.next_attempt().map(|at| at.max(now)),
            proven: connected.is_some_and(|connected| connected.stable_at.is_none()),
            marks: self.marks(connected),
            opens: self.notes.opens,
            cleanup_faults: self.notes.cleanup_faults,
            cleanup_fault: self.notes.cleanup_fault.clone(),
            stale: 0,
        }
    }

    /// The same lifecycle as far as its future is concerned, for enumerating states: `now` becomes `base`, times in the
    /// past become `base`, generations are renamed by `rename` (which must keep their order), the jitter starts from
    /// `seed`, and what is only told to people is forgotten. Stepping the result does the same as stepping the
    /// original, up to the same renaming.
    #[must_use]
    pub fn normalised(
        &self,
        now: Time,
        base: Time,
        rename: &dyn Fn(Generation) -> Generation,
        seed: u64,
    ) -> Lifecycle {
        let shift = |at: Time| base + at.since(now);
        let mut copy = self.clone();
        copy.notes = Notes {
            since: base,
            ..Notes::default()
        };
        copy.seed = seed;
        copy.newest = rename(copy.newest);
        copy.open_not_before = shift(copy.open_not_before);
        copy.retry_not_before = shift(copy.retry_not_before);
        copy.slept_until = shift(copy.slept_until);
        copy.renewals = copy.renewals.normalised(now);
        copy.renewals.shift(shift);
        for old in &mut copy.retiring {
            old.generation = rename(old.generation);
            old.deadline = shift(old.deadline);
        }
        let opening = |opening: &mut Opening| {
            opening.generation = rename(opening.generation);
            if let Some(running) = &mut opening.running {
                running.phase_ends = shift(running.phase_ends).min(shift(running.total_ends));
                running.total_ends = shift(running.total_ends);
            }
        };
        match &mut copy.state {
            State::Disabled(_) | State::Idle => {}
            State::Connecting(connecting) => opening(&mut connecting.opening),
            State::Connected(connected) => {
                connected.generation = rename(connected.generation);
                connected.stable_at = connected.stable_at.map(shift);
                connected.unused_at = connected.unused_at.map(shift);
                connected.keepalive = connected.keepalive.shifted(shift);
                match &mut connected.successor {
                    Some(Successor::Opening(successor)) => opening(successor),
                    Some(Successor::Waiting { until }) => *until = until.map(shift),
                    None => {}
                }
            }
            State::Draining(draining) => {
                draining.stopping.generation = rename(draining.stopping.generation);
                draining.stopping.deadline = shift(draining.stopping.deadline);
                if let Next::Retry { until, .. } = &mut draining.next {
                    *until = shift(*until);
                }
            }
            State::Backoff(backoff) => backoff.until = shift(backoff.until),
            State::Parked(parked) => {
                parked.probe_at = parked.probe_at.map(shift);
                parked.call_not_before = shift(parked.call_not_before);
            }
        }
        copy
    }

    /// Every generation that this lifecycle remembers, in no particular order.
    pub fn generations(&self) -> impl Iterator<Item = Generation> + '_ {
        let main = self.state.generation();
        let opening = self.opening().map(|opening| opening.generation);
        let retiring = self.retiring.iter().map(|old| old.generation);
        [Some(self.newest), main, opening]
            .into_iter()
            .flatten()
            .chain(retiring)
    }

    fn next_attempt(&self) -> Option<Time> {
        match &self.state {
            State::Backoff(backoff) => Some(backoff.until),
            State::Parked(parked) => parked.probe_at,
            State::Draining(draining) => match &draining.next {
                Next::Retry { until, .. } => Some(*until),
                Next::Disabled(_) | Next::Idle | Next::Open(_) | Next::Park { .. } => None,
            },
            State::Connected(connected) => match &connected.successor {
                Some(Successor::Waiting { until }) => *until,
                Some(Successor::Opening(_)) | None => None,
            },
            State::Disabled(_) | State::Idle | State::Connecting(_) => None,
        }
    }

    fn marks(&self, connected: Option<&Connected>) -> Marks {
        let misses = connected.map_or(0, |connected| connected.keepalive.misses());
        let stuck = connected.is_some_and(|connected| {
            matches!(connected.successor, Some(Successor::Waiting { .. }))
        });
        Marks {
            degraded: misses > 0 || stuck,
            died_together: self.notes.died_together,
            refreshing: false,
            successor: connected
                .and(self.opening())
                .map(|opening| opening.generation),
            retiring: self.retiring.iter().map(|old| old.generation).max(),
        }
    }
}

impl Keepalive {
    fn shifted(self, shift: impl Fn(Time) -> Time) -> Keepalive {
        match self {
            Keepalive::Off => Keepalive::Off,
            Keepalive::Waiting { probe_at, misses } => Keepalive::Waiting {
                probe_at: shift(probe_at),
                misses,
            },
            Keepalive::Suspected { probe_at, since } => Keepalive::Suspected {
                probe_at: shift(probe_at),
                // What was heard before is as old as now: nothing is heard in the same instant twice.
                since: shift(since),
            },
            Keepalive::Probing {
                again_at,
                answer_by,
                misses,
            } => Keepalive::Probing {
                again_at: shift(again_at),
                answer_by: shift(answer_by),
                misses,
            },
        }
    }
}
