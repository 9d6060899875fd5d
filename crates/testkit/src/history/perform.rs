//! Performing what the fleet decides, and checking that it may be performed.

use mainstay_core::event::Cause;
use mainstay_core::fleet::{DeathsTogether, FleetEffect, FleetInput, TOGETHER_MS};
use mainstay_core::ids::{Generation, SlotId};
use mainstay_core::lifecycle::{Effect, StateWord, Status, StopStep};
use mainstay_core::time::Time;

use super::dice::Dice;
use super::world::{Place, Runtime, World};
use super::{Broke, law};

impl World {
    /// A message that concerns nobody had no effect but to be counted (law 3).
    pub(super) fn nothing_followed(
        &self,
        before: &[(SlotId, Status)],
        decided: &[FleetEffect],
    ) -> Result<(), Broke> {
        let own = |effect: &&FleetEffect| !matches!(effect, FleetEffect::DiedTogether(_));
        let followed = decided.iter().find(own);
        law!(
            followed.is_none(),
            "a stale message had an effect (law 3): {followed:?}"
        );
        for (slot, before) in before {
            let uncounted = self.fleet.status(*slot).map(|status| Status {
                stale: before.stale,
                // Told as "now" when it is overdue.
                next_attempt: before.next_attempt,
                ..status
            });
            law!(
                uncounted.as_ref() == Some(before),
                "a stale message changed server {} (law 3)",
                slot.0
            );
        }
        Ok(())
    }

    /// What happens to all servers at once decides nothing at once (law 12, F226).
    pub(super) fn common_cause(
        &mut self,
        input: &FleetInput,
        before: &[(SlotId, Status)],
        decided: &[FleetEffect],
    ) -> Result<(), Broke> {
        if !matches!(input, FleetInput::Woke { .. } | FleetInput::NetworkChanged) {
            return Ok(());
        }
        let own = |effect: &&FleetEffect| !matches!(effect, FleetEffect::DiedTogether(_));
        let at_once = decided.iter().find(own);
        law!(
            at_once.is_none(),
            "something happens in the instant in which it happens to all (law 12): {at_once:?}"
        );
        for (slot, before) in before {
            let charges = self.fleet.status(*slot).map(|status| status.charges);
            law!(
                charges == Some(before.charges),
                "server {} is charged for it (law 12)",
                slot.0
            );
        }
        if matches!(input, FleetInput::Woke { .. }) {
            self.seen.wakes += 1;
            let due = self
                .fleet
                .next_deadline()
                .filter(|(at, ..)| *at <= self.now);
            law!(
                due.is_none(),
                "a deadline fires because of the sleep (law 12): {due:?}"
            );
        }
        Ok(())
    }

    pub(super) fn perform(&mut self, dice: &mut Dice, effect: &FleetEffect) -> Result<(), Broke> {
        match effect {
            FleetEffect::Slot { slot, effect } => {
                self.tell(|| format!("    {}: {}", slot.0, what(effect)));
                self.perform_on(dice, *slot, effect)
                    .map_err(|broke| Broke(format!("server {}: {broke}", slot.0)))
            }
            FleetEffect::Removed { slot } => {
                if let Some(place) = self.places.remove(slot) {
                    law!(place.removing, "removed, and nobody asked for it");
                    law!(
                        place.runtimes.is_empty(),
                        "removed, and something of it still runs (law 6)"
                    );
                } else {
                    law!(self.shut, "removed twice");
                }
                Ok(())
            }
            FleetEffect::DiedTogether(deaths) => {
                self.tell(|| format!("    died together: {:?}", deaths.slots));
                self.seen.bursts += 1;
                self.told.push(deaths.clone());
                Ok(())
            }
            FleetEffect::ShutDown => {
                law!(
                    self.shut && !self.ended,
                    "ends without being asked, or twice"
                );
                let left = self.places.values().any(|place| !place.runtimes.is_empty());
                law!(!left, "ended, and something still runs (law 6)");
                self.ended = true;
                self.seen.shut += 1;
                Ok(())
            }
        }
    }

    fn perform_on(&mut self, dice: &mut Dice, slot: SlotId, effect: &Effect) -> Result<(), Broke> {
        let now = self.now;
        let Some(place) = self.places.get_mut(&slot) else {
            return Err(Broke("acts after it was removed".to_owned()));
        };
        match effect {
            Effect::RequestOpen { .. } => {
                return Err(Broke("asks the world instead of the gate".to_owned()));
            }
            Effect::Open { generation, .. } => self.opens(dice, slot, *generation)?,
            Effect::Accept { generation } => self.accepts(dice, slot, *generation)?,
            Effect::Fence { generation } => {
                if place.model.accepting == Some(*generation) {
                    place.model.accepting = None;
                }
            }
            Effect::Fail { generation, .. } => {
                law!(
                    place.model.accepting != Some(*generation),
                    "calls are failed before the fence (law 4)"
                );
                if let Some(runtime) = runtime(&mut place.runtimes, *generation) {
                    runtime.leases = false;
                }
                if let Some((of, ghost)) = &mut self.ghost
                    && (*of, ghost.generation) == (slot, *generation)
                {
                    ghost.leases = false;
                }
            }
            Effect::Stop { generation, how } => self.stops(dice, slot, *generation, *how)?,
            Effect::Publish { generation } => {
                law!(
                    place.model.accepting == Some(*generation),
                    "publishes what does not serve (law 21)"
                );
                place.model.published = true;
            }
            Effect::Retract => {
                law!(
                    place.model.disabled,
                    "unpublished, but not disabled (law 22)"
                );
                place.model.published = false;
            }
            Effect::Probe { generation, since } => {
                law!(
                    place.model.accepting == Some(*generation) || place.model.accepting.is_none(),
                    "probes what does not serve"
                );
                place.model.probing = true;
                let fresh = *since >= now;
                self.is_probed(dice, slot, *generation, fresh);
            }
            Effect::FenceIfUnused { generation, .. } => self.is_asked(dice, slot, *generation),
            Effect::CleanupFault { generation, .. } => law!(
                place.model.accepting != Some(*generation),
                "what serves cannot have been closed (law 4)"
            ),
            Effect::Changed(change) => {
                place.model.changed(change)?;
                self.seen.parked += u64::from(change.to == StateWord::Parked);
                if change.from == StateWord::Connected && matches!(change.cause, Cause::Failed(_)) {
                    self.dies(slot);
                }
            }
        }
        Ok(())
    }

