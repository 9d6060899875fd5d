//! How many failures a server may have before it is parked, and how many lost sessions are taken for granted.

use crate::policy::RenewalPolicy;
use crate::time::Time;

/// Failures charged since the last proof of health (law 9). A handshake is no proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    charges: u32,
}

impl Budget {
    /// Failures charged so far.
    #[must_use]
    pub const fn charges(self) -> u32 {
        self.charges
    }

    /// Whether the next failure, or the last one, is one too many: the server is to be parked.
    #[must_use]
    pub const fn is_exhausted(self, limit: u32) -> bool {
        self.charges > limit
    }

    /// Charges one failure. Stops counting at one beyond the limit: "exhausted" has no degrees, and an attempt of a
    /// parked server that fails leaves it exactly as it was.
    pub fn charge(&mut self, limit: u32) {
        self.charges = self.charges.saturating_add(1).min(limit.saturating_add(1));
    }

    /// Health was proven, or an operator asked for a clean slate.
    pub fn reset(&mut self) {
        self.charges = 0;
    }
}

/// Counts free session renewals in a fixed window (F107).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Renewals {
    window_ends: Time,
    count: u32,
    /// Refused ones in the same window.
    over: u32,
}

impl Renewals {
    /// Whether a renewal at `now` is free, and if so, counts it.
    pub fn take(&mut self, policy: &RenewalPolicy, now: Time) -> bool {
        if now >= self.window_ends {
            *self = Renewals {
                window_ends: now + policy.window_ms,
                count: 0,
                over: 0,
            };
        }
        let free = self.count < policy.max;
        if free {
            self.count += 1;
        }
        free
    }

    /// Counts one that was not free, and says how many those are in this window: the wait grows with them.
    pub fn refuse(&mut self) -> u32 {
        // No wait grows beyond its cap, long before this.
        const OVER_MAX: u32 = 64;
        self.over = self.over.saturating_add(1).min(OVER_MAX);
        self.over
    }

    /// The same budget seen at `now`: a window that is over is no window.
    pub(crate) fn normalised(self, now: Time) -> Renewals {
        if now >= self.window_ends {
            Renewals {
                window_ends: now,
                count: 0,
                over: 0,
            }
        } else {
            self
        }
    }

    pub(crate) fn shift(&mut self, shift: impl Fn(Time) -> Time) {
        self.window_ends = shift(self.window_ends);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_9_budget_plus_one_charges_exhaust_and_only_a_reset_helps() {
        let mut budget = Budget::default();
        for charges in 1..=5 {
            budget.charge(5);
            assert_eq!(budget.charges(), charges);
            assert!(!budget.is_exhausted(5));
        }
        budget.charge(5);
        assert!(budget.is_exhausted(5));
        budget.charge(5);
        assert_eq!(budget.charges(), 6, "exhausted has no degrees");
        budget.reset();
        assert_eq!(budget.charges(), 0);
    }

    #[test]
    fn renewals_beyond_the_window_limit_are_not_free_f107() {
        let policy = RenewalPolicy {
            window_ms: 100,
            max: 2,
            retiring_max: 1,
        };
        let mut renewals = Renewals::default();
        assert!(renewals.take(&policy, Time(1_000)));
        assert!(renewals.take(&policy, Time(1_050)));
        assert!(!renewals.take(&policy, Time(1_099)));
        assert_eq!((renewals.refuse(), renewals.refuse()), (1, 2));
        assert!(renewals.take(&policy, Time(1_100)), "a new window");
        assert_eq!(renewals.refuse(), 1);
    }
}
