//! Time as the core sees it: an integer that its caller passes in.
//!
//! An `Instant` cannot be built from zero, printed or normalised, so it cannot be enumerated or replayed. The driver
//! holds the real clock and subtracts its own start.

use std::fmt;
use std::ops::Add;

/// Milliseconds since the driver started, on a monotonic clock. Never runs backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The moment the driver started.
    pub const ZERO: Time = Time(0);

    /// Milliseconds from `earlier` to `self`; zero if `earlier` is the later one.
    #[must_use]
    pub const fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time moved `ms` milliseconds into the past, at most to zero.
    #[must_use]
    pub const fn back(self, ms: u64) -> Time {
        Time(self.0.saturating_sub(ms))
    }
}

impl Add<u64> for Time {
    type Output = Time;

    /// `ms` milliseconds later. Saturates: the end of time is a deadline that never comes.
    fn add(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1_000, self.0 % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Time(u64::MAX) + 5, Time(u64::MAX));
        assert_eq!(Time(3).since(Time(5)), 0);
        assert_eq!(Time(3).back(5), Time::ZERO);
        assert_eq!((Time(1_500) + 2).to_string(), "1.502s");
    }
}
