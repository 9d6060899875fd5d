//! The kind phase: from here on everything works, and everything that is wanted has to come about in time.

use mainstay_core::failure::Blame;
use mainstay_core::fleet::FleetInput;
use mainstay_core::ids::SlotId;
use mainstay_core::lifecycle::StateWord;
use mainstay_core::time::Time;

use super::dice::Dice;
use super::world::World;
use super::{Broke, law};

/// How long a message of the hostile phase may still be on its way.
const MAIL_MS_MAX: u64 = 120_000;

impl World {
    /// Lets the world turn kind, and waits until every server is where it belongs.
    pub(super) fn turns_kind(&mut self, mut dice: Dice) -> Result<(), Broke> {
        self.kind = true;
        self.tell(|| "from here on the world is kind".to_owned());
        let ends = self.now + MAIL_MS_MAX + self.patience_ms();
        loop {
            if self.is_settled() && self.mail.is_empty() {
                break;
            }
            let mail = self.mail.first_key_value().map(|((at, _), _)| *at);
            let next = [mail, self.next_deadline()].into_iter().flatten().min();
            let late = next.is_none_or(|at| at > ends);
            law!(!late, "{}", self.who_is_missing());
            self.time_passes(&mut dice)?;
        }
        // Whatever burst there was is over by now.
        self.now = self.now + 20_000;
        self.give(&mut dice, FleetInput::Timeout)?;
        self.bursts_were_told()?;
        law!(self.ended == self.shut, "a shutdown does not end (law 6)");
        Ok(())
    }

    /// The longest way to where a server belongs, from the worst place it can be in: stopped with every grace, waiting as
    /// long as any wait is, probed for as long as a dead link is trusted, queued behind everybody else, and all of it
    /// again after one more failure of the past.
    fn patience_ms(&self) -> u64 {
        let slots = self.places.len() as u64;
        let worst = |ms: fn(&mainstay_core::policy::Policy) -> u64| {
            let policies = self.places.values().map(|place| &place.policy);
            policies.map(ms).max().unwrap_or(0)
        };
        let stop_ms = worst(|policy| {
            policy.drain_ms
                + policy.stop.close_ms
                + policy.stop.terminate_ms
                + 2 * policy.stop.kill_ms
        });
        let wait_ms = worst(|policy| policy.parked_probe_ms.unwrap_or(0)) + super::WAIT_MS_MAX;
        let probe_ms = worst(|policy| {
            let keepalive = policy.keepalive.as_ref();
            keepalive.map_or(0, |k| k.idle_ms + 2 * k.timeout_ms * u64::from(k.misses))
                + 2 * policy.suspicion.timeout_ms * u64::from(policy.suspicion.misses)
                + policy.stable_ms
                + policy.idle_shutdown_ms.unwrap_or(0)
        });
        let open_ms = worst(|policy| policy.connect.total_ms + policy.open_interval_ms) * slots;
        2 * (2 * stop_ms + 2 * wait_ms + 2 * probe_ms + 2 * open_ms)
    }

    fn is_settled(&self) -> bool {
        self.places.keys().all(|slot| self.belongs(*slot))
    }

    /// Whether a server is where it belongs.
    fn belongs(&self, slot: SlotId) -> bool {
        let (Some(place), Some(status)) = (self.places.get(&slot), self.fleet.status(slot)) else {
            return true;
        };
        if place.removing {
            return false;
        }
        let down = status.state == StateWord::Disabled && place.runtimes.is_empty();
        if self.shut || place.model.disabled {
            return down;
        }
        let policy = &place.policy;
        match status.state {
            StateWord::Connected => {
                let waits_for_human = place.runtimes.len() == 1 && status.next_attempt.is_none();
                let alone = status.marks.successor.is_none() && waits_for_human;
                alone && status.proven && place.model.accepting == Some(status.generation)
            }
            StateWord::Idle => {
                place.runtimes.is_empty() && (policy.lazy || policy.idle_shutdown_ms.is_some())
            }
            StateWord::Parked => {
                let human = status
                    .cause
                    .is_some_and(|cause| cause.kind.blame() == Blame::Human);
                let only_asked = policy.parked_probe_ms.is_none() && status.next_attempt.is_none();
                place.runtimes.is_empty() && (human || only_asked)
            }
            // Only a server that was never enabled is at rest here.
            StateWord::Disabled
            | StateWord::Connecting
            | StateWord::Draining
            | StateWord::Backoff => false,
        }
    }

    fn who_is_missing(&self) -> String {
        let missing: Vec<String> = self
            .places
            .keys()
            .filter(|slot| !self.belongs(**slot))
            .map(|slot| {
                let state = self.fleet.status(*slot);
                let state = state.map_or("nowhere", |status| status.state.word());
                format!("server {} is {state}", slot.0)
            })
            .collect();
        let now: Time = self.now;
        format!(
            "at {now} the world has been kind for long, and {}",
            missing.join(", ")
        )
    }
}
