//! Reality as the explorer models it, and the laws it checks.

use std::fmt;

use mainstay_core::failure::{Blame, Failure, FailureKind};
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::state::{DisabledBy, Next, State, Successor};
use mainstay_core::lifecycle::{
    Effect, Effects, Input, Lifecycle, Phase, Poke, Proof, Start, StateWord, StopStep,
};
use mainstay_core::policy::Policy;
use mainstay_core::time::Time;

use super::Setup;
use super::defect::{self, Defect};

/// Every normalised world is at this time: far from zero, so that looking back never saturates.
const BASE: Time = Time(1_000_000);

/// A generation that ended long ago, in every normalised world.
const LONG_DEAD: Generation = Generation(1);

/// Steps within which a cooperative world must have got where it wants.
const PATIENCE: usize = 64;

/// Everything that exists: the machine under test and reality around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The machine under test.
    pub lifecycle: Lifecycle,
    now: Time,
    live: Vec<Live>,
    queued: Option<Generation>,
    highest: Generation,
    accepting: Option<Generation>,
    published: bool,
    /// An operator disabled it and did not enable it since.
    disabled: bool,
    shut: bool,
    open_allowed_at: Time,
    /// Opens since the last proof of health or clean slate.
    unproven: u32,
    /// Index of the policy in force.
    policy: usize,
    /// The runtime that has just vanished, while the machine hears of it.
    ghost: Option<Live>,
}

