//! Reality as the explorer models it, and the laws it checks.

use std::fmt;

use mainstay_core::event::Transition;
use mainstay_core::failure::{Blame, Failure, FailureKind};
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::state::{State, Successor};
use mainstay_core::lifecycle::{
    Effect, Effects, Input, Lifecycle, Phase, Poke, Proof, Start, StopStep,
};
use mainstay_core::policy::Policy;
use mainstay_core::time::Time;

use super::Setup;
use super::defect::{self, Defect};

/// Every normalised world is at this time: far from zero, so that looking back never saturates.
const BASE: Time = Time(1_000_000);

/// Longer than every deadline of the policies that are explored.
const SLEEP_MS: u64 = 20;

/// A generation that ended long ago, in every normalised world.
pub(super) const LONG_DEAD: Generation = Generation(1);

/// Everything that exists: the machine under test and reality around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The machine under test.
    pub lifecycle: Lifecycle,
    pub(super) now: Time,
    pub(super) live: Vec<Live>,
    pub(super) queued: Option<Generation>,
    pub(super) highest: Generation,
    pub(super) accepting: Option<Generation>,
    pub(super) published: bool,
    /// An operator disabled it and did not enable it since.
    pub(super) disabled: bool,
    pub(super) shut: bool,
    pub(super) open_allowed_at: Time,
    /// Opens since the last proof of health or clean slate.
    pub(super) unproven: u32,
    /// Index of the policy in force.
    pub(super) policy: usize,
    /// Until then one failure is the sleep's.
    pub(super) slept_until: Time,
    /// The runtime that has just vanished, while the machine hears of it.
    pub(super) ghost: Option<Live>,
}

/// What followed from an action.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The world after it.
    pub world: World,
    /// The record of the change, if the machine changed its state.
    pub change: Option<Transition>,
}

/// A runtime that exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Live {
    pub(super) generation: Generation,
    /// Calls may be running on it.
    pub(super) leases: bool,
    /// The last step of its stop that was ordered.
    pub(super) stop: Option<StopStep>,
    /// When it must have opened or been given up.
    pub(super) connect_ends: Time,
}

/// Something that happens in a world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An input, given now, with one of the seeds.
    Give(Input, usize),
    /// Time jumps to the next deadline, which fires.
    Jump(usize),
    /// A little time passes and nothing happens.
    Tick,
    /// The machine sleeps past every deadline, and its clock goes on meanwhile.
    Sleep(usize),
    /// From here on everybody cooperates (or, after a shutdown, everything ends).
    Cooperate,
}

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub(super) String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Give(input, _) => match input.generation() {
                Some(generation) => write!(f, "{} from {}", input.word(), generation.0),
                None => f.write_str(input.word()),
            },
            Action::Jump(_) => f.write_str("next deadline"),
            Action::Tick => f.write_str("tick"),
            Action::Sleep(_) => f.write_str("sleep"),
            Action::Cooperate => f.write_str("then everybody cooperates"),
        }
    }
}

macro_rules! law {
    ($holds:expr, $($broken:tt)+) => {
        if !$holds {
            return Err(Violation(format!($($broken)+)));
        }
    };
}
pub(super) use law;

impl World {
    /// Before the start.
    #[must_use]
    pub fn new(setup: &Setup) -> World {
        World {
            lifecycle: Lifecycle::new(setup.seeds.first().copied().unwrap_or(0), Start::Enabled),
            now: BASE,
            live: Vec::new(),
            queued: None,
            highest: Generation::NONE,
            accepting: None,
            published: false,
            disabled: false,
            shut: false,
            open_allowed_at: BASE,
            unproven: 0,
            policy: 0,
            slept_until: BASE,
            ghost: None,
        }
        .normalised()
    }

