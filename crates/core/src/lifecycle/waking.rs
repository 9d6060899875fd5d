//! What happens to every server at the same moment: the machine wakes up, its network changes, many servers die at once.
//!
//! None of it may make all servers act at the same moment, so what becomes due is put off by a random part of the
//! policy's spread, drawn from the slot's own seed. A wake-up decides nothing else: deadlines begin anew, and only what
//! happens from here on counts (law 12).

use super::serving::unused_at;
use super::state::{Keepalive, Next, Opening, Parked, Successor};
use super::{Lifecycle, State, Step};
use crate::backoff;
use crate::failure::Blame;
use crate::policy::Policy;
use crate::time::Time;

use super::opening::phase_ms;

impl Lifecycle {
    /// The machine slept, `asleep_ms` of it unnoticed by the clock.
    pub(super) fn woke(&mut self, step: &Step<'_>, asleep_ms: u64) {
        for old in &mut self.retiring {
            old.rearm(step.policy, step.now);
        }
        if matches!(self.state, State::Disabled(_) | State::Idle) {
            return;
        }
        self.slept_until = step.now + step.policy.wake.grace_ms;
        // The server asked to be left alone by the clock on the wall, and that went on.
        self.retry_not_before = self.retry_not_before.back(asleep_ms);
        let at = self.spread(step);
        let earliest = at.max(self.not_before());
        match &mut self.state {
            State::Disabled(_) | State::Idle => {}
            State::Connecting(connecting) => connecting.opening.rearm(step),
            State::Connected(connected) => {
                connected.stable_at = connected
                    .stable_at
                    .map(|_| step.now + step.policy.stable_ms);
                connected.unused_at = unused_at(step.policy, step.now);
                connected.keepalive = connected.keepalive.woken(step, at);
                match &mut connected.successor {
                    Some(Successor::Opening(opening)) => opening.rearm(step),
                    Some(Successor::Waiting { until: Some(until) }) => {
                        *until = until.back(asleep_ms).max(earliest);
                    }
                    Some(Successor::Waiting { until: None }) | None => {}
                }
            }
            State::Draining(draining) => {
                draining.stopping.rearm(step.policy, step.now);
                match &mut draining.next {
                    Next::Retry { until, .. } => *until = at,
                    Next::Park { soon, .. } => *soon = true,
                    Next::Disabled(_) | Next::Idle | Next::Open(_) => {}
                }
            }
            // Whatever it waited for has passed, or is different now.
            State::Backoff(backoff) => backoff.until = earliest,
            State::Parked(parked) => {
                parked.call_not_before = parked.call_not_before.back(asleep_ms);
                parked.probe_at = parked.probe_at.map(|due| due.back(asleep_ms).max(earliest));
                parked.revive(earliest);
            }
        }
    }

    /// Other ways lead to the servers now, or to some of them at last.
    pub(super) fn network_changed(&mut self, step: &Step<'_>) {
        let not_before = self.not_before();
        match &self.state {
            // Nothing that could be revived or doubted. Pipes do not care about networks.
            State::Disabled(_) | State::Idle | State::Connecting(_) => return,
            State::Connected(_) if step.policy.exclusive => return,
            State::Connected(_) | State::Draining(_) | State::Backoff(_) | State::Parked(_) => {}
        }
        let at = self.spread(step);
        match &mut self.state {
            State::Disabled(_) | State::Idle | State::Connecting(_) => {}
            // Old sockets may be dead without knowing it (F229).
            State::Connected(connected) => {
                connected.keepalive = connected.keepalive.doubted(step.now, at);
            }
            State::Draining(draining) => match &mut draining.next {
                Next::Retry { until, .. } => *until = at.min(*until),
                Next::Park { soon, .. } => *soon = true,
                Next::Disabled(_) | Next::Idle | Next::Open(_) => {}
            },
            State::Backoff(backoff) => backoff.until = at.min(backoff.until).max(not_before),
            State::Parked(parked) => parked.revive(at.max(not_before)),
        }
    }

    /// Others died in the same second: whatever killed them may still be there (F77).
    pub(super) fn stagger(&mut self, step: &Step<'_>) {
        let waits = match &self.state {
            State::Draining(draining) => matches!(draining.next, Next::Retry { .. }),
            State::Backoff(backoff) => backoff.failure.is_some(),
            State::Disabled(_)
            | State::Idle
            | State::Connecting(_)
            | State::Connected(_)
            | State::Parked(_) => false,
        };
        if waits {
            let at = self.spread(step);
            match &mut self.state {
                State::Draining(draining) => {
                    if let Next::Retry { until, .. } = &mut draining.next {
                        *until = at.max(*until);
                    }
                }
                State::Backoff(backoff) => backoff.until = at.max(backoff.until),
                State::Disabled(_)
                | State::Idle
                | State::Connecting(_)
                | State::Connected(_)
                | State::Parked(_) => {}
            }
        }
        self.notes.died_together = true;
    }

    /// When to try again what the sleep broke, if it is to blame for a failure now. Once per sleep: what fails again, or
    /// after it has proven itself, failed by itself.
    pub(super) fn blame_sleep(&mut self, step: &Step<'_>) -> Option<Time> {
        if self.slept_until <= step.now {
            return None;
        }
        self.slept_until = Time::ZERO;
        Some(self.spread(step))
    }

    /// A moment of this slot's own within the spread, never now.
    fn spread(&mut self, step: &Step<'_>) -> Time {
        let within_ms = step.policy.wake.spread_ms.max(1);
        step.now + 1 + backoff::draw(&mut self.seed) % within_ms
    }
}

impl Opening {
    /// Its deadlines begin anew. While it is queued it has none.
    fn rearm(&mut self, step: &Step<'_>) {
        if let Some(running) = &mut self.running {
            running.phase_ends = step.now + phase_ms(step.policy, running.phase);
            running.total_ends = step.now + step.policy.connect.total_ms;
        }
    }
}

impl Parked {
    /// Something changed that may help: one attempt at `at`, or as soon as calls may cause one. None where only a human
    /// can help (law 11).
    fn revive(&mut self, at: Time) {
        if self.failure.kind.blame() != Blame::Human {
            let at = at.max(self.call_not_before);
            self.probe_at = Some(self.probe_at.map_or(at, |due| due.min(at)));
        }
    }
}

impl Keepalive {
    /// After a sleep: nothing that was missed counts, and a link that sockets carry is probed at `at`.
    fn woken(self, step: &Step<'_>, at: Time) -> Keepalive {
        let policy: &Policy = step.policy;
        match self {
            // Pipes sleep and wake with the machine.
            Keepalive::Off if policy.exclusive => Keepalive::Off,
            Keepalive::Waiting { misses: 0, .. } if policy.exclusive => {
                Keepalive::armed(policy, step.now)
            }
            Keepalive::Off
            | Keepalive::Waiting { .. }
            | Keepalive::Suspected { .. }
            | Keepalive::Probing { .. } => Keepalive::Suspected {
                probe_at: at,
                since: step.now,
            },
        }
    }

    /// The link is to be probed at `at`, unless a probe is under way or due already: one is enough (F238).
    const fn doubted(self, now: Time, at: Time) -> Keepalive {
        match self {
            Keepalive::Off | Keepalive::Waiting { misses: 0, .. } => Keepalive::Suspected {
                probe_at: at,
                since: now,
            },
            Keepalive::Waiting { .. } | Keepalive::Suspected { .. } | Keepalive::Probing { .. } => {
                self
            }
        }
    }
}
