//! Stopping a generation: drain, close, terminate, kill, each on our own clock (laws 4, 6, 29).
//!
//! One generation is stopped in the foreground (`Draining`: nothing else happens before it is gone) or any few in the
//! background (`retiring`: they delay nobody). Both escalate alike. Nothing that happens here is ever charged.

use super::state::{Draining, Next, Stopping, Successor};
use super::{Effect, Input, Lifecycle, State, Step, StopStep};
use crate::failure::{Failure, FailureKind};
use crate::ids::Generation;
use crate::policy::Policy;
use crate::time::Time;

impl Lifecycle {
    /// Stops `generation` in the foreground, beginning with `how`; `next` follows when it is gone.
    pub(super) fn stop(
        &mut self,
        step: &mut Step<'_>,
        generation: Generation,
        how: StopStep,
        next: Next,
    ) {
        let stopping = Stopping::begin(step, generation, how);
        self.state = State::Draining(Draining { stopping, next });
    }

    /// Stops `generation` in the background.
    pub(super) fn retire(&mut self, step: &mut Step<'_>, generation: Generation, how: StopStep) {
        let stopping = Stopping::begin(step, generation, how);
        self.retiring.push(stopping);
    }

    pub(super) fn retiring_is_full(&self, policy: &Policy) -> bool {
        let max = usize::try_from(policy.renewals.retiring_max.max(1)).unwrap_or(usize::MAX);
        self.retiring.len() >= max
    }

    /// Stops everything that serves or opens, because of an order: detach first, close after. States that own nothing
    /// settle at once.
    pub(super) fn stop_for(&mut self, step: &mut Step<'_>, how: StopStep, next: Next) {
        match &mut self.state {
            State::Disabled(_) | State::Idle | State::Backoff(_) | State::Parked(_) => {
                self.settle(step, next)
            }
            State::Connecting(connecting) => {
                let generation = connecting.opening.generation;
                if connecting.opening.running.is_some() {
                    // It never served: there is nothing to drain.
                    self.stop(step, generation, how.max(StopStep::Close), next);
                } else {
                    self.settle(step, next);
                }
            }
            State::Connected(connected) => {
                let generation = connected.generation;
                self.cancel_successor(step, how.max(StopStep::Close));
                step.emit(Effect::Fence { generation });
                if how == StopStep::Kill {
                    let failure = FailureKind::Stopped.into();
                    step.emit(Effect::Fail {
                        generation,
                        failure,
                    });
                }
                self.stop(step, generation, how, next);
            }
            State::Draining(draining) => {
                draining.next = next;
                if how == StopStep::Kill {
                    draining.stopping.kill(step, FailureKind::Stopped.into());
                }
            }
        }
    }

    /// Gives up the replacement that is being opened, if any; what exists of it retires.
    pub(super) fn cancel_successor(&mut self, step: &mut Step<'_>, how: StopStep) {
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        if let Some(Successor::Opening(opening)) = connected.successor.take()
            && opening.running.is_some()
        {
            self.retire(step, opening.generation, how);
        }
    }

    pub(super) fn on_draining(&mut self, step: &mut Step<'_>, input: &Input) {
        let State::Draining(draining) = &mut self.state else {
            return;
        };
        let gone = draining.stopping.hears(step, input);
        let next = gone.then(|| draining.next.clone());
        self.record_noise(step, input);
        if let Some(next) = next {
            self.settle(step, next);
        }
    }

    /// Keeps what was raised while closing, for the record (law 4, S-15, S-16). The end itself is what was asked for.
    fn record_noise(&mut self, step: &mut Step<'_>, input: &Input) {
        let (Input::Exited {
            generation,
            failure,
        }
        | Input::OpenFailed {
            generation,
            failure,
        }) = input
        else {
            return;
        };
        if !is_an_end(failure.kind) {
            self.note_noise(step, *generation, failure.clone());
        }
    }

    /// One fault raised while closing: counted and told apart from failures.
    pub(super) fn note_noise(
        &mut self,
        step: &mut Step<'_>,
        generation: Generation,
        failure: Failure,
    ) {
        self.notes.cleanup_faults = self.notes.cleanup_faults.saturating_add(1);
        self.notes.cleanup_fault = Some(failure.clone());
        step.emit(Effect::CleanupFault {
            generation,
            failure,
        });
    }

    pub(super) fn on_retiring(&mut self, step: &mut Step<'_>, index: usize, input: &Input) {
        if let Some(old) = self.retiring.get_mut(index)
            && old.hears(step, input)
        {
            self.retiring.remove(index);
        }
        self.record_noise(step, input);
    }

