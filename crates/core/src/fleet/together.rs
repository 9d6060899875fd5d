//! Servers that die together: one cause, one record, and no common return (F77).

use crate::ids::SlotId;
use crate::time::Time;

/// Deaths at most this far apart belong together.
pub const TOGETHER_MS: u64 = 1_000;

/// A burst is told after at most this long, however many still join it.
const BURST_MS_MAX: u64 = 10_000;

/// Two or more servers died within a second of each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeathsTogether {
    /// When the first of them died.
    pub first: Time,
    /// When the last of them died.
    pub last: Time,
    /// Which, in the order of their deaths.
    pub slots: Vec<SlotId>,
}

/// The deaths that may still turn out to belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deaths {
    burst: Option<DeathsTogether>,
}

impl Deaths {
    /// `slot` died. Returns whose return is to be staggered because of it: nobody's while it is the only one.
    pub(super) fn note(&mut self, slot: SlotId, now: Time) -> Vec<SlotId> {
        let Some(burst) = &mut self.burst else {
            self.burst = Some(DeathsTogether {
                first: now,
                last: now,
                slots: vec![slot],
            });
            return Vec::new();
        };
        burst.last = now;
        if burst.slots.contains(&slot) {
            return Vec::new();
        }
        burst.slots.push(slot);
        match burst.slots.as_slice() {
            [first, second] => vec![*first, *second],
            _ => vec![slot],
        }
    }

    /// Takes the burst that is over, if it concerns more than one server.
    pub(super) fn take_over(&mut self, now: Time) -> Option<DeathsTogether> {
        let over = self.burst.as_ref().is_some_and(|burst| ends(burst) <= now);
        let burst = if over { self.burst.take() } else { None };
        burst.filter(|burst| burst.slots.len() > 1)
    }

    /// When a burst is to be told. One death needs no clock: the next one, whenever it comes, ends it.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.burst
            .as_ref()
            .filter(|burst| burst.slots.len() > 1)
            .map(ends)
    }
}

fn ends(burst: &DeathsTogether) -> Time {
    (burst.last + TOGETHER_MS + 1).min(burst.first + BURST_MS_MAX)
}