/// A runtime that exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Live {
    generation: Generation,
    /// Calls may be running on it.
    leases: bool,
    /// The last step of its stop that was ordered.
    stop: Option<StopStep>,
    /// When it must have opened or been given up.
    connect_ends: Time,
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
    /// From here on everybody cooperates (or, after a shutdown, everything ends).
    Cooperate,
}

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

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
    ) -> Result<World, Violation> {
        let mut next = self.clone();
        match action {
            Action::Give(input, seed) => next.give(setup, input.clone(), *seed, defect)?,
            Action::Jump(seed) => {
                if let Some((at, _)) = next.lifecycle.next_deadline() {
                    next.now = next.now.max(at);
                }
                next.give(setup, Input::Timeout, *seed, defect)?;
                let due = next
                    .lifecycle
                    .next_deadline()
                    .is_some_and(|(at, _)| at <= next.now);
                law!(
                    !due,
                    "a deadline that was handled is still due: the driver would loop"
                );
            }
            Action::Tick => next.now = next.now + 1,
            Action::Cooperate => {}
        }
        Ok(next.normalised())
    }

    /// Checks what needs no new world: stale messages, spurious timeouts, and that a cooperative world gets where it
    /// wants. Returns the number of edges looked at.
    ///
    /// # Errors
    ///
    /// The broken law and what broke it.
    pub fn check_at_rest(
        &self,
        setup: &Setup,
        defect: Option<Defect>,
    ) -> Result<u64, (Action, Violation)> {
        let mut edges = 0;
        let alive = |generation: Generation| {
            self.live.iter().any(|live| live.generation == generation)
                || self.queued == Some(generation)
        };
        let strangers = [
            Generation::NONE,
            LONG_DEAD,
            self.highest,
            self.highest.next(),
        ];
        for stranger in strangers
            .into_iter()
            .filter(|generation| !alive(*generation))
        {
            let granted = Input::Granted {
                generation: stranger,
            };
            for input in messages(stranger, self.now).into_iter().chain([granted]) {
                edges += 1;
                self.nothing_changes(setup, &input, defect)
                    .map_err(|broken| (Action::Give(input.clone(), 0), broken))?;
            }
        }
        if self
            .lifecycle
            .next_deadline()
            .is_none_or(|(at, _)| at > self.now)
        {
            edges += 1;
            self.nothing_changes(setup, &Input::Timeout, defect)
                .map_err(|broken| (Action::Give(Input::Timeout, 0), broken))?;
        }
        self.cooperates(setup, defect)
            .map_err(|broken| (Action::Cooperate, broken))?;
        Ok(edges + 1)
    }

    fn nothing_changes(
        &self,
        setup: &Setup,
        input: &Input,
        defect: Option<Defect>,
    ) -> Result<(), Violation> {
        let mut lifecycle = self.lifecycle.clone();
        let mut effects = Effects::new();
        defect::step(
            defect,
            &mut lifecycle,
            self.policy(setup),
            self.now,
            input.clone(),
            &mut effects,
        );
        law!(
            effects.is_empty(),
            "a stale or spurious {} had an effect (law 3)",
            input.word()
        );
        law!(
            lifecycle == self.lifecycle,
            "a stale or spurious {} changed the state (law 3)",
            input.word()
        );
        Ok(())
    }

    /// Weak liveness: when everybody cooperates from here on, what is wanted comes about.
    fn cooperates(&self, setup: &Setup, defect: Option<Defect>) -> Result<(), Violation> {
        let mut world = self.clone();
        for _ in 0..PATIENCE {
            if world.has_arrived() {
                return Ok(());
            }
            let helpful = world.helpful();
            world = world.take(setup, &helpful, defect)?;
        }
        law!(
            false,
            "stuck in {} although everybody cooperates",
            world.lifecycle.state().word()
        );
        Ok(())
    }

    /// Whether there is nothing left to wait for.
    fn has_arrived(&self) -> bool {
        let retired = self.live.iter().all(|live| live.stop.is_none());
        match self.lifecycle.state() {
            State::Disabled(DisabledBy::NotStarted) => false,
            State::Disabled(by) => {
                self.live.is_empty() && self.shut == (*by == DisabledBy::Shutdown)
            }
            State::Connected(_) => retired,
            State::Idle
            | State::Connecting(_)
            | State::Draining(_)
            | State::Backoff(_)
            | State::Parked(_) => false,
        }
    }

    /// What a cooperative world does next.
    fn helpful(&self) -> Action {
        if let Some(stopped) = self.live.iter().find(|live| live.stop.is_some()) {
            return Action::Give(
                Input::Gone {
                    generation: stopped.generation,
                },
                0,
            );
        }
        if let Some(generation) = self.queued {
            return Action::Give(Input::Granted { generation }, 0);
        }
        if let Some(opening) = self.lifecycle.opening() {
            return Action::Give(
                Input::Opened {
                    generation: opening.generation,
                },
                0,
            );
        }
        match self.lifecycle.state() {
            State::Disabled(_) => Action::Give(Input::Start, 0),
            State::Idle => Action::Give(Input::Wanted, 0),
            // The human who is needed turns up.
            State::Parked(parked) if parked.probe_at.is_none() => Action::Give(Input::Restart, 0),
            State::Connecting(_)
            | State::Connected(_)
            | State::Draining(_)
            | State::Backoff(_)
            | State::Parked(_) => Action::Jump(0),
        }
    }

    fn policy<'a>(&self, setup: &'a Setup) -> &'a Policy {
        &setup.policies[self.policy % setup.policies.len()]
    }

    /// Gives one input to the machine and performs what it decides.
    fn give(
        &mut self,
        setup: &Setup,
        input: Input,
        seed: usize,
        defect: Option<Defect>,
    ) -> Result<(), Violation> {
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

        let mut changes = 0;
        for effect in effects.drain() {
            if let Effect::Changed(change) = &effect {
                changes += 1;
                law!(
                    (change.from, change.from_generation)
                        == (before_status.state, before_status.generation),
                    "the record of a change does not start where the state was (F235)"
                );
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
        self.check_state(policy, defect)
    }

    /// What the input means in reality, before the machine hears of it.
    fn happens(&mut self, setup: &Setup, input: &Input) {
        match input {
            Input::Enable => self.disabled = false,
            Input::Disable => self.disabled = true,
            Input::Shutdown { .. } => self.shut = true,
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

    /// Only a failure that nobody asked for is charged (law 7).
    fn check_charge(&self, input: &Input, before: &Lifecycle) -> Result<(), Violation> {
        let word = before.state().word();
        let alive = matches!(word, StateWord::Connecting | StateWord::Connected);
        law!(alive, "{} is charged in {word} (law 4)", input.word());
        match input {
            Input::OpenFailed { .. }
            | Input::Exited { .. }
            | Input::Gone { .. }
            | Input::SessionLost { .. }
            | Input::ProbeMissed { .. }
            | Input::Timeout => Ok(()),
            other => Err(Violation(format!(
                "a planned {} is charged (law 7)",
                other.word()
            ))),
        }
    }

    /// Keeps the count of opens without proof in between, by what reality knows.
    fn count_proofs(
        &mut self,
        input: &Input,
        before: &Lifecycle,
        policy: &Policy,
    ) -> Result<(), Violation> {
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
        match input {
            Input::Proof { generation, .. } if self.accepting == Some(*generation) => {
                self.unproven = 0
            }
            Input::Restart
            | Input::Replace
            | Input::Enable
            | Input::Poke(Poke::Credentials | Poke::Config) => {
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
        match self.lifecycle.state() {
            // From here on one attempt at a time.
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

    /// What must be true of every state.
    fn check_state(&mut self, policy: &Policy, defect: Option<Defect>) -> Result<(), Violation> {
        let lifecycle = &self.lifecycle;
        let state = lifecycle.state();
        let word = state.word();
        match state {
            State::Connected(connected) => {
                law!(
                    self.accepting == Some(connected.generation),
                    "connected, but does not take calls"
                );
                law!(self.published, "connected, but not published (law 21)");
            }
            State::Disabled(_)
            | State::Idle
            | State::Connecting(_)
            | State::Draining(_)
            | State::Backoff(_)
            | State::Parked(_) => {
                law!(
                    self.accepting.is_none(),
                    "{word}, but still takes calls (law 2)"
                );
            }
        }
        if self.disabled {
            let down = match state {
                State::Disabled(_) => true,
                State::Draining(draining) => matches!(draining.next, Next::Disabled(_)),
                State::Idle
                | State::Connecting(_)
                | State::Connected(_)
                | State::Backoff(_)
                | State::Parked(_) => false,
            };
            law!(down, "disabled, but {word} (law 5)");
            law!(!self.published, "disabled, but published (law 21)");
        }
        for live in &self.live {
            law!(
                lifecycle.knows(live.generation),
                "{word}, and a live runtime is forgotten (law 6)"
            );
        }
        self.check_known()?;
        self.check_deadlines(policy, defect)?;
        let over = self.shut && self.live.is_empty();
        law!(
            lifecycle.is_shut_down() == over,
            "shut down, and it is not what is reported (law 6)"
        );
        let waits = lifecycle
            .opening()
            .filter(|opening| opening.running.is_none());
        if waits.is_none() {
            self.queued = None;
        }
        Ok(())
    }

    /// What the machine believes to exist exists.
    fn check_known(&self) -> Result<(), Violation> {
        let exists =
            |generation: Generation| self.live.iter().any(|live| live.generation == generation);
        if let State::Draining(draining) = self.lifecycle.state() {
            law!(
                exists(draining.stopping.generation),
                "drains what does not exist"
            );
        }
        if let Some(opening) = self.lifecycle.opening() {
            match &opening.running {
                Some(_) => {
                    law!(exists(opening.generation), "opens what does not exist");
                    let late = self.live.iter().any(|live| {
                        live.generation == opening.generation && self.now > live.connect_ends
                    });
                    law!(!late, "connects for longer than the limit");
                }
                None => law!(
                    self.queued == Some(opening.generation),
                    "waits for the gate without being queued"
                ),
            }
        }
        Ok(())
    }

    /// Everything that is not at rest has a deadline.
    fn check_deadlines(&self, policy: &Policy, defect: Option<Defect>) -> Result<(), Violation> {
        let lifecycle = &self.lifecycle;
        let needed = match lifecycle.state() {
            State::Connecting(connecting) => connecting.opening.running.is_some(),
            State::Draining(_) | State::Backoff(_) => true,
            State::Connected(connected) => {
                connected.stable_at.is_some()
                    || policy.keepalive.is_some()
                    || lifecycle
                        .opening()
                        .is_some_and(|opening| opening.running.is_some())
            }
            State::Parked(parked) => {
                policy.parked_probe_ms.is_some() && parked.failure.kind.blame() != Blame::Human
            }
            State::Disabled(_) | State::Idle => false,
        };
        let stopping = self.live.iter().any(|live| live.stop.is_some());
        let has = defect::next_deadline(defect, lifecycle).is_some();
        law!(
            has || !(needed || stopping),
            "{} without a deadline",
            lifecycle.state().word()
        );
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
    )
}

/// Everything a runtime could say, sensible or not.
fn messages(generation: Generation, now: Time) -> Vec<Input> {
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
