//! Everything that really exists, and the one way in which the fleet hears of it.

use std::collections::BTreeMap;

use mainstay_core::fleet::{DeathsTogether, Fleet, FleetEffects, FleetInput, FleetPolicy};
use mainstay_core::ids::{Generation, SlotId};
use mainstay_core::lifecycle::{Input, Phase, Start, Status, StopStep};
use mainstay_core::policy::{
    BackoffPolicy, ConnectPolicy, KeepalivePolicy, Policy, RenewalPolicy, StopPolicy,
    SuspicionPolicy, WakePolicy,
};
use mainstay_core::time::Time;

use super::defect::Defect;
use super::dice::Dice;
use super::model::{Heard, Model};
use super::perform::runtime;
use super::{Broke, Seen, WAIT_MS_MAX, law};

/// The world of one history.
pub(super) struct World {
    pub(super) fleet: Fleet,
    pub(super) now: Time,
    pub(super) gate: usize,
    pub(super) places: BTreeMap<SlotId, Place>,
    /// What is on its way to the fleet, and when it arrives.
    pub(super) mail: BTreeMap<(Time, u64), Mail>,
    sent: u64,
    next_slot: u32,
    pub(super) kind: bool,
    pub(super) shut: bool,
    pub(super) ended: bool,
    /// The bursts of deaths that should be told of.
    pub(super) bursts: Vec<DeathsTogether>,
    pub(super) told: Vec<DeathsTogether>,
    /// What ceased to exist, while the fleet hears of it.
    pub(super) ghost: Option<(SlotId, Runtime)>,
    pub(super) defect: Option<Defect>,
    pub(super) seen: Seen,
    pub(super) tells: bool,
    pub(super) story: Vec<String>,
}

/// One server: what is configured, what exists of it, and what should be true of it.
pub(super) struct Place {
    pub(super) policy: Policy,
    pub(super) model: Model,
    pub(super) runtimes: Vec<Runtime>,
    pub(super) removing: bool,
    /// It stands behind a load balancer without affinity: every session serves a call and is lost.
    pub(super) forgetful: bool,
}

/// Something that runs.
#[derive(Clone, Debug)]
pub(super) struct Runtime {
    pub(super) generation: Generation,
    /// It was told that it serves.
    pub(super) served: bool,
    /// Calls may run on it.
    pub(super) leases: bool,
    pub(super) stop: Option<StopStep>,
    /// It ceased to exist, and the fleet has not heard of it yet.
    pub(super) ended: bool,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(super) enum Mail {
    /// For the fleet.
    Word(SlotId, Input),
    /// The runtime ceases to exist; the fleet hears of it later.
    End(SlotId, Generation),
}

impl World {
    pub(super) fn new(seed: u64, defect: Option<Defect>) -> World {
        let mut dice = Dice::of(seed, 0);
        let gate = usize::try_from(1 + dice.below(3)).unwrap_or(1);
        let wide = usize::from(defect == Some(Defect::GateTooWide));
        let mut world = World {
            fleet: Fleet::new(FleetPolicy {
                start_gate: gate + wide,
                seed,
            }),
            now: Time(1_000_000),
            gate,
            places: BTreeMap::new(),
            mail: BTreeMap::new(),
            sent: 0,
            next_slot: 0,
            kind: false,
            shut: false,
            ended: false,
            bursts: Vec::new(),
            told: Vec::new(),
            ghost: None,
            defect,
            seen: Seen::default(),
            tells: false,
            story: Vec::new(),
        };
        for _ in 0..2 + dice.below(4) {
            // Nothing has happened yet that could break a law.
            let _ = world.add(&mut dice);
        }
        world
    }

    /// A server that never existed before.
    pub(super) fn add(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let slot = SlotId(self.next_slot);
        self.next_slot += 1;
        let policy = policy(dice);
        let start = if dice.percent(90) {
            Start::Enabled
        } else {
            Start::Disabled
        };
        let place = Place {
            policy: policy.clone(),
            model: Model::new(start == Start::Disabled),
            runtimes: Vec::new(),
            removing: false,
            forgetful: dice.percent(15),
        };
        if !self.shut {
            self.places.insert(slot, place);
        }
        let policy = self.as_given(&policy);
        let name = format!("server-{}", slot.0).into();
        self.give(
            dice,
            FleetInput::Add {
                slot,
                name,
                policy,
                start,
                after: None,
            },
        )
    }

    /// A policy as the fleet is told of it.
    pub(super) fn as_given(&self, policy: &Policy) -> Policy {
        match self.defect {
            Some(defect) => defect.policy(policy),
            None => policy.clone(),
        }
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.tells {
            let line = format!("{} {}", self.now, line());
            self.story.push(line);
        }
    }

    /// Puts a message on its way.
    pub(super) fn send(&mut self, after_ms: u64, mail: Mail) {
        self.sent += 1;
        self.mail.insert((self.now + after_ms, self.sent), mail);
    }

