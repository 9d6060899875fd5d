//! A connected generation: what proves it, what raises suspicion, what ends it.

use super::state::{Connected, Connecting, Keepalive, Next, Successor};
use super::{Effect, Input, Lifecycle, OpenMode, Proof, State, Step, StopStep};
use crate::backoff;
use crate::event::Cause;
use crate::failure::{Blame, Failure, FailureKind};
use crate::ids::Generation;
use crate::policy::Policy;
use crate::time::Time;

impl Lifecycle {
    /// `generation` serves from now on.
    pub(super) fn serve(&mut self, step: &Step<'_>, generation: Generation) {
        self.state = State::Connected(Connected {
            generation,
            stable_at: Some(step.now + step.policy.stable_ms),
            keepalive: Keepalive::armed(step.policy, step.now),
            unused_at: unused_at(step.policy, step.now),
            successor: None,
        });
    }

    /// A message from the generation that serves.
    pub(super) fn on_serving(&mut self, step: &mut Step<'_>, input: Input) {
        match input {
            Input::Exited { failure, .. } | Input::OpenFailed { failure, .. } => {
                if failure.kind.blame() == Blame::Session {
                    self.session_lost(step);
                } else {
                    self.died(step, failure, Some(StopStep::Kill));
                }
            }
            // It should have said `Exited` first. What is gone is gone.
            Input::Gone { .. } => self.died(step, FailureKind::StreamClosed.into(), None),
            Input::SessionLost { .. } => self.session_lost(step),
            Input::ServerClosing { .. } => self.server_closing(step),
            Input::Proof { proof, .. } => self.proof(step, proof),
            Input::Traffic { at, .. } => self.traffic(step, at),
            Input::ProbeMissed { .. } => self.probe_reported_missed(step),
            Input::Suspect { .. } => self.suspect(step),
            Input::Unused { .. } => {
                step.cause = Cause::Unused;
                self.stop_for(step, StopStep::Close, Next::Idle);
            }
            Input::Granted { .. }
            | Input::Phase { .. }
            | Input::Life { .. }
            | Input::Opened { .. }
            | Input::Drained { .. }
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
    }

    /// The connection proved its health: earlier failures are forgotten. While its replacement is pending they are not:
    /// they belong to the replacement, about which this proves nothing (law 9).
    pub(super) fn proven(&mut self) {
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        connected.stable_at = None;
        if connected.successor.is_none() {
            self.clean_slate();
            self.notes.failure = None;
            self.notes.died_together = false;
        }
    }

    fn proof(&mut self, step: &Step<'_>, proof: Proof) {
        self.proven();
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        connected.keepalive = Keepalive::armed(step.policy, step.now);
        match proof {
            Proof::ServedCall => connected.unused_at = unused_at(step.policy, step.now),
            Proof::ProbeAnswered => {}
        }
    }

    /// Traffic is life, not proof: any inbound bytes end a suspicion, only an answer proves health.
    fn traffic(&mut self, step: &Step<'_>, at: Time) {
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        match connected.keepalive {
            Keepalive::Probing { again_at, .. } => {
                connected.keepalive = match Keepalive::armed(step.policy, at) {
                    Keepalive::Off | Keepalive::Suspected { .. } => Keepalive::Off,
                    Keepalive::Waiting { probe_at, misses }
                    | Keepalive::Probing {
                        again_at: probe_at,
                        misses,
                        ..
                    } => {
                        // Not before the running probe would be repeated: old traffic must not make this loop.
                        Keepalive::Waiting {
                            probe_at: probe_at.max(again_at),
                            misses,
                        }
                    }
                };
            }
            Keepalive::Off | Keepalive::Waiting { .. } | Keepalive::Suspected { .. } => {
                connected.unused_at = unused_at(step.policy, at).map(|then| then.max(step.now + 1));
            }
        }
    }

    /// Asks for a probe now: the link was quiet for too long, or the last probe was missed.
    pub(super) fn probe(&mut self, step: &mut Step<'_>) {
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        let misses = connected.keepalive.misses();
        let since = match (connected.keepalive, &step.policy.keepalive) {
            (Keepalive::Suspected { since, .. }, _) => since,
            (_, Some(keepalive)) if misses == 0 => step.now.back(keepalive.idle_ms),
            // Whatever came since the missed probe makes another one unnecessary.
            (_, Some(_) | None) => step.now.back(watching(step.policy).0),
        };
        connected.keepalive = Keepalive::probing(step.policy, step.now, misses);
        let generation = connected.generation;
        step.emit(Effect::Probe { generation, since });
    }

    /// A call timed out: probe now, whatever was heard before (laws 14, 15).
    pub(super) fn suspect(&mut self, step: &mut Step<'_>) {
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        match connected.keepalive {
            Keepalive::Off | Keepalive::Waiting { misses: 0, .. } => {
                connected.keepalive = Keepalive::probing(step.policy, step.now, 0);
                let generation = connected.generation;
                step.emit(Effect::Probe {
                    generation,
                    since: step.now,
                });
            }
            // Already suspected: one probe per connection is enough (F238).
            Keepalive::Waiting { .. } | Keepalive::Suspected { .. } | Keepalive::Probing { .. } => {
            }
        }
    }

    /// Nobody reported how the probe went.
    pub(super) fn probe_missed(&mut self, step: &mut Step<'_>) {
        if !self.count_miss(step) {
            self.probe(step);
        }
    }

    fn probe_reported_missed(&mut self, step: &mut Step<'_>) {
        // A probe that fails at once is repeated no sooner than one that times out: a refused connection says less than
        // several of them spread over time.
        let _died = self.count_miss(step);
    }

    /// Counts a missed probe; true when it was one too many.
    fn count_miss(&mut self, step: &mut Step<'_>) -> bool {
        let State::Connected(connected) = &mut self.state else {
            return false;
        };
        let Keepalive::Probing {
            again_at, misses, ..
        } = connected.keepalive
        else {
            return false;
        };
        let misses = misses.saturating_add(1);
        connected.keepalive = Keepalive::Waiting {
            probe_at: again_at,
            misses,
        };
        let (_, misses_max) = watching(step.policy);
        if misses < misses_max {
            return false;
        }
        // The runtime still exists: be gentle first.
        self.died(step, FailureKind::ProbeFailed.into(), Some(StopStep::Close));
        true
    }

    /// The limit without a call has passed: ask the driver, who knows about running calls (F24).
    pub(super) fn ask_if_unused(&mut self, step: &mut Step<'_>) {
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        connected.unused_at = unused_at(step.policy, step.now);
        if let Some(limit_ms) = step.policy.idle_shutdown_ms {
            let generation = connected.generation;
            step.emit(Effect::FenceIfUnused {
                generation,
                since: step.now.back(limit_ms),
            });
        }
    }

    /// The policy was patched: watch by the new one.
    pub(super) fn rearm(&mut self, step: &Step<'_>) {
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        connected.unused_at = unused_at(step.policy, step.now);
        match connected.keepalive {
            Keepalive::Off | Keepalive::Waiting { misses: 0, .. } => {
                connected.keepalive = Keepalive::armed(step.policy, step.now);
            }
            Keepalive::Waiting { .. } | Keepalive::Suspected { .. } | Keepalive::Probing { .. } => {
            }
        }
    }

    /// The generation is useless from now on. `how` is the first step of stopping what is left of it, if anything.
    fn died(&mut self, step: &mut Step<'_>, failure: Failure, how: Option<StopStep>) {
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        let (generation, proven) = (connected.generation, connected.stable_at.is_none());
        let successor = connected.successor.take();
        step.cause = Cause::Failed(failure.clone());
        step.emit(Effect::Fence { generation });
        step.emit(Effect::Fail {
            generation,
            failure: failure.clone(),
        });
        if let Some(Successor::Opening(opening)) = successor {
            // It was about to be replaced anyway: that goes on, and the end of the old one is not charged (law 7).
            if failure.kind.blame() == Blame::Cleanup {
                self.note_noise(step, generation, failure);
            } else {
                self.notes.failure = Some(failure);
            }
            if let Some(how) = how {
                self.retire(step, generation, how);
            }
            self.state = State::Connecting(Connecting {
                opening,
                poked: false,
            });
            return;
        }
        let next = self.after_failure(step, failure, proven);
        match how {
            Some(how) => self.stop(step, generation, how, next),
            None => self.settle(step, next),
        }
    }

    /// The fast path of a lost session: a new generation at once, the old one ends in the background (law 26).
    fn session_lost(&mut self, step: &mut Step<'_>) {
        let failure = Failure::from(FailureKind::SessionLost);
        if step.policy.exclusive {
            return self.died(step, failure, Some(StopStep::Kill));
        }
        let State::Connected(connected) = &mut self.state else {
            return;
        };
        let (generation, proven) = (connected.generation, connected.stable_at.is_none());
        let successor = connected.successor.take();
        step.cause = Cause::SessionLost;
        step.emit(Effect::Fence { generation });
        if let Some(Successor::Opening(opening)) = successor {
            self.retire(step, generation, StopStep::Drain);
            self.state = State::Connecting(Connecting {
                opening,
                poked: false,
            });
            return;
        }
        let next = if !proven {
            // A session that never proved itself is a failure like any other (S-13).
            self.after_failure(step, failure, false)
        } else if self.renewals.take(&step.policy.renewals, step.now) {
            Next::Open(OpenMode::Renewal)
        } else {
            self.too_many_renewals(step)
        };
        if self.retiring_is_full(step.policy) {
            self.stop(step, generation, StopStep::Drain, next);
        } else {
            self.retire(step, generation, StopStep::Drain);
            self.settle(step, next);
        }
    }

    /// Sessions vanish faster than is taken for granted: charged, and each further one in the window waits longer, proof or
    /// not, because every new session proves itself before it is lost (F107).
    fn too_many_renewals(&mut self, step: &Step<'_>) -> Next {
        let over = self.renewals.refuse();
        let draw = backoff::draw(&mut self.seed);
        let wait_ms = backoff::delay_ms(&step.policy.backoff, over, draw);
        match self.after_failure(step, FailureKind::SessionUnstable.into(), true) {
            Next::Retry { until, failure } => Next::Retry {
                until: until.max(step.now + wait_ms),
                failure,
            },
            next @ (Next::Disabled(_) | Next::Idle | Next::Open(_) | Next::Park { .. }) => next,
        }
    }

    /// A planned reconnect announced by the server is not charged (S-18). One that has proven nothing, or that comes too
    /// often, is left to end by itself, and its end is charged.
    fn server_closing(&mut self, step: &mut Step<'_>) {
        let State::Connected(connected) = &self.state else {
            return;
        };
        let planned = connected.stable_at.is_none() && connected.successor.is_none();
        if planned && self.renewals.take(&step.policy.renewals, step.now) {
            self.replace_connected(step);
        }
    }

    /// Replaces the connected generation: exclusive servers end first, others overlap (law 2).
    pub(super) fn replace_connected(&mut self, step: &mut Step<'_>) {
        if step.policy.exclusive {
            self.stop_for(step, StopStep::Drain, Next::Open(OpenMode::Fresh));
        } else {
            self.cancel_successor(step, StopStep::Close);
            self.open_successor(step);
        }
    }
}

impl Keepalive {
    /// Quiet since `at`.
    pub(super) fn armed(policy: &Policy, at: Time) -> Keepalive {
        match &policy.keepalive {
            Some(keepalive) => Keepalive::Waiting {
                probe_at: at + keepalive.idle_ms.max(1),
                misses: 0,
            },
            None => Keepalive::Off,
        }
    }

    fn probing(policy: &Policy, now: Time, misses: u32) -> Keepalive {
        let (timeout_ms, _) = watching(policy);
        // Twice the timeout: whoever probes times it by `timeout_ms` and reports; this is for when nobody does.
        let answer_by = now + timeout_ms.saturating_mul(2);
        Keepalive::Probing {
            again_at: now + timeout_ms,
            answer_by,
            misses,
        }
    }
}

/// The timeout of a probe and the misses that count as death; a server without keepalive is still probed when suspected.
fn watching(policy: &Policy) -> (u64, u32) {
    let suspicion = &policy.suspicion;
    let (timeout_ms, misses) = match &policy.keepalive {
        Some(keepalive) => (keepalive.timeout_ms, keepalive.misses),
        None => (suspicion.timeout_ms, suspicion.misses),
    };
    (timeout_ms.max(1), misses.max(1))
}

pub(super) fn unused_at(policy: &Policy, since: Time) -> Option<Time> {
    policy
        .idle_shutdown_ms
        .map(|limit_ms| since + limit_ms.max(1))
}
