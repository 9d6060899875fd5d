//! All slots together: the start gate, the shutdown of everything, and one clock for all.
//!
//! The start gate is the one choke point through which every open passes (law 10): at most `start_gate` opens are under
//! way at a time, first come, first served. A permit is held from the grant until the open has ended, however it ends.
//! Slots share nothing else: one server's trouble delays no other (law 27), except that servers that died together do not
//! come back together (F77).

mod together;

pub use together::{DeathsTogether, TOGETHER_MS};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::backoff;
use crate::event::{Cause, Transition};
use crate::ids::{Generation, SlotId};
use crate::lifecycle::{
    Effect, Effects, Former, Input, Lifecycle, Poke, Start, StateWord, Status, Why,
};
use crate::policy::Policy;
use crate::time::Time;
use together::Deaths;

/// What holds for all slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FleetPolicy {
    /// Opens under way at the same time. Zero counts as one.
    pub start_gate: usize,
    /// Decides all jitter: equal seeds replay.
    pub seed: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FleetInput {
    /// A slot that never existed before; it is started at once. Ignored if it exists.
    Add {
        /// Never used before.
        slot: SlotId,
        /// The server's name.
        name: Box<str>,
        /// How it is run.
        policy: Policy,
        /// Whether it is meant to run.
        start: Start,
        /// What a slot of the same server that was removed before leaves behind.
        after: Option<Former>,
    },
    /// The policy changed in a way that needs no replacement.
    Patch {
        /// Which.
        slot: SlotId,
        /// The new one.
        policy: Policy,
    },
    /// The server changed: a planned replacement under the new policy.
    Replace {
        /// Which.
        slot: SlotId,
        /// The new one.
        policy: Policy,
    },
    /// The slot goes away: unpublished at once, `FleetEffect::Removed` when nothing of it exists any more.
    Remove {
        /// Which. One that does not exist is removed at once.
        slot: SlotId,
    },
    /// Something for one slot.
    Slot {
        /// Which.
        slot: SlotId,
        /// What. `Granted` and `Stagger` are the fleet's own words: given from outside they are ignored.
        input: Input,
    },
    /// The machine slept: give this before anything else that happens after the sleep (law 12).
    Woke {
        /// The part of the sleep that the clock of the steps did not count; zero where it went on.
        asleep_ms: u64,
    },
    /// The machine's network changed.
    NetworkChanged,
    /// Nothing opens ever again, in any slot. A second, impatient one skips the grace.
    Shutdown {
        /// Kill at once.
        impatient: bool,
    },
    /// Time passed. Spurious ones are harmless.
    Timeout,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FleetEffect {
    /// For one slot. Never `Effect::RequestOpen`: the gate consumes those.
    Slot {
        /// Which.
        slot: SlotId,
        /// What.
        effect: Effect,
    },
    /// Nothing of the slot exists any more. Once per `Remove`.
    Removed {
        /// Which.
        slot: SlotId,
    },
    /// Several servers died together: look for a common cause. Once per burst, when it is over (F77).
    DiedTogether(DeathsTogether),
    /// Nothing of any slot exists any more. Once.
    ShutDown,
}

/// The caller's buffer into which a step pushes its effects. Reuse it: drain it after every step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "effects that are not performed are decisions that never happen"]
pub struct FleetEffects(Vec<FleetEffect>);

impl FleetEffects {
    /// An empty buffer.
    pub const fn new() -> FleetEffects {
        FleetEffects(Vec::new())
    }

    /// Takes everything out, in order, and keeps the allocation.
    pub fn drain(&mut self) -> impl Iterator<Item = FleetEffect> + '_ {
        self.0.drain(..)
    }

    /// Looks without taking.
    pub fn iter(&self) -> std::slice::Iter<'_, FleetEffect> {
        self.0.iter()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, effect: FleetEffect) {
        self.0.push(effect);
    }
}

/// All slots.
#[derive(Clone, Debug)]
pub struct Fleet {
    policy: FleetPolicy,
    slots: BTreeMap<SlotId, Slot>,
    gate: Gate,
    /// The next deadline of every slot that has one.
    deadlines: BTreeSet<(Time, SlotId)>,
    deaths: Deaths,
    clock: Time,
    shutdown: Shutdown,
    /// Scratch space of a step.
    effects: Effects,
}

#[derive(Clone, Debug)]
struct Slot {
    name: Box<str>,
    policy: Policy,
    lifecycle: Lifecycle,
    deadline: Option<Time>,
    stale: u64,
    removing: bool,
}

/// Who is being opened, and who waits for that.
#[derive(Clone, Debug)]
struct Gate {
    limit: usize,
    /// At most one entry per slot: a slot opens one generation at a time.
    queue: VecDeque<(SlotId, Generation)>,
    holding: BTreeMap<SlotId, Generation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    No,
    /// Slots that still have to end.
    Waiting,
    Done,
}