    /// Everything that can happen in this world and may change it.
    #[must_use]
    pub fn actions(&self, setup: &Setup) -> Vec<Action> {
        let orders = [
            Input::Start,
            Input::Enable,
            Input::Disable,
            Input::Restart,
            Input::Replace,
            Input::Wanted,
            Input::Poke(Poke::Credentials),
            Input::Poke(Poke::Network),
            Input::Poke(Poke::Config),
            Input::Stagger,
            Input::Woke { asleep_ms: 3 },
            Input::Shutdown { impatient: false },
            Input::Shutdown { impatient: true },
        ];
        let granted = self.queued.map(|generation| Input::Granted { generation });
        let messages = self
            .live
            .iter()
            .flat_map(|live| messages(live.generation, self.now));
        let inputs = orders.into_iter().chain(granted).chain(messages);
        let mut actions = Vec::new();
        for input in inputs.filter(|input| !setup.without.contains(&input.word())) {
            let seeds = if draws(&input) { setup.seeds.len() } else { 1 };
            actions.extend((0..seeds).map(|seed| Action::Give(input.clone(), seed)));
        }
        match self.lifecycle.next_deadline() {
            Some((at, _)) => {
                actions.extend((0..setup.seeds.len()).map(Action::Jump));
                if at > self.now + 1 {
                    actions.push(Action::Tick);
                }
            }
            None => actions.push(Action::Tick),
        }
        if !setup.without.contains(&"sleep") {
            actions.extend((0..setup.seeds.len()).map(Action::Sleep));
        }
        if setup.without.contains(&"tick") && self.lifecycle.next_deadline().is_some() {
            actions.retain(|action| *action != Action::Tick);
        }
        actions
    }

    /// What follows when `action` happens.
    ///
    /// # Errors
    ///
    /// The law that is broken by what the machine decided.
    pub fn take(
        &self,
        setup: &Setup,
        action: &Action,
        defect: Option<Defect>,
    ) -> Result<Outcome, Violation> {
        let mut next = self.clone();
        let mut change = None;
        match action {
            Action::Give(input, seed) => {
                change = next.give(setup, input.clone(), *seed, defect)?;
            }
            Action::Jump(seed) => {
                if let Some((at, _)) = next.lifecycle.next_deadline() {
                    next.now = next.now.max(at);
                }
                change = next.give(setup, Input::Timeout, *seed, defect)?;
                let due = next
                    .lifecycle
                    .next_deadline()
                    .is_some_and(|(at, _)| at <= next.now);
                law!(
                    !due,
                    "a deadline that was handled is still due: the driver would loop"
                );
            }
            Action::Tick => {
                next.now = next.now + 1;
                next.check_known()?;
            }
            Action::Sleep(seed) => {
                next.now = next.now + SLEEP_MS;
                change = next.give(setup, Input::Woke { asleep_ms: 0 }, *seed, defect)?;
            }
            Action::Cooperate => {}
        }
        Ok(Outcome {
            world: next.normalised(),
            change,
        })
    }

