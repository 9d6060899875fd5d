//! The laws that are checked in every world.

use mainstay_core::failure::Blame;
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::state::{DisabledBy, Next};
use mainstay_core::lifecycle::{Effects, Input, Lifecycle, Poke, State, StateWord};
use mainstay_core::policy::Policy;

use super::Setup;
use super::defect::{self, Defect};
use super::world::{Action, LONG_DEAD, Violation, World, law, messages};

/// Steps within which a cooperative world must have got where it wants.
const PATIENCE: usize = 64;

impl World {
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
            world = world.take(setup, &helpful, defect)?.world;
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

    /// What happens to all servers at once decides nothing at once, and leaves nothing due (law 12, F226).
    pub(super) fn check_common_cause(
        &self,
        input: &Input,
        effects: &Effects,
    ) -> Result<(), Violation> {
        match input {
            Input::Woke { .. } | Input::Stagger | Input::Poke(Poke::Network) => {
                law!(
                    effects.is_empty(),
                    "{} does something in this very instant (law 12)",
                    input.word()
                );
            }
            _ => return Ok(()),
        }
        if matches!(input, Input::Woke { .. }) {
            let due = self.lifecycle.next_deadline();
            law!(
                due.is_none_or(|(at, _)| at > self.now),
                "a deadline fires because of the sleep (law 12)"
            );
        }
        Ok(())
    }

    /// Only a failure that nobody asked for is charged (law 7).
    pub(super) fn check_charge(&self, input: &Input, before: &Lifecycle) -> Result<(), Violation> {
        let word = before.state().word();
        let alive = matches!(word, StateWord::Connecting | StateWord::Connected);
        law!(alive, "{} is charged in {word} (law 4)", input.word());
        let theirs = input.generation().is_none_or(|generation| {
            let opening = before.opening().map(|opening| opening.generation);
            before.state().generation() == Some(generation) || opening == Some(generation)
        });
        law!(
            theirs,
            "noise of an old generation is charged to a new one (law 4, S-01)"
        );
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

    /// What must be true of every state.
    pub(super) fn check_state(
        &mut self,
        policy: &Policy,
        defect: Option<Defect>,
    ) -> Result<(), Violation> {
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
    pub(super) fn check_known(&self) -> Result<(), Violation> {
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
                Some(running) => {
                    law!(exists(opening.generation), "opens what does not exist");
                    let deadline = running.phase_ends.min(running.total_ends);
                    let late = self.live.iter().any(|live| {
                        live.generation == opening.generation && deadline > live.connect_ends
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
}