impl Fleet {
    /// A fleet without slots.
    #[must_use]
    pub fn new(policy: FleetPolicy) -> Fleet {
        Fleet {
            gate: Gate {
                limit: policy.start_gate.max(1),
                queue: VecDeque::new(),
                holding: BTreeMap::new(),
            },
            policy,
            slots: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            deaths: Deaths::default(),
            clock: Time::ZERO,
            shutdown: Shutdown::No,
            effects: Effects::new(),
        }
    }

    /// Decides what follows from `input` at `now`. A clock that runs backwards is held still.
    pub fn step(&mut self, now: Time, input: FleetInput, out: &mut FleetEffects) {
        debug_assert!(now >= self.clock, "time never runs backwards");
        self.clock = self.clock.max(now);
        if let Some(together) = self.deaths.take_over(self.clock) {
            out.push(FleetEffect::DiedTogether(together));
        }
        match input {
            FleetInput::Add {
                slot,
                name,
                policy,
                start,
                after,
            } => {
                let mut seed = self.policy.seed ^ u64::from(slot.0).rotate_left(32);
                let mut lifecycle = Lifecycle::new(backoff::draw(&mut seed), start);
                if let Some(former) = after {
                    lifecycle = lifecycle.after(former);
                }
                self.add(slot, name, policy, lifecycle, out);
            }
            FleetInput::Patch { slot, policy } => {
                self.with_policy(slot, policy, Input::Poke(Poke::Config), out);
            }
            FleetInput::Replace { slot, policy } => {
                self.with_policy(slot, policy, Input::Replace, out)
            }
            FleetInput::Remove { slot } => self.remove(slot, out),
            FleetInput::Slot {
                input: Input::Granted { .. } | Input::Stagger,
                ..
            } => {}
            FleetInput::Slot { slot, input } => self.step_slot(slot, input, out),
            FleetInput::Woke { asleep_ms } => self.step_all(&Input::Woke { asleep_ms }, out),
            FleetInput::NetworkChanged => self.step_all(&Input::Poke(Poke::Network), out),
            FleetInput::Shutdown { impatient } => self.shut_down(impatient, out),
            FleetInput::Timeout => self.time_passed(out),
        }
        self.open_gate(out);
        self.report_shutdown(out);
    }