    pub(super) fn policy<'a>(&self, setup: &'a Setup) -> &'a Policy {
        &setup.policies[self.policy % setup.policies.len()]
    }

    /// Gives one input to the machine and performs what it decides.
    fn give(
        &mut self,
        setup: &Setup,
        input: Input,
        seed: usize,
        defect: Option<Defect>,
    ) -> Result<Option<Transition>, Violation> {
        let seed = setup.seeds.get(seed).copied().unwrap_or(0);
        self.lifecycle =
            self.lifecycle
                .normalised(self.now, self.now, &|generation| generation, seed);
        self.happens(setup, &input);
        let policy = self.policy(setup);
        let before = self.lifecycle.clone();
        let before_status = before.status(self.now);
        let mut effects = Effects::new();
        defect::step(
            defect,
            &mut self.lifecycle,
            policy,
            self.now,
            input.clone(),
            &mut effects,
        );

        self.check_common_cause(&input, &effects)?;
        let mut record = None;
        let mut changes = 0;
        for effect in effects.drain() {
            if let Effect::Changed(change) = &effect {
                changes += 1;
                law!(
                    (change.from, change.from_generation)
                        == (before_status.state, before_status.generation),
                    "the record of a change does not start where the state was (F235)"
                );
                record = Some(change.clone());
            }
            self.perform(policy, effect)?;
        }
        let status = self.lifecycle.status(self.now);
        let moved =
            (before_status.state, before_status.generation) != (status.state, status.generation);
        law!(
            changes == u32::from(moved),
            "{changes} records of one change (F235, F236)"
        );
        let untold = self.ghost.take().is_some_and(|ghost| ghost.leases);
        law!(
            !untold,
            "a generation vanished and its calls were never told (law 16)"
        );
        if status.charges > before_status.charges {
            self.check_charge(&input, &before)?;
        }
        self.count_proofs(&input, &before, policy)?;
        self.check_state(policy, defect)?;
        Ok(record)
    }

    /// What the input means in reality, before the machine hears of it.
    fn happens(&mut self, setup: &Setup, input: &Input) {
        match input {
            Input::Enable => {
                if self.disabled {
                    self.unproven = 0;
                }
                self.disabled = false;
            }
            Input::Disable => self.disabled = true,
            Input::Shutdown { .. } => self.shut = true,
            Input::Woke { .. } => {
                let policy = self.policy(setup);
                let connect_ends = self.now + policy.connect.total_ms;
                self.slept_until = self.now + policy.wake.grace_ms;
                for live in &mut self.live {
                    live.connect_ends = connect_ends;
                }
            }
            Input::Replace => self.policy = (self.policy + 1) % setup.policies.len(),
            Input::Drained { generation } if self.accepting != Some(*generation) => {
                self.release(*generation);
            }
            Input::Gone { generation } => {
                let index = self
                    .live
                    .iter()
                    .position(|live| live.generation == *generation);
                self.ghost = index.map(|index| self.live.remove(index));
            }
            Input::Unused { generation } => {
                self.release(*generation);
                if self.accepting == Some(*generation) {
                    self.accepting = None;
                    // Stopped because nobody used it: that attempt did not fail.
                    self.unproven = self.unproven.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    fn release(&mut self, generation: Generation) {
        for live in self.live.iter_mut().chain(&mut self.ghost) {
            live.leases &= live.generation != generation;
        }
    }

    fn find(&mut self, generation: Generation) -> Option<&mut Live> {
        self.live
            .iter_mut()
            .find(|live| live.generation == generation)
    }

    /// Performs one effect, and checks that it may be performed.
    fn perform(&mut self, policy: &Policy, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::RequestOpen { generation, .. } => {
                law!(
                    generation > self.highest,
                    "a generation is used twice (law 3)"
                );
                self.highest = generation;
                self.queued = Some(generation);
            }
            Effect::Open { generation, .. } => self.open(policy, generation)?,
            Effect::Accept { generation } => {
                law!(
                    !self.disabled && !self.shut,
                    "a disabled or shut down slot takes calls (laws 5, 6)"
                );
                let Some(live) = self.find(generation) else {
                    return Err(Violation(
                        "accepts on a runtime that does not exist".to_owned(),
                    ));
                };
                law!(
                    live.stop.is_none(),
                    "accepts on a runtime that is being stopped"
                );
                live.leases = true;
                self.accepting = Some(generation);
            }
            Effect::Fence { generation } => {
                if self.accepting == Some(generation) {
                    self.accepting = None;
                }
            }
            Effect::Fail { generation, .. } => {
                law!(
                    self.accepting != Some(generation),
                    "calls are failed before the fence (law 4)"
                );
                self.release(generation);
            }
            Effect::Stop { generation, how } => self.stop(generation, how)?,
            Effect::Publish { generation } => {
                law!(
                    self.accepting == Some(generation),
                    "publishes what does not serve (law 21)"
                );
                self.published = true;
            }
            Effect::Retract => {
                law!(self.disabled, "unpublished without being disabled (law 22)");
                self.published = false;
            }
            Effect::Probe { generation, .. } | Effect::FenceIfUnused { generation, .. } => {
                law!(
                    self.accepting == Some(generation),
                    "asks about a generation that does not serve"
                );
            }
            Effect::CleanupFault { generation, .. } => {
                law!(
                    self.accepting != Some(generation),
                    "what serves cannot have been closed (law 4)"
                );
            }
            Effect::Changed(_) => {}
        }
        Ok(())
    }

    fn open(&mut self, policy: &Policy, generation: Generation) -> Result<(), Violation> {
        law!(
            self.queued == Some(generation),
            "opens without a permit (law 10)"
        );
        law!(!self.shut, "opens after a shutdown (law 6)");
        law!(!self.disabled, "opens although disabled (law 5)");
        law!(
            self.now >= self.open_allowed_at,
            "opens before the minimum interval has passed (law 10)"
        );
        law!(
            !policy.exclusive || self.live.is_empty(),
            "two runtimes of an exclusive server (law 2)"
        );
        self.unproven = self.unproven.saturating_add(1);
        law!(
            self.unproven <= policy.budget + 1,
            "more attempts than budget + 1 (law 9)"
        );
        self.queued = None;
        self.open_allowed_at = self.now + policy.open_interval_ms.max(1);
        let connect_ends = self.now + policy.connect.total_ms;
        self.live.push(Live {
            generation,
            leases: false,
            stop: None,
            connect_ends,
        });
        Ok(())
    }

    fn stop(&mut self, generation: Generation, how: StopStep) -> Result<(), Violation> {
        law!(
            self.accepting != Some(generation),
            "stops what still takes calls (law 4)"
        );
        let Some(live) = self.find(generation) else {
            return Err(Violation("stops a runtime that does not exist".to_owned()));
        };
        law!(
            how == StopStep::Drain || !live.leases,
            "stops a runtime under its calls without telling them (S-14)"
        );
        law!(
            live.stop
                .is_none_or(|before| before < how || how == StopStep::Kill),
            "a stop goes backwards"
        );
        live.stop = Some(how);
        Ok(())
    }

    /// Attempts that ended for a reason that is never charged are none.
    fn forgive(&mut self, input: &Input, before: &Lifecycle) {
        // What needs a human is not charged: it ends the attempts by itself.
        if let Input::OpenFailed {
            generation,
            failure,
        }
        | Input::Exited {
            generation,
            failure,
        } = input
            && failure.kind.blame() == Blame::Human
            && before
                .opening()
                .is_some_and(|opening| opening.generation == *generation)
        {
            self.unproven = self.unproven.saturating_sub(1);
        }
    }

    /// Keeps the count of opens without proof in between, by what reality knows.
    fn count_proofs(
        &mut self,
        input: &Input,
        before: &Lifecycle,
        policy: &Policy,
    ) -> Result<(), Violation> {
        self.forgive(input, before);
        match input {
            Input::Proof { generation, .. } if self.accepting == Some(*generation) => {
                self.unproven = 0
            }
            Input::Restart | Input::Replace | Input::Poke(Poke::Credentials | Poke::Config) => {
                self.unproven = 0;
            }
            Input::OpenFailed { .. }
            | Input::Gone { .. }
            | Input::Exited { .. }
            | Input::SessionLost { .. }
                if poked(before) =>
            {
                self.unproven = 0;
            }
            // Law 15: a server that says when to come back has not failed.
            Input::OpenFailed {
                generation,
                failure,
            }
            | Input::Exited {
                generation,
                failure,
            } if failure.kind.is_a_wait()
                && failure.retry_after_ms.is_some()
                && match before.opening() {
                    Some(opening) => opening.generation == *generation,
                    None => {
                        matches!(before.state(), State::Connected(_))
                            && before.state().generation() == Some(*generation)
                    }
                } =>
            {
                self.unproven = self.unproven.saturating_sub(1);
            }
            // Blamed on the sleep.
            Input::OpenFailed { .. }
            | Input::Exited { .. }
            | Input::Gone { .. }
            | Input::SessionLost { .. }
            | Input::ProbeMissed { .. }
            | Input::Timeout
                if self.slept_until > self.now
                    && before.state().generation().is_some()
                    && self.lifecycle.status(self.now).charges
                        == before.status(self.now).charges =>
            {
                self.unproven = self.unproven.saturating_sub(1);
            }
            Input::Timeout
                if poked(before) && !matches!(self.lifecycle.state(), State::Connecting(_)) =>
            {
                self.unproven = 0;
            }
            Input::Timeout
                if !before.status(self.now).proven && self.lifecycle.status(self.now).proven =>
            {
                self.unproven = 0;
            }
            _ => {}
        }
        self.ration(before, policy)
    }

    /// Who is out of budget gets one attempt at a time from here on.
    fn ration(&mut self, before: &Lifecycle, policy: &Policy) -> Result<(), Violation> {
        match self.lifecycle.state() {
            State::Parked(_) => self.unproven = self.unproven.min(policy.budget),
            State::Connected(connected) => {
                let exhausted = self.lifecycle.status(self.now).charges > policy.budget;
                if let Some(Successor::Waiting { until: Some(until) }) = &connected.successor
                    && exhausted
                    && before.opening().is_some()
                    && self.lifecycle.opening().is_none()
                {
                    let slowly = policy
                        .parked_probe_ms
                        .is_none_or(|ms| *until >= self.now + ms);
                    law!(
                        slowly,
                        "a replacement that is out of budget is tried like one that is not (law 9)"
                    );
                    self.unproven = self.unproven.min(policy.budget);
                }
                if matches!(
                    &connected.successor,
                    Some(Successor::Waiting { until: None })
                ) {
                    self.unproven = self.unproven.min(policy.budget);
                }
            }
            State::Disabled(_)
            | State::Idle
            | State::Connecting(_)
            | State::Draining(_)
            | State::Backoff(_) => {}
        }
        Ok(())
    }

    /// The same world as far as its future is concerned.
    fn normalised(mut self) -> World {
        let mut names: Vec<Generation> = self.lifecycle.generations().collect();
        names.extend(self.live.iter().map(|live| live.generation));
        names.extend(self.queued);
        names.push(self.highest);
        names.retain(|generation| *generation != Generation::NONE);
        names.sort_unstable();
        names.dedup();
        // The newest always gets a name of its own above the long dead.
        let rename = |generation: Generation| match names.binary_search(&generation) {
            Ok(rank) => Generation(LONG_DEAD.0 + 1 + rank as u64),
            Err(_) => generation,
        };
        let now = self.now;
        let shift = |at: Time| BASE + at.since(now);
        self.lifecycle = self.lifecycle.normalised(now, BASE, &rename, 0);
        for live in &mut self.live {
            live.generation = rename(live.generation);
            // Only looked at while connecting.
            let opening = self
                .lifecycle
                .opening()
                .is_some_and(|opening| opening.generation == live.generation);
            live.connect_ends = if opening {
                shift(live.connect_ends)
            } else {
                BASE
            };
        }
        self.live.sort_by_key(|live| live.generation);
        self.queued = self.queued.map(rename);
        self.highest = rename(self.highest);
        self.accepting = self.accepting.map(rename);
        self.open_allowed_at = shift(self.open_allowed_at);
        self.slept_until = shift(self.slept_until);
        self.now = BASE;
        self
    }
}

/// Whether the running attempt was made obsolete by new credentials or a new config.
fn poked(lifecycle: &Lifecycle) -> bool {
    matches!(lifecycle.state(), State::Connecting(connecting) if connecting.poked)
}

/// Whether the machine may draw a delay because of this input.
fn draws(input: &Input) -> bool {
    matches!(
        input,
        Input::OpenFailed { .. }
            | Input::Exited { .. }
            | Input::Gone { .. }
            | Input::SessionLost { .. }
            | Input::Poke(Poke::Network)
            | Input::Stagger
            | Input::Woke { .. }
    )
}

/// Everything a runtime could say, sensible or not.
pub(super) fn messages(generation: Generation, now: Time) -> Vec<Input> {
    let unreachable = Failure::new(FailureKind::Unreachable);
    let human = Failure::new(FailureKind::BadConfig);
    let limited = Failure::new(FailureKind::RateLimited).with_retry_after_ms(1);
    vec![
        Input::Phase {
            generation,
            phase: Phase::Greet,
        },
        Input::Phase {
            generation,
            phase: Phase::List,
        },
        Input::Life { generation },
        Input::Opened { generation },
        Input::OpenFailed {
            generation,
            failure: unreachable.clone(),
        },
        Input::OpenFailed {
            generation,
            failure: human.clone(),
        },
        Input::OpenFailed {
            generation,
            failure: limited,
        },
        Input::Exited {
            generation,
            failure: unreachable,
        },
        Input::Exited {
            generation,
            failure: human,
        },
        Input::SessionLost { generation },
        Input::ServerClosing { generation },
        Input::Drained { generation },
        Input::Gone { generation },
        Input::Proof {
            generation,
            proof: Proof::ServedCall,
        },
        Input::Proof {
            generation,
            proof: Proof::ProbeAnswered,
        },
        Input::Traffic {
            generation,
            at: now,
        },
        Input::ProbeMissed { generation },
        Input::Suspect { generation },
        Input::Unused { generation },
    ]
}
