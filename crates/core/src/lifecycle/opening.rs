//! Opening a generation: when it may begin, how long it may take, and what its failure means.
//!
//! Every open of the lifecycle, planned or not, goes through [`Lifecycle::request_open`]; the minimum interval is counted
//! from the moment the start gate lets one through (law 10).

use super::state::{Backoff, Connecting, Draining, Next, Opening, Parked, Running, Successor};
use super::{Effect, Input, Lifecycle, OpenMode, Phase, Role, State, Step, StopStep, Why};
use crate::backoff;
use crate::event::Cause;
use crate::failure::{Blame, Failure, FailureKind};
use crate::policy::Policy;
use crate::time::Time;

impl Lifecycle {
    /// Opens at `until` at the earliest, and never before the minimum interval and the server's own wish allow.
    pub(super) fn open_or_wait(
        &mut self,
        step: &mut Step<'_>,
        mode: OpenMode,
        until: Time,
        failure: Option<Failure>,
    ) {
        let until = until.max(self.not_before());
        if until > step.now {
            self.state = State::Backoff(Backoff {
                until,
                mode,
                failure,
            });
        } else if step.policy.exclusive && !self.retiring.is_empty() {
            // The server has just become exclusive: whatever is left of its other life has to go first (law 2).
            let stopping = self.retiring.remove(0);
            self.state = State::Draining(Draining {
                stopping,
                next: Next::Open(mode),
            });
        } else {
            let opening = self.request_open(step, mode);
            self.state = State::Connecting(Connecting {
                opening,
                poked: false,
            });
        }
    }

    /// Earliest time of the next open on any path.
    pub(super) fn not_before(&self) -> Time {
        self.open_not_before.max(self.retry_not_before)
    }

    fn request_open(&mut self, step: &mut Step<'_>, mode: OpenMode) -> Opening {
        self.newest = self.newest.next();
        let generation = self.newest;
        step.emit(Effect::RequestOpen { generation, mode });
        Opening {
            generation,
            mode,
            running: None,
        }
    }

    /// Begins the planned replacement of the connected generation, or waits until that is possible.
    pub(super) fn open_successor(&mut self, step: &mut Step<'_>) {
        let full = self.retiring_is_full(step.policy);
        let not_before = self.not_before();
        let successor = if full || not_before > step.now {
            let recheck = step.now + step.policy.open_interval_ms.max(1);
            Successor::Waiting {
                until: Some(if full {
                    not_before.max(recheck)
                } else {
                    not_before
                }),
            }
        } else {
            Successor::Opening(self.request_open(step, OpenMode::Fresh))
        };
        if let State::Connected(connected) = &mut self.state {
            connected.successor = Some(successor);
        }
    }

