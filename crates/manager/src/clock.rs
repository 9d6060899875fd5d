//! The driver's clock: milliseconds since it started. The only place where core time meets real time.

use mainstay_core::time::Time;
use tokio::time::{Duration, Instant};

/// Turns the runtime's clock (virtual in tests) into core time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now, at zero.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Now, as the core counts.
    pub(crate) fn now(self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The instant of a core time.
    pub(crate) fn instant(self, time: Time) -> Instant {
        // A deadline beyond what an instant can hold is as good as a year from now.
        let far = self.origin + Duration::from_secs(365 * 24 * 3600);
        self.origin
            .checked_add(Duration::from_millis(time.0))
            .unwrap_or(far)
            .min(far)
    }

    /// How long ago a core time was.
    pub(crate) fn ago(self, time: Time) -> Duration {
        Duration::from_millis(self.now().0.saturating_sub(time.0))
    }

    /// How far ahead a core time is.
    pub(crate) fn ahead(self, time: Time) -> Duration {
        Duration::from_millis(time.0.saturating_sub(self.now().0))
    }
}
