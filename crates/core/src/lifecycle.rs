//! One slot's connection: the state machine that decides when it is opened, trusted, probed, stopped and retried.
//!
//! One verb changes it: [`Lifecycle::step`]. One question asks when to wake it: [`Lifecycle::next_deadline`]. It never
//! waits, performs nothing, and knows nothing of bytes, processes or sockets.
//!
//! Reading order: `state` (what it remembers), this file (dispatch), `opening`, `serving`, `stopping`, `orders`, `waking`
//! (what it decides).

pub mod effect;
pub mod input;
mod opening;
mod orders;
mod serving;
pub mod state;
pub mod status;
mod stopping;
mod view;
mod waking;

pub use effect::{Effect, Effects, StopStep};
pub use input::{Input, OpenMode, Phase, Poke, Proof};
pub use state::State;
pub use status::{Marks, StateWord, Status, Why};

use crate::budget::{Budget, Renewals};
use crate::event::{Cause, Transition};
use crate::failure::Failure;
use crate::ids::Generation;
use crate::policy::Policy;
use crate::time::Time;
use state::{Connecting, DisabledBy, Next, Opening, Parked, Stopping, Successor};

/// Whether a new slot is meant to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Start {
    /// It opens on `Input::Start` (or waits for a call, if the policy is lazy).
    Enabled,
    /// It stays disabled until `Input::Enable`.
    Disabled,
}

/// The connection of one slot, as a decision machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    state: State,
    /// The newest generation that was ever requested.
    newest: Generation,
    /// Old generations being stopped in the background (never for exclusive servers).
    retiring: Vec<Stopping>,
    budget: Budget,
    renewals: Renewals,
    /// Minimum interval between two opens: holds on every path (law 10).
    open_not_before: Time,
    /// The server's own wish; an operator, new credentials or a new config override it.
    retry_not_before: Time,
    /// Until then the next failure is blamed on the machine's sleep (law 12).
    slept_until: Time,
    /// State of the jitter generator.
    seed: u64,
    /// For people only.
    notes: Notes,
}

/// What is only told and never decided upon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Notes {
    since: Time,
    opens: u64,
    failure: Option<Failure>,
    cleanup_faults: u64,
    cleanup_fault: Option<Failure>,
    died_together: bool,
}

/// What every decision needs: the policy, the time, where effects go, and what to name as the cause of a change.
struct Step<'a> {
    policy: &'a Policy,
    now: Time,
    out: &'a mut Effects,
    cause: Cause,
}

impl Step<'_> {
    fn emit(&mut self, effect: Effect) {
        self.out.push(effect);
    }
}

/// What a generation is to this lifecycle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Main,
    Successor,
    Retiring(usize),
}

/// What a server's new slot takes over from the one that was removed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Former {
    /// The newest generation there ever was.
    pub newest: Generation,
    /// When the next one may be opened at the earliest.
    pub open_not_before: Time,
}

impl Lifecycle {
    /// A slot that has not been started. `slot_seed` decides all its jitter: equal seeds replay.
    #[must_use]
    pub fn new(slot_seed: u64, start: Start) -> Lifecycle {
        let by = match start {
            Start::Enabled => DisabledBy::NotStarted,
            Start::Disabled => DisabledBy::Config,
        };
        Lifecycle {
            state: State::Disabled(by),
            newest: Generation::NONE,
            retiring: Vec::new(),
            budget: Budget::default(),
            renewals: Renewals::default(),
            open_not_before: Time::ZERO,
            retry_not_before: Time::ZERO,
            slept_until: Time::ZERO,
            seed: slot_seed,
            notes: Notes::default(),
        }
    }

    /// Goes on where another lifecycle of the same server ended: generations only grow (law 3), and the interval between two
    /// opens holds (law 10), whatever was in between. Before the first step.
    #[must_use]
    pub fn after(mut self, former: Former) -> Lifecycle {
        self.newest = former.newest;
        self.open_not_before = former.open_not_before;
        self
    }