    /// The next deadline of the fleet, as a driver with this world's defect sees it.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let (at, slot, _) = self.fleet.next_deadline()?;
        let forgotten = self.defect.is_some_and(|defect| {
            slot.and_then(|slot| self.fleet.status(slot))
                .is_some_and(|status| defect.forgets(status.state))
        });
        (!forgotten).then_some(at)
    }

    /// The message that arrives next, arrives now.
    pub(super) fn deliver(&mut self, dice: &mut Dice) -> Result<(), Broke> {
        let Some(((at, _), mail)) = self.mail.pop_first() else {
            return Ok(());
        };
        self.now = self.now.max(at);
        match mail {
            Mail::Word(slot, input) => self.give(dice, FleetInput::Slot { slot, input }),
            Mail::End(slot, generation) => {
                self.ends(dice, slot, generation);
                Ok(())
            }
        }
    }

    /// A runtime ceases to exist. What it still had to tell of its calls, the fleet has to.
    fn ends(&mut self, dice: &mut Dice, slot: SlotId, generation: Generation) {
        let Some(place) = self.places.get_mut(&slot) else {
            return;
        };
        match runtime(&mut place.runtimes, generation) {
            Some(runtime) if !runtime.ended => runtime.ended = true,
            Some(_) | None => return,
        }
        self.tell(|| format!("{} {} ceases to exist", slot.0, generation.0));
        // Owed exactly once, and never lost.
        let late_ms = if self.kind || dice.percent(70) {
            dice.below(10)
        } else {
            dice.below(5_000)
        };
        self.send(late_ms, Mail::Word(slot, Input::Gone { generation }));
    }

    /// Gives one input to the fleet, performs what it decides, and compares.
    pub(super) fn give(&mut self, dice: &mut Dice, input: FleetInput) -> Result<(), Broke> {
        self.seen.inputs += 1;
        self.tell(|| told(&input));
        let before: Vec<(SlotId, Status)> = self
            .places
            .keys()
            .filter_map(|slot| Some((*slot, self.fleet.status(*slot)?)))
            .collect();
        for (slot, status) in &before {
            let heard = heard(&input, *slot);
            if let Some(place) = self.places.get_mut(slot) {
                place.model.hears(&place.policy, self.now, status, &heard);
            }
        }
        if matches!(input, FleetInput::Shutdown { .. }) {
            self.shut = true;
        }
        let stranger = self.is_strange(&input);
        self.take_ghost(&input);
        self.release(&input);
        let mut effects = FleetEffects::new();
        let given = match self.defect {
            Some(defect) => defect.input(&self.fleet, input.clone()),
            None => input.clone(),
        };
        self.fleet.step(self.now, given, &mut effects);
        if let Some(more) = self.defect.and_then(|defect| defect.more(&input)) {
            self.fleet.step(self.now, more, &mut effects);
        }
        let decided: Vec<_> = effects.drain().collect();
        if stranger {
            self.seen.stale += 1;
            self.nothing_followed(&before, &decided)?;
        }
        self.common_cause(&input, &before, &decided)?;
        for effect in decided {
            let copies = self.defect.map_or(1, |defect| defect.copies(&effect));
            for _ in 0..copies {
                self.perform(dice, &effect)?;
            }
        }
        let untold = self.ghost.take().is_some_and(|(_, ghost)| ghost.leases);
        law!(
            !untold,
            "a generation vanished and its calls were never told (law 16)"
        );
        self.compare(&input, &before)
    }

    /// A generation that says that its last call has ended knows best.
    fn release(&mut self, input: &FleetInput) {
        if let FleetInput::Slot {
            slot,
            input: Input::Drained { generation },
        } = input
            && let Some(place) = self.places.get_mut(slot)
            && place.model.accepting != Some(*generation)
            && let Some(runtime) = runtime(&mut place.runtimes, *generation)
        {
            runtime.leases = false;
        }
    }

    /// What really exists no longer when the fleet hears that it is gone.
    fn take_ghost(&mut self, input: &FleetInput) {
        let FleetInput::Slot {
            slot,
            input: Input::Gone { generation },
        } = input
        else {
            return;
        };
        if let Some(place) = self.places.get_mut(slot)
            && let Some(index) = place
                .runtimes
                .iter()
                .position(|runtime| runtime.generation == *generation && runtime.ended)
        {
            self.ghost = Some((*slot, place.runtimes.remove(index)));
        }
    }

    /// Whether a message is from a generation that no longer matters to anybody, or never did.
    fn is_strange(&self, input: &FleetInput) -> bool {
        let FleetInput::Slot { slot, input } = input else {
            return false;
        };
        let Some(place) = self.places.get(slot) else {
            return true;
        };
        if matches!(input, Input::Granted { .. } | Input::Stagger) {
            return true;
        }
        input.generation().is_some_and(|generation| {
            generation > place.model.highest || generation == Generation::NONE
        })
    }

