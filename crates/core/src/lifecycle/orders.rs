//! Orders: what people, the config and waiting calls want, in every state.

use super::state::{DisabledBy, Next, Successor};
use super::{Effect, Lifecycle, OpenMode, Poke, State, Step, StopStep};
use crate::failure::Blame;
use crate::policy::Policy;
use crate::time::Time;

impl Lifecycle {
    pub(super) fn start(&mut self, step: &mut Step<'_>) {
        if self.state == State::Disabled(DisabledBy::NotStarted) {
            self.settle(step, wanted_state(step.policy));
        }
    }

    pub(super) fn enable(&mut self, step: &mut Step<'_>) {
        match &mut self.state {
            State::Disabled(DisabledBy::Shutdown) => {}
            State::Disabled(_) => {
                self.clean_slate();
                self.settle(step, wanted_state(step.policy));
            }
            State::Draining(draining) => match draining.next {
                Next::Disabled(
                    DisabledBy::Operator | DisabledBy::Config | DisabledBy::NotStarted,
                ) => {
                    draining.next = wanted_state(step.policy);
                    self.clean_slate();
                }
                Next::Disabled(DisabledBy::Shutdown)
                | Next::Idle
                | Next::Open(_)
                | Next::Retry { .. }
                | Next::Park { .. } => {}
            },
            State::Idle if !rests_idle(step.policy) => {
                self.settle(step, Next::Open(OpenMode::Fresh))
            }
            // Already enabled (law 5).
            State::Idle
            | State::Connecting(_)
            | State::Connected(_)
            | State::Backoff(_)
            | State::Parked(_) => {}
        }
    }

    /// Prompt and final (law 5): fenced and retracted in this very step, whatever is still to be stopped.
    pub(super) fn disable(&mut self, step: &mut Step<'_>) {
        match &self.state {
            State::Disabled(DisabledBy::NotStarted) => {
                self.state = State::Disabled(DisabledBy::Operator)
            }
            State::Disabled(DisabledBy::Config | DisabledBy::Operator) => {}
            // Its end is under way or over; only its catalog is still shown.
            State::Disabled(DisabledBy::Shutdown) => step.emit(Effect::Retract),
            State::Draining(draining) if draining.next == Next::Disabled(DisabledBy::Shutdown) => {
                step.emit(Effect::Retract);
            }
            State::Draining(draining) if matches!(draining.next, Next::Disabled(_)) => {}
            State::Idle
            | State::Connecting(_)
            | State::Connected(_)
            | State::Draining(_)
            | State::Backoff(_)
            | State::Parked(_) => {
                step.emit(Effect::Retract);
                self.stop_for(step, StopStep::Drain, Next::Disabled(DisabledBy::Operator));
                self.notes.failure = None;
            }
        }
    }

    /// `by_config` says that the config changed rather than that an operator asked.
    pub(super) fn restart(&mut self, step: &mut Step<'_>, by_config: bool) {
        if self.is_disabled() {
            return;
        }
        self.clean_slate();
        let stays_idle = by_config && rests_idle(step.policy);
        match &mut self.state {
            State::Idle if stays_idle => {}
            State::Connecting(connecting) if connecting.opening.running.is_none() => {
                // Still queued: when its turn comes, it opens what the config says by then.
                connecting.opening.mode = OpenMode::Fresh;
                if step.policy.exclusive && !self.retiring.is_empty() {
                    self.settle(step, Next::Open(OpenMode::Fresh));
                }
            }
            State::Connecting(_) => {
                self.stop_for(step, StopStep::Close, Next::Open(OpenMode::Fresh))
            }
            State::Connected(_) => self.replace_connected(step),
            State::Draining(draining) => {
                if !(stays_idle && draining.next == Next::Idle) {
                    draining.next = Next::Open(OpenMode::Fresh);
                }
            }
            State::Idle | State::Backoff(_) | State::Parked(_) => {
                self.settle(step, Next::Open(OpenMode::Fresh))
            }
            State::Disabled(_) => {}
        }
    }