    /// Decides what follows from `input` at `now`. Total: every input is legal in every state. A message of a generation
    /// that is no longer known changes nothing (law 3).
    pub fn step(&mut self, policy: &Policy, now: Time, input: Input, out: &mut Effects) {
        let before = (self.state.word(), self.generation());
        let mut step = Step {
            policy,
            now,
            out,
            cause: cause_of(&input),
        };
        match input.generation() {
            Some(generation) => match self.role(generation) {
                Some(role) => self.on_message(&mut step, role, input),
                None => return,
            },
            None => self.on_order(&mut step, input),
        }
        let after = (self.state.word(), self.generation());
        if before != after {
            self.notes.since = now;
            let changed = Transition {
                at: now,
                from: before.0,
                from_generation: before.1,
                to: after.0,
                generation: after.1,
                cause: step.cause,
                failure: self.state_failure().cloned(),
                charges: self.budget.charges(),
                next: self.next_deadline(),
            };
            out.push(Effect::Changed(changed));
        }
    }

    /// When to wake this lifecycle with `Input::Timeout`, and why. `None`: only an input can move it.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Time, Why)> {
        let retiring = self.retiring.iter().map(Stopping::named_deadline);
        self.own_deadlines()
            .into_iter()
            .flatten()
            .chain(retiring)
            .min()
    }

    /// The deadlines of the state itself, in no particular order: those of [`Lifecycle::next_deadline`] without the old
    /// generations that are being stopped in the background.
    pub fn deadlines(&self) -> impl Iterator<Item = (Time, Why)> + '_ {
        self.own_deadlines().into_iter().flatten()
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Whether `generation` may still change anything here. Messages of all others are stale.
    #[must_use]
    pub fn knows(&self, generation: Generation) -> bool {
        self.role(generation).is_some()
    }

    /// The generation that is being opened, if any; the start gate serves it.
    #[must_use]
    pub const fn opening(&self) -> Option<&Opening> {
        match &self.state {
            State::Connecting(Connecting { opening, .. }) => Some(opening),
            State::Connected(connected) => match &connected.successor {
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

    /// Whether it was shut down and nothing of it exists any more.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.state == State::Disabled(DisabledBy::Shutdown) && self.retiring.is_empty()
    }

    /// The generation the state is about, or the newest one.
    fn generation(&self) -> Generation {
        self.state.generation().unwrap_or(self.newest)
    }

    fn role(&self, generation: Generation) -> Option<Role> {
        if self.state.generation() == Some(generation) {
            return Some(Role::Main);
        }
        if self
            .opening()
            .is_some_and(|opening| opening.generation == generation)
        {
            return Some(Role::Successor);
        }
        self.retiring
            .iter()
            .position(|old| old.generation == generation)
            .map(Role::Retiring)
    }

    fn state_failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Draining(draining) => match &draining.next {
                Next::Retry { failure, .. } | Next::Park { failure, .. } => Some(failure),
                Next::Disabled(_) | Next::Idle | Next::Open(_) => None,
            },
            State::Backoff(backoff) => backoff.failure.as_ref(),
            State::Parked(Parked { failure, .. }) => Some(failure),
            State::Disabled(_) | State::Idle | State::Connecting(_) | State::Connected(_) => None,
        }
    }

    /// The deadlines of the state itself, without the generations that retire in the background.
    fn own_deadlines(&self) -> [Option<(Time, Why)>; 4] {
        match &self.state {
            State::Disabled(_) | State::Idle => [None; 4],
            State::Connecting(connecting) => [connecting.opening.deadline(), None, None, None],
            State::Connected(connected) => [
                connected.stable_at.map(|at| (at, Why::Stable)),
                connected.keepalive.named_deadline(),
                connected.unused_at.map(|at| (at, Why::IdleLimit)),
                match &connected.successor {
                    Some(Successor::Opening(opening)) => opening.deadline(),
                    Some(Successor::Waiting { until }) => until.map(|at| (at, Why::SuccessorRetry)),
                    None => None,
                },
            ],
            State::Draining(draining) => {
                [Some(draining.stopping.named_deadline()), None, None, None]
            }
            State::Backoff(backoff) => [Some((backoff.until, Why::Retry)), None, None, None],
            State::Parked(parked) => [
                parked.probe_at.map(|at| (at, Why::ParkedProbe)),
                None,
                None,
                None,
            ],
        }
    }

    /// A message from a runtime whose generation is known.
    fn on_message(&mut self, step: &mut Step<'_>, role: Role, input: Input) {
        match role {
            Role::Retiring(index) => self.on_retiring(step, index, &input),
            Role::Successor => self.on_opening(step, role, input),
            Role::Main => match self.state.word() {
                StateWord::Connecting => self.on_opening(step, role, input),
                StateWord::Connected => self.on_serving(step, input),
                StateWord::Draining => self.on_draining(step, &input),
                StateWord::Disabled | StateWord::Idle | StateWord::Backoff | StateWord::Parked => {}
            },
        }
    }

    /// An order from a person, the config or the clock.
    fn on_order(&mut self, step: &mut Step<'_>, input: Input) {
        match input {
            Input::Start => self.start(step),
            Input::Enable => self.enable(step),
            Input::Disable => self.disable(step),
            Input::Restart | Input::Replace => self.restart(step, input == Input::Replace),
            Input::Wanted => self.wanted(step),
            Input::Poke(poke) => self.poke(step, poke),
            Input::Woke { asleep_ms } => self.woke(step, asleep_ms),
            Input::Stagger => self.stagger(step),
            Input::Shutdown { impatient } => self.shut_down(step, impatient),
            Input::Timeout => self.time_passed(step),
            Input::Granted { .. }
            | Input::Phase { .. }
            | Input::Life { .. }
            | Input::Opened { .. }
            | Input::OpenFailed { .. }
            | Input::Exited { .. }
            | Input::SessionLost { .. }
            | Input::ServerClosing { .. }
            | Input::Drained { .. }
            | Input::Gone { .. }
            | Input::Proof { .. }
            | Input::Traffic { .. }
            | Input::ProbeMissed { .. }
            | Input::Suspect { .. }
            | Input::Unused { .. } => {}
        }
    }

    /// Handles everything that is due. Every handler moves its deadline into the future or drops it, so this ends; the
    /// bound only keeps an absurd policy from turning a step into a loop.
    fn time_passed(&mut self, step: &mut Step<'_>) {
        const DUE_MAX: usize = 8;
        self.escalate_retiring(step);
        for _ in 0..DUE_MAX {
            let due = self
                .own_deadlines()
                .into_iter()
                .flatten()
                .min()
                .filter(|(at, _)| *at <= step.now);
            let Some((_, why)) = due else { break };
            step.cause = Cause::Deadline(why);
            match why {
                Why::SpawnDeadline
                | Why::GreetDeadline
                | Why::ListDeadline
                | Why::ConnectDeadline => {
                    self.connect_deadline(step);
                }
                Why::DrainDeadline
                | Why::CloseDeadline
                | Why::TerminateDeadline
                | Why::KillDeadline => {
                    self.escalate_draining(step);
                }
                Why::Retry => self.retry(step),
                Why::ParkedProbe => self.parked_probe(step),
                Why::Stable => self.proven(),
                Why::KeepaliveIdle | Why::SuspicionProbe => self.probe(step),
                Why::ProbeDeadline => self.probe_missed(step),
                Why::IdleLimit => self.ask_if_unused(step),
                Why::SuccessorRetry => self.open_successor(step),
                // No lifecycle has this deadline: it is the fleet's.
                Why::DiedTogether => break,
            }
            if self.state.word() != StateWord::Connected {
                break;
            }
        }
    }
}