    /// Compares every server with its model, and the whole with the world.
    fn compare(&mut self, input: &FleetInput, before: &[(SlotId, Status)]) -> Result<(), Broke> {
        let timeout = matches!(input, FleetInput::Timeout);
        for (slot, before) in before {
            let (Some(place), Some(after)) = (self.places.get_mut(slot), self.fleet.status(*slot))
            else {
                continue;
            };
            let heard = heard(input, *slot);
            place
                .model
                .judge(&place.policy, self.now, before, &after, &heard, timeout)
                .map_err(|broke| Broke(format!("server {}: {broke}", slot.0)))?;
            let lost = matches!(&heard, Heard::Said(Input::SessionLost { .. }))
                && before.state == mainstay_core::lifecycle::StateWord::Connected
                && after.state == mainstay_core::lifecycle::StateWord::Connecting
                && before.marks.successor.is_none()
                && after.charges == before.charges;
            if lost && !place.policy.exclusive {
                place.model.renewed(&place.policy, self.now)?;
            }
            if after.phase == Some(Phase::Queued) {
                law!(
                    self.fleet.gate().1 > 0,
                    "server {} queues for a gate that does not know of it",
                    slot.0
                );
            }
        }
        let opening = self
            .places
            .values()
            .flat_map(|place| &place.runtimes)
            .filter(|runtime| !runtime.served && runtime.stop.is_none())
            .count();
        law!(
            opening <= self.gate,
            "{opening} opens at a time through a gate for {} (law 10)",
            self.gate
        );
        Ok(())
    }
}

/// What a slot hears of an input.
pub(super) fn heard(input: &FleetInput, slot: SlotId) -> Heard {
    match input {
        FleetInput::Slot { slot: to, input } if *to == slot => Heard::Said(input.clone()),
        FleetInput::Patch { slot: to, .. } | FleetInput::Replace { slot: to, .. }
            if *to == slot =>
        {
            Heard::Config
        }
        FleetInput::Remove { slot: to } if *to == slot => Heard::Said(Input::Disable),
        FleetInput::Woke { asleep_ms } => Heard::Said(Input::Woke {
            asleep_ms: *asleep_ms,
        }),
        FleetInput::NetworkChanged => {
            Heard::Said(Input::Poke(mainstay_core::lifecycle::Poke::Network))
        }
        FleetInput::Shutdown { impatient } => Heard::Said(Input::Shutdown {
            impatient: *impatient,
        }),
        _ => Heard::Nothing,
    }
}

fn told(input: &FleetInput) -> String {
    match input {
        FleetInput::Slot { slot, input } => match input.generation() {
            Some(generation) => format!("{} hears {} from {}", slot.0, input.word(), generation.0),
            None => format!("{} hears {}", slot.0, input.word()),
        },
        FleetInput::Add { slot, .. } => format!("{} is added", slot.0),
        FleetInput::Patch { slot, .. } => format!("{} is patched", slot.0),
        FleetInput::Replace { slot, .. } => format!("{} is replaced", slot.0),
        FleetInput::Remove { slot } => format!("{} is removed", slot.0),
        FleetInput::Woke { asleep_ms } => format!("the machine wakes up ({asleep_ms} ms)"),
        FleetInput::NetworkChanged => "the network changes".to_owned(),
        FleetInput::Shutdown { impatient } => format!("shutdown (impatient: {impatient})"),
        FleetInput::Timeout => "a deadline".to_owned(),
    }
}

/// Small numbers of every sort, so that histories meet every deadline.
pub(super) fn policy(dice: &mut Dice) -> Policy {
    let exclusive = dice.percent(50);
    let keepalive = KeepalivePolicy {
        idle_ms: 10_000,
        timeout_ms: 2_000,
        misses: 1 + u32::try_from(dice.below(3)).unwrap_or(0),
    };
    Policy {
        exclusive,
        lazy: dice.percent(15),
        idle_shutdown_ms: dice.percent(15).then_some(20_000),
        connect: ConnectPolicy {
            spawn_ms: 3_000,
            greet_ms: 4_000,
            list_ms: 4_000,
            total_ms: 8_000,
        },
        open_interval_ms: dice.pick(&[0, 200, 1_000]),
        backoff: BackoffPolicy {
            base_ms: 250,
            cap_ms: 4_000,
            retry_after_ms_min: 1_000,
            retry_after_ms_max: WAIT_MS_MAX,
        },
        budget: u32::try_from(dice.below(5)).unwrap_or(0),
        stable_ms: dice.pick(&[5_000, 60_000]),
        parked_probe_ms: dice.pick(&[None, Some(20_000), Some(60_000)]),
        parked_call_interval_ms: 5_000,
        keepalive: dice.percent(50).then_some(keepalive),
        suspicion: SuspicionPolicy {
            timeout_ms: 2_000,
            misses: 2,
        },
        drain_ms: dice.pick(&[0, 3_000]),
        stop: StopPolicy {
            close_ms: 500,
            terminate_ms: 500,
            kill_ms: 500,
        },
        renewals: RenewalPolicy {
            window_ms: 30_000,
            max: 3,
            retiring_max: 1 + u32::try_from(dice.below(3)).unwrap_or(0),
        },
        wake: WakePolicy {
            spread_ms: 3_000,
            grace_ms: 10_000,
        },
    }
}