    /// A message about the generation that is being opened.
    pub(super) fn on_opening(&mut self, step: &mut Step<'_>, role: Role, input: Input) {
        let Some(running) = self.opening().map(|opening| opening.running) else {
            return;
        };
        let Some(running) = running else {
            // Still queued: nothing exists that could report anything but the grant.
            if matches!(input, Input::Granted { .. }) {
                self.granted(step);
            }
            return;
        };
        match input {
            Input::Phase { phase, .. } if phase > running.phase => self.enter_phase(step, phase),
            Input::Life { .. } => self.enter_phase(step, running.phase),
            Input::Opened { .. } => self.opened(step, role),
            Input::OpenFailed { failure, .. } | Input::Exited { failure, .. } => {
                self.open_failed(step, role, failure, Some(StopStep::Close));
            }
            Input::SessionLost { .. } => {
                self.open_failed(
                    step,
                    role,
                    FailureKind::SessionUnstable.into(),
                    Some(StopStep::Close),
                );
            }
            Input::Gone { .. } => {
                let failure = FailureKind::ExitedEarly {
                    code: None,
                    signal: None,
                };
                self.open_failed(step, role, failure.into(), None);
            }
            Input::Granted { .. }
            | Input::Phase { .. }
            | Input::ServerClosing { .. }
            | Input::Drained { .. }
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
    }

    pub(super) fn connect_deadline(&mut self, step: &mut Step<'_>) {
        let Some(phase) = self.opening().map(Opening::phase) else {
            return;
        };
        let role = if matches!(self.state, State::Connecting(_)) {
            Role::Main
        } else {
            Role::Successor
        };
        self.open_failed(
            step,
            role,
            FailureKind::ConnectTimeout(phase).into(),
            Some(StopStep::Close),
        );
    }

    /// What a failure that was not asked for leads to: charge it, and retry or park (laws 7, 9, 10).
    pub(super) fn after_failure(
        &mut self,
        step: &Step<'_>,
        failure: Failure,
        proven: bool,
    ) -> Next {
        self.notes.failure = Some(failure.clone());
        if let Some(asked_ms) = failure.retry_after_ms {
            let wait_ms = backoff::retry_after_ms(&step.policy.backoff, asked_ms);
            self.retry_not_before = self.retry_not_before.max(step.now + wait_ms);
        }
        match failure.kind.blame() {
            Blame::Human => {
                return Next::Park {
                    failure,
                    soon: false,
                };
            }
            // Law 15: a server that says when to come back is not at fault, and the wait it asked for is kept (F102).
            // Nor is it for its authorization server, which is asked at a pace of its own (F205, F210).
            Blame::Server if failure.kind.is_a_wait() && failure.retry_after_ms.is_some() => {}
            // Noise of closing counts like any other failure here: nobody asked for this end (S-04).
            Blame::Server | Blame::Session | Blame::Cleanup => {
                if let Some(until) = self.blame_sleep(step) {
                    return if self.budget.is_exhausted(step.policy.budget) {
                        // It was one attempt, and stays one attempt at a time.
                        let soon = true;
                        Next::Park { failure, soon }
                    } else {
                        Next::Retry { until, failure }
                    };
                }
                self.budget.charge(step.policy.budget)
            }
        }
        if self.budget.is_exhausted(step.policy.budget) {
            return Next::Park {
                failure,
                soon: false,
            };
        }
        let wait_ms = if proven {
            0
        } else {
            backoff::delay_ms(
                &step.policy.backoff,
                self.budget.charges(),
                backoff::draw(&mut self.seed),
            )
        };
        Next::Retry {
            until: step.now + wait_ms,
            failure,
        }
    }

    /// The state that follows now that nothing stands in the way.
    pub(super) fn settle(&mut self, step: &mut Step<'_>, next: Next) {
        match next {
            Next::Disabled(by) => self.state = State::Disabled(by),
            Next::Idle => self.state = State::Idle,
            Next::Open(mode) => self.open_or_wait(step, mode, step.now, None),
            Next::Retry { until, failure } => {
                self.open_or_wait(step, OpenMode::Fresh, until, Some(failure))
            }
            Next::Park { failure, soon } => {
                let call_not_before = step.now + step.policy.parked_call_interval_ms;
                let mut probe_at = self.parked_probe_at(step, &failure);
                if soon && failure.kind.blame() != Blame::Human {
                    probe_at = Some(call_not_before.max(self.not_before()));
                }
                self.state = State::Parked(Parked {
                    failure,
                    probe_at,
                    call_not_before,
                });
            }
        }
    }

    /// When a server that failed for good is worth one more attempt by itself (law 11).
    fn parked_probe_at(&self, step: &Step<'_>, failure: &Failure) -> Option<Time> {
        match failure.kind.blame() {
            Blame::Human => None,
            Blame::Server | Blame::Session | Blame::Cleanup => {
                let every_ms = step.policy.parked_probe_ms?;
                Some((step.now + every_ms.max(1)).max(self.not_before()))
            }
        }
    }

    fn granted(&mut self, step: &mut Step<'_>) {
        let Some(opening) = self.opening_mut() else {
            return;
        };
        let connect = &step.policy.connect;
        opening.running = Some(Running {
            phase: Phase::Spawn,
            phase_ends: step.now + connect.spawn_ms,
            total_ends: step.now + connect.total_ms,
        });
        let (generation, mode) = (opening.generation, opening.mode);
        self.open_not_before = step.now + step.policy.open_interval_ms.max(1);
        self.notes.opens = self.notes.opens.saturating_add(1);
        step.emit(Effect::Open { generation, mode });
    }

    fn enter_phase(&mut self, step: &Step<'_>, phase: Phase) {
        let Some(running) = self
            .opening_mut()
            .and_then(|opening| opening.running.as_mut())
        else {
            return;
        };
        running.phase = phase;
        running.phase_ends = step.now + phase_ms(step.policy, phase);
    }

    fn opened(&mut self, step: &mut Step<'_>, role: Role) {
        let Some(generation) = self.opening().map(|opening| opening.generation) else {
            return;
        };
        step.cause = Cause::Opened;
        step.emit(Effect::Accept { generation });
        step.emit(Effect::Publish { generation });
        if role == Role::Successor
            && let State::Connected(old) = &self.state
        {
            let old = old.generation;
            step.emit(Effect::Fence { generation: old });
            self.retire(step, old, StopStep::Drain);
        }
        self.serve(step, generation);
    }

    /// The open failed. `how` is the first step of stopping what it left behind; `None` if nothing is left.
    fn open_failed(
        &mut self,
        step: &mut Step<'_>,
        role: Role,
        failure: Failure,
        how: Option<StopStep>,
    ) {
        let Some(generation) = self.opening().map(|opening| opening.generation) else {
            return;
        };
        step.cause = Cause::Failed(failure.clone());
        let mut next = self.after_failure(step, failure, false);
        if role == Role::Successor {
            if let Some(how) = how {
                self.retire(step, generation, how);
            }
            let waiting = Successor::Waiting {
                until: self.successor_retry_at(step, &next),
            };
            if let State::Connected(connected) = &mut self.state {
                connected.successor = Some(waiting);
            }
            return;
        }
        if matches!(
            &self.state,
            State::Connecting(Connecting { poked: true, .. })
        ) {
            // It failed with what has been replaced meanwhile, which proves nothing about what is there now.
            self.clean_slate();
            next = Next::Open(OpenMode::Fresh);
        }
        match how {
            Some(how) => self.stop(step, generation, how, next),
            None => self.settle(step, next),
        }
    }

    /// When the replacement is tried again while the old generation serves on.
    fn successor_retry_at(&self, step: &Step<'_>, next: &Next) -> Option<Time> {
        match next {
            Next::Retry { until, .. } => Some((*until).max(self.not_before())),
            Next::Park { failure, .. } => self.parked_probe_at(step, failure),
            Next::Disabled(_) | Next::Idle | Next::Open(_) => Some(self.not_before().max(step.now)),
        }
    }

    fn opening_mut(&mut self) -> Option<&mut Opening> {
        match &mut self.state {
            State::Connecting(connecting) => Some(&mut connecting.opening),
            State::Connected(connected) => match &mut connected.successor {
                Some(Successor::Opening(opening)) => Some(opening),
                Some(Successor::Waiting { .. }) | None => None,
            },
            State::Disabled(_)
            | State::Idle
            | State::Draining(_)
            | State::Backoff(_)
            | State::Parked(_) => None,
        }
    }
}

impl Opening {
    /// Its phase, `Queued` included.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.running.map_or(Phase::Queued, |running| running.phase)
    }

    /// Whichever of its deadlines comes first. None while queued: the gate guarantees progress.
    pub(super) fn deadline(&self) -> Option<(Time, Why)> {
        let running = self.running?;
        let why = match running.phase {
            Phase::Queued | Phase::Spawn => Why::SpawnDeadline,
            Phase::Greet => Why::GreetDeadline,
            Phase::List => Why::ListDeadline,
        };
        Some(if running.total_ends <= running.phase_ends {
            (running.total_ends, Why::ConnectDeadline)
        } else {
            (running.phase_ends, why)
        })
    }
}

pub(super) fn phase_ms(policy: &Policy, phase: Phase) -> u64 {
    match phase {
        Phase::Queued | Phase::Spawn => policy.connect.spawn_ms,
        Phase::Greet => policy.connect.greet_ms,
        Phase::List => policy.connect.list_ms,
    }
}