    pub(super) fn escalate_draining(&mut self, step: &mut Step<'_>) {
        if let State::Draining(draining) = &mut self.state {
            draining.stopping.escalate(step);
        }
    }

    pub(super) fn escalate_retiring(&mut self, step: &mut Step<'_>) {
        let now = step.now;
        for old in self.retiring.iter_mut().filter(|old| old.deadline <= now) {
            old.escalate(step);
        }
    }

    /// Skips the grace of everything that is being stopped in the background.
    pub(super) fn kill_retiring(&mut self, step: &mut Step<'_>) {
        for old in &mut self.retiring {
            old.kill(step, FailureKind::Stopped.into());
        }
    }
}

impl Stopping {
    fn begin(step: &mut Step<'_>, generation: Generation, how: StopStep) -> Stopping {
        let mut stopping = Stopping {
            generation,
            step: how,
            deadline: step.now,
        };
        if how == StopStep::Drain && step.policy.drain_ms == 0 {
            stopping.escalate(step);
        } else {
            stopping.enter(step, how);
        }
        stopping
    }

    fn enter(&mut self, step: &mut Step<'_>, how: StopStep) {
        self.step = how;
        self.rearm(step.policy, step.now);
        step.emit(Effect::Stop {
            generation: self.generation,
            how,
        });
    }

    /// The step may take its full time from now on.
    pub(super) fn rearm(&mut self, policy: &Policy, now: Time) {
        let stop = &policy.stop;
        let wait_ms = match self.step {
            StopStep::Drain => policy.drain_ms,
            StopStep::Close => stop.close_ms,
            StopStep::Terminate => stop.terminate_ms,
            StopStep::Kill => stop.kill_ms,
        };
        // At least one: a kill that is repeated at once would never let anything else happen.
        self.deadline = now + wait_ms.max(1);
    }

    /// The step took too long.
    fn escalate(&mut self, step: &mut Step<'_>) {
        match self.step {
            StopStep::Drain => {
                self.fail_leases(step, FailureKind::Stopped.into());
                self.enter(step, StopStep::Close);
            }
            StopStep::Close => self.enter(step, StopStep::Terminate),
            StopStep::Terminate | StopStep::Kill => self.enter(step, StopStep::Kill),
        }
    }

    /// Straight to the kill, unless it is already there.
    fn kill(&mut self, step: &mut Step<'_>, failure: Failure) {
        if self.step == StopStep::Drain {
            self.fail_leases(step, failure);
        }
        if self.step != StopStep::Kill {
            self.enter(step, StopStep::Kill);
        }
    }

    /// Calls that are still running get a prompt, typed end (S-14).
    fn fail_leases(&self, step: &mut Step<'_>, failure: Failure) {
        step.emit(Effect::Fail {
            generation: self.generation,
            failure,
        });
    }

    /// A message from the generation on its way out. True when it is gone. Whatever else it reports was raised by the
    /// teardown: it never changes what comes next (law 4).
    fn hears(&mut self, step: &mut Step<'_>, input: &Input) -> bool {
        match input {
            Input::Gone { .. } => {
                if self.step == StopStep::Drain {
                    self.fail_leases(step, FailureKind::StreamClosed.into());
                }
                return true;
            }
            Input::Drained { .. } if self.step == StopStep::Drain => {
                self.enter(step, StopStep::Close)
            }
            // The leader is dead: nothing left to be gentle with, only survivors to sweep (F62).
            Input::Exited { failure, .. } => self.kill(step, failure.clone()),
            Input::Drained { .. }
            | Input::Granted { .. }
            | Input::Phase { .. }
            | Input::Life { .. }
            | Input::Opened { .. }
            | Input::OpenFailed { .. }
            | Input::SessionLost { .. }
            | Input::ServerClosing { .. }
            | Input::Proof { .. }
            | Input::Traffic { .. }
            | Input::ProbeMissed { .. }
            | Input::Suspect { .. }
            | Input::Unused { .. }
            | Input::Start
            | Input::Enable
            | Input::Disable
            | Input::Restart
            | Input::Replace
            | Input::Wanted
            | Input::Poke(_)
            | Input::Woke { .. }
            | Input::Stagger
            | Input::Shutdown { .. }
            | Input::Timeout => {}
        }
        false
    }
}

/// Whether a kind only says that what was told to end has ended.
const fn is_an_end(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::Exited { .. }
            | FailureKind::ExitedEarly { .. }
            | FailureKind::StreamClosed
            | FailureKind::Stopped
    )
}