    /// When to wake the fleet with `FleetInput::Timeout`, for which slot, if it is one slot's deadline, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Time, Option<SlotId>, Why)> {
        let slots = self.deadlines.first().and_then(|(at, slot)| {
            let (_, why) = self.slots.get(slot)?.lifecycle.next_deadline()?;
            Some((*at, Some(*slot), why))
        });
        let own = self.deaths.deadline();
        let own = own.map(|at| (at, None, Why::DiedTogether));
        slots.into_iter().chain(own).min()
    }

    /// The slots whose deadline has come by `now`, in the order in which it came.
    pub fn due(&self, now: Time) -> impl Iterator<Item = SlotId> + '_ {
        let due = self.deadlines.iter().take_while(move |(at, _)| *at <= now);
        due.map(|(_, slot)| *slot)
    }

    /// Where one slot stands.
    #[must_use]
    pub fn status(&self, slot: SlotId) -> Option<Status> {
        let entry = self.slots.get(&slot)?;
        Some(Status {
            stale: entry.stale,
            ..entry.lifecycle.status(self.clock)
        })
    }

    /// All slots with their servers' names, in the order of their ids.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &str)> {
        self.slots.iter().map(|(slot, entry)| (*slot, &*entry.name))
    }

    /// The policy a slot runs under.
    #[must_use]
    pub fn policy(&self, slot: SlotId) -> Option<&Policy> {
        self.slots.get(&slot).map(|entry| &entry.policy)
    }

    /// Opens under way and opens waiting for the gate.
    #[must_use]
    pub fn gate(&self) -> (usize, usize) {
        (self.gate.holding.len(), self.gate.queue.len())
    }

    fn add(
        &mut self,
        slot: SlotId,
        name: Box<str>,
        policy: Policy,
        lifecycle: Lifecycle,
        out: &mut FleetEffects,
    ) {
        if self.shutdown != Shutdown::No {
            // Too late: nothing opens any more, and whoever waits for its end need not wait.
            return out.push(FleetEffect::Removed { slot });
        }
        if self.slots.contains_key(&slot) {
            return;
        }
        let entry = Slot {
            name,
            policy,
            lifecycle,
            deadline: None,
            stale: 0,
            removing: false,
        };
        self.slots.insert(slot, entry);
        self.step_slot(slot, Input::Start, out);
    }

    fn with_policy(&mut self, slot: SlotId, policy: Policy, input: Input, out: &mut FleetEffects) {
        if let Some(entry) = self.slots.get_mut(&slot) {
            entry.policy = policy;
            self.step_slot(slot, input, out);
        }
    }

    fn remove(&mut self, slot: SlotId, out: &mut FleetEffects) {
        match self.slots.get_mut(&slot) {
            None => out.push(FleetEffect::Removed { slot }),
            Some(entry) => {
                entry.removing = true;
                self.step_slot(slot, Input::Disable, out);
                self.step_slot(slot, Input::Shutdown { impatient: false }, out);
            }
        }
    }

    fn shut_down(&mut self, impatient: bool, out: &mut FleetEffects) {
        if self.shutdown == Shutdown::No {
            self.shutdown = Shutdown::Waiting;
        }
        self.step_all(&Input::Shutdown { impatient }, out);
    }

    fn step_all(&mut self, input: &Input, out: &mut FleetEffects) {
        let slots: Vec<SlotId> = self.slots.keys().copied().collect();
        for slot in slots {
            self.step_slot(slot, input.clone(), out);
        }
    }

    fn time_passed(&mut self, out: &mut FleetEffects) {
        // Taken once: what a step makes due right away is handled by the next `Timeout`, so this cannot loop.
        let due: Vec<SlotId> = self
            .deadlines
            .iter()
            .take_while(|(at, _)| *at <= self.clock)
            .map(|(_, slot)| *slot)
            .collect();
        for slot in due {
            self.step_slot(slot, Input::Timeout, out);
        }
    }

    /// Steps one slot and keeps gate, deadlines and removal in line with what it decided.
    fn step_slot(&mut self, slot: SlotId, input: Input, out: &mut FleetEffects) {
        let Some(entry) = self.slots.get_mut(&slot) else {
            return;
        };
        if input
            .generation()
            .is_some_and(|generation| !entry.lifecycle.knows(generation))
        {
            entry.stale = entry.stale.saturating_add(1);
            return;
        }
        entry
            .lifecycle
            .step(&entry.policy, self.clock, input, &mut self.effects);
        let mut died = false;
        for effect in self.effects.drain() {
            if let Effect::Changed(change) = &effect {
                died |= is_death(change);
            }
            match effect {
                Effect::RequestOpen { generation, .. } => {
                    self.gate.queue.retain(|(queued, _)| *queued != slot);
                    self.gate.queue.push_back((slot, generation));
                }
                Effect::Open { .. }
                | Effect::Accept { .. }
                | Effect::Fence { .. }
                | Effect::Fail { .. }
                | Effect::Stop { .. }
                | Effect::Publish { .. }
                | Effect::Retract
                | Effect::Probe { .. }
                | Effect::FenceIfUnused { .. }
                | Effect::CleanupFault { .. }
                | Effect::Changed(_) => out.push(FleetEffect::Slot { slot, effect }),
            }
        }
        self.gate.settle(slot, &entry.lifecycle);
        let deadline = entry.lifecycle.next_deadline().map(|(at, _)| at);
        if deadline != entry.deadline {
            if let Some(at) = entry.deadline {
                self.deadlines.remove(&(at, slot));
            }
            if let Some(at) = deadline {
                self.deadlines.insert((at, slot));
            }
            entry.deadline = deadline;
        }
        if entry.removing && entry.lifecycle.is_shut_down() {
            self.slots.remove(&slot);
            out.push(FleetEffect::Removed { slot });
        }
        if died {
            // Whom this staggers does not die of it: no further recursion.
            for slot in self.deaths.note(slot, self.clock) {
                self.step_slot(slot, Input::Stagger, out);
            }
        }
    }

    /// Lets through as many as there are permits for.
    fn open_gate(&mut self, out: &mut FleetEffects) {
        while let Some((slot, generation)) = self.gate.grant() {
            self.step_slot(slot, Input::Granted { generation }, out);
        }
    }

    fn report_shutdown(&mut self, out: &mut FleetEffects) {
        if self.shutdown == Shutdown::Waiting
            && self
                .slots
                .values()
                .all(|entry| entry.lifecycle.is_shut_down())
        {
            self.shutdown = Shutdown::Done;
            out.push(FleetEffect::ShutDown);
        }
    }
}

impl Gate {
    /// Takes the next in line, if there is a permit for it.
    fn grant(&mut self) -> Option<(SlotId, Generation)> {
        if self.holding.len() >= self.limit {
            return None;
        }
        let (slot, generation) = self.queue.pop_front()?;
        self.holding.insert(slot, generation);
        Some((slot, generation))
    }

    /// Forgets what the slot no longer opens: a permit ends with its open, a place in the queue with its request.
    fn settle(&mut self, slot: SlotId, lifecycle: &Lifecycle) {
        let opening = lifecycle.opening().map(|opening| opening.generation);
        if self
            .holding
            .get(&slot)
            .is_some_and(|held| Some(*held) != opening)
        {
            self.holding.remove(&slot);
        }
        if self
            .queue
            .iter()
            .any(|(queued, generation)| *queued == slot && Some(*generation) != opening)
        {
            self.queue.retain(|(queued, _)| *queued != slot);
        }
    }
}

/// Whether a server that served has died. What was planned, and a lost session, is no death.
fn is_death(change: &Transition) -> bool {
    change.from == StateWord::Connected && matches!(change.cause, Cause::Failed(_))
}

#[cfg(test)]
mod tests;