/// What to name as the cause of a change, unless a handler knows better.
fn cause_of(input: &Input) -> Cause {
    match input {
        Input::Start => Cause::Started,
        Input::Enable => Cause::Enabled,
        Input::Disable => Cause::Disabled,
        Input::Restart => Cause::Restarted,
        Input::Replace => Cause::Replaced,
        Input::Wanted => Cause::Wanted,
        Input::Poke(poke) => Cause::Poked(*poke),
        Input::Woke { .. } => Cause::Woke,
        Input::Stagger => Cause::DiedTogether,
        Input::Shutdown { .. } => Cause::Shutdown,
        Input::OpenFailed { failure, .. } | Input::Exited { failure, .. } => {
            Cause::Failed(failure.clone())
        }
        Input::SessionLost { .. } => Cause::SessionLost,
        Input::ServerClosing { .. } => Cause::ServerClosing,
        Input::Unused { .. } => Cause::Unused,
        Input::Granted { .. }
        | Input::Phase { .. }
        | Input::Life { .. }
        | Input::Opened { .. }
        | Input::Proof { .. }
        | Input::Traffic { .. } => Cause::Opened,
        Input::Drained { .. } | Input::Gone { .. } => Cause::Gone,
        Input::ProbeMissed { .. } | Input::Suspect { .. } => Cause::Deadline(Why::ProbeDeadline),
        Input::Timeout => Cause::Deadline(Why::Retry),
    }
}

#[cfg(test)]
mod tests;