    /// A call waits.
    pub(super) fn wanted(&mut self, step: &mut Step<'_>) {
        match &mut self.state {
            State::Idle => self.settle(step, Next::Open(OpenMode::Fresh)),
            State::Draining(draining) if draining.next == Next::Idle => {
                draining.next = Next::Open(OpenMode::Fresh)
            }
            State::Parked(_) => self.attempt_while_parked(step),
            // Wherever an attempt is under way or due, waiting is all there is to do.
            State::Disabled(_)
            | State::Connecting(_)
            | State::Connected(_)
            | State::Draining(_)
            | State::Backoff(_) => {}
        }
    }

    pub(super) fn poke(&mut self, step: &mut Step<'_>, poke: Poke) {
        match poke {
            Poke::Network => self.network_changed(step),
            Poke::Credentials | Poke::Config => self.may_be_cured(step, poke),
        }
    }

    pub(super) fn shut_down(&mut self, step: &mut Step<'_>, impatient: bool) {
        let how = if impatient {
            StopStep::Kill
        } else {
            StopStep::Drain
        };
        self.stop_for(step, how, Next::Disabled(DisabledBy::Shutdown));
        if impatient {
            self.kill_retiring(step);
        }
    }

    /// The wait is over.
    pub(super) fn retry(&mut self, step: &mut Step<'_>) {
        if let State::Backoff(backoff) = &self.state {
            let (mode, failure) = (backoff.mode, backoff.failure.clone());
            self.open_or_wait(step, mode, step.now, failure);
        }
    }

    /// The slow self-probe: one attempt; the budget stays exhausted until there is proof (law 11).
    pub(super) fn parked_probe(&mut self, step: &mut Step<'_>) {
        if let State::Parked(parked) = &self.state {
            let failure = parked.failure.clone();
            self.open_or_wait(step, OpenMode::Fresh, step.now, Some(failure));
        }
    }

    /// Earlier failures say nothing about what comes now. The minimum interval between two opens still holds.
    pub(super) fn clean_slate(&mut self) {
        self.budget.reset();
        self.retry_not_before = Time::ZERO;
        self.slept_until = Time::ZERO;
    }

    fn is_disabled(&self) -> bool {
        match &self.state {
            State::Disabled(_) => true,
            State::Draining(draining) => matches!(draining.next, Next::Disabled(_)),
            State::Idle
            | State::Connecting(_)
            | State::Connected(_)
            | State::Backoff(_)
            | State::Parked(_) => false,
        }
    }

    /// One attempt, rate-limited, and none where only a human can help.
    fn attempt_while_parked(&mut self, step: &mut Step<'_>) {
        let State::Parked(parked) = &self.state else {
            return;
        };
        let too_early = step.now < parked.call_not_before.max(self.not_before());
        if !too_early && parked.failure.kind.blame() != Blame::Human {
            self.parked_probe(step);
        }
    }

    /// New credentials or a patched config: what failed before may work now.
    fn may_be_cured(&mut self, step: &mut Step<'_>, poke: Poke) {
        match &mut self.state {
            State::Idle if poke == Poke::Config && !rests_idle(step.policy) => {
                self.settle(step, Next::Open(OpenMode::Fresh));
            }
            State::Connecting(connecting) => connecting.poked = true,
            State::Connected(connected) => {
                let waits = matches!(connected.successor, Some(Successor::Waiting { .. }));
                if poke == Poke::Config {
                    self.rearm(step);
                }
                if waits {
                    self.clean_slate();
                    self.open_successor(step);
                }
            }
            State::Draining(draining) => {
                if matches!(draining.next, Next::Retry { .. } | Next::Park { .. }) {
                    draining.next = Next::Open(OpenMode::Fresh);
                    self.clean_slate();
                }
            }
            State::Backoff(_) | State::Parked(_) => {
                self.clean_slate();
                self.settle(step, Next::Open(OpenMode::Fresh));
            }
            State::Disabled(_) | State::Idle => {}
        }
    }
}

/// Whether a server under this policy may rest in `Idle`.
fn rests_idle(policy: &Policy) -> bool {
    policy.lazy || policy.idle_shutdown_ms.is_some()
}

/// What an enabled server does when nothing else is known.
fn wanted_state(policy: &Policy) -> Next {
    if policy.lazy {
        Next::Idle
    } else {
        Next::Open(OpenMode::Fresh)
    }
}
