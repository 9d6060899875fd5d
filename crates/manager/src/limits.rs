//! The limits on what a server may send and cause, and what happens when one is exceeded: the call concerned is told, it
//! is counted, and it is an event (law 30). Never a dropped connection, a silent hang or a dead server.
//!
//! What the limits are is in the config. `docs/limits.md` lists all of them.

use std::sync::{Mutex, PoisonError};

/// A limit that a server can exceed all by itself, without a call that could be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// A message is too long or nested too deeply (F46, F47).
    Message,
    /// Lines or events that are no MCP message (F42, F43).
    Noise,
    /// The server asks too much too fast (F258).
    Requests,
    /// The server asks clients for more than it may.
    Asks,
    /// What we say unasked does not fit into its queue: the server has stopped reading.
    Notices,
}

impl Limit {
    /// The setting, as a path in the config; events name it.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Message => "mainstay.limits.messageBytes",
            Self::Noise => "mainstay.limits.noiseLines",
            Self::Requests => "mainstay.limits.requestsPerSecond",
            Self::Asks => "asks",
            Self::Notices => "mainstay.limits.notices",
        }
    }
}

/// Whether the `count`th excess is worth an event: the one that reaches `threshold`, and every doubling after it. A flood
/// is a handful of events, and each carries the count (F232).
pub(crate) fn is_news(count: u64, threshold: u64) -> bool {
    let threshold = threshold.max(1);
    count.is_multiple_of(threshold) && (count / threshold).is_power_of_two()
}

/// A token bucket: so many per second, and as many at once. Plain arithmetic on the driver's clock.
#[derive(Debug)]
pub(crate) struct RateGate {
    per_second: u64,
    state: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Thousandths of a permit, so that a millisecond refills `per_second` of them.
    left: u64,
    filled_at_ms: u64,
}

impl RateGate {
    /// A full bucket.
    pub(crate) fn new(per_second: usize) -> Self {
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX / 1_000);
        Self {
            per_second,
            state: Mutex::new(Bucket {
                left: per_second.saturating_mul(1_000),
                filled_at_ms: 0,
            }),
        }
    }

    /// Takes one permit; `false` if there is none.
    pub(crate) fn admits(&self, now_ms: u64) -> bool {
        let mut bucket = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed_ms = now_ms.saturating_sub(bucket.filled_at_ms);
        bucket.filled_at_ms = bucket.filled_at_ms.max(now_ms);
        let fresh = passed_ms.saturating_mul(self.per_second);
        let full = self.per_second.saturating_mul(1_000);
        bucket.left = bucket.left.saturating_add(fresh).min(full);
        match bucket.left.checked_sub(1_000) {
            Some(left) => {
                bucket.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f258_a_bucket_admits_its_rate_and_one_second_of_burst() {
        let gate = RateGate::new(10);
        let admitted = |now_ms| (0..100).filter(|_| gate.admits(now_ms)).count();
        assert_eq!(admitted(5), 10, "a burst of one second");
        assert_eq!(admitted(5), 0);
        assert_eq!(admitted(104), 0, "99 ms refill nothing whole");
        assert_eq!(admitted(105), 1);
        assert_eq!(admitted(3), 0, "a clock that goes back refills nothing");
        assert_eq!(admitted(3_600_000), 10, "it never holds more than a second");
    }

    #[test]
    fn f232_a_flood_is_a_handful_of_events() {
        let news = |threshold| (1..=1_000_000).filter(|n| is_news(*n, threshold)).count();
        assert_eq!(news(1), 20);
        assert_eq!(news(20), 16);
        assert!(!is_news(19, 20) && is_news(20, 20) && is_news(40, 20) && !is_news(60, 20));
    }
}