    fn opens(
        &mut self,
        dice: &mut Dice,
        slot: SlotId,
        generation: Generation,
    ) -> Result<(), Broke> {
        let now = self.now;
        let charges = self.fleet.status(slot).map_or(0, |status| status.charges);
        if let Some(Place {
            policy,
            model,
            runtimes,
            ..
        }) = self.places.get_mut(&slot)
        {
            model.opens(policy, now, generation, charges)?;
            law!(
                !policy.exclusive || runtimes.is_empty(),
                "two processes of an exclusive server (law 2)"
            );
            runtimes.push(Runtime {
                generation,
                served: false,
                leases: false,
                stop: None,
                ended: false,
            });
        }
        self.seen.opens += 1;
        self.begins(dice, slot, generation);
        Ok(())
    }

    fn accepts(
        &mut self,
        dice: &mut Dice,
        slot: SlotId,
        generation: Generation,
    ) -> Result<(), Broke> {
        let now = self.now;
        if let Some(Place {
            policy,
            model,
            runtimes,
            ..
        }) = self.places.get_mut(&slot)
        {
            model.accepts(policy, now, generation)?;
            if let Some(runtime) = runtime(runtimes, generation) {
                law!(runtime.stop.is_none(), "accepts what is being stopped");
                runtime.served = true;
                runtime.leases = true;
            }
        }
        self.seen.served += 1;
        self.serves(dice, slot, generation);
        Ok(())
    }

    /// A server died: within a second of another one, they are told of together, after ten seconds at the latest.
    fn dies(&mut self, slot: SlotId) {
        let now = self.now;
        match self.bursts.last_mut() {
            Some(burst) if !is_over(burst, now) => {
                burst.last = now;
                if !burst.slots.contains(&slot) {
                    burst.slots.push(slot);
                }
            }
            Some(_) | None => self.bursts.push(DeathsTogether {
                first: now,
                last: now,
                slots: vec![slot],
            }),
        }
    }

    /// Every burst that is over was told, once, and nothing else was.
    pub(super) fn bursts_were_told(&self) -> Result<(), Broke> {
        let many = |burst: &&DeathsTogether| burst.slots.len() > 1 && is_over(burst, self.now);
        let expected: Vec<&DeathsTogether> = self.bursts.iter().filter(many).collect();
        let told: Vec<&DeathsTogether> = self.told.iter().collect();
        law!(
            told == expected,
            "told of deaths {told:?}, and what happened is {expected:?} (F77)"
        );
        Ok(())
    }

    /// One step of a stop.
    fn stops(
        &mut self,
        dice: &mut Dice,
        slot: SlotId,
        generation: Generation,
        how: StopStep,
    ) -> Result<(), Broke> {
        let Some(place) = self.places.get_mut(&slot) else {
            return Ok(());
        };
        law!(
            place.model.accepting != Some(generation),
            "stops what still takes calls (law 4)"
        );
        if let Some(runtime) = runtime(&mut place.runtimes, generation) {
            law!(
                how == StopStep::Drain || !runtime.leases,
                "stops a runtime under its calls without telling them (S-14)"
            );
            law!(
                runtime
                    .stop
                    .is_none_or(|before| before < how || how == StopStep::Kill),
                "a stop goes backwards"
            );
            runtime.stop = Some(how);
            self.is_stopped(dice, slot, generation, how);
        }
        Ok(())
    }
}

pub(super) fn runtime(runtimes: &mut [Runtime], generation: Generation) -> Option<&mut Runtime> {
    runtimes
        .iter_mut()
        .find(|runtime| runtime.generation == generation)
}

fn what(effect: &Effect) -> String {
    match effect {
        Effect::Changed(change) => format!(
            "{} {} becomes {} {} ({}, {} charges)",
            change.from,
            change.from_generation.0,
            change.to,
            change.generation.0,
            change.cause.word(),
            change.charges
        ),
        Effect::Open { generation, .. }
        | Effect::Accept { generation }
        | Effect::Fence { generation }
        | Effect::Fail { generation, .. }
        | Effect::Publish { generation }
        | Effect::Probe { generation, .. } => format!("{} {}", effect.word(), generation.0),
        Effect::Stop { generation, how } => format!("{} {}", how.word(), generation.0),
        other => other.word().to_owned(),
    }
}

/// Whether no further death can join a burst.
fn is_over(burst: &DeathsTogether, now: Time) -> bool {
    now.since(burst.last) > TOGETHER_MS || now.since(burst.first) >= 10_000
}
