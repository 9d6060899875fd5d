//! Noticing that the machine slept, without waking it while it has nothing to do (law 12, F225).
//!
//! Two clocks are compared: one that goes on during a suspend and one that does not. What the first gained over the second
//! is sleep. Setting the wall clock moves neither, so it changes nothing (F228). The driver compares at each of its steps;
//! on Linux the kernel also tells when the machine resumed, so an idle driver hears of it at once. Elsewhere it hears of it
//! at its next step, or from `Manager::woke`.

use std::fmt;

/// Shorter sleeps break nothing: connections survive them, and so do deadlines.
const SLEEP_MS_MIN: u64 = 1_000;

/// Watches for sleep.
pub(crate) struct Wake {
    /// Milliseconds slept since some fixed moment.
    slept_in_all: Box<dyn Fn() -> u64 + Send + Sync>,
    last_ms: u64,
    #[cfg(target_os = "linux")]
    resumed: Option<resumed::Resumed>,
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake")
            .field("last_ms", &self.last_ms)
            .finish_non_exhaustive()
    }
}

impl Wake {
    /// Watches this machine from now on. Call it inside a runtime.
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            resumed: resumed::Resumed::watch()
                .inspect_err(
                    |error| tracing::debug!(%error, "the kernel does not tell of wake-ups"),
                )
                .ok(),
            ..Self::by(Box::new(slept_in_all_ms))
        }
    }

    /// Watches by the given reading alone.
    fn by(slept_in_all: Box<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self {
            last_ms: slept_in_all(),
            slept_in_all,
            #[cfg(target_os = "linux")]
            resumed: None,
        }
    }

    /// Completes when the machine may have slept: ask [`Wake::slept_ms`] then. Never, where nothing tells. Cancel-safe.
    pub(crate) async fn noticed(&self) {
        #[cfg(target_os = "linux")]
        if let Some(resumed) = &self.resumed {
            return resumed.noticed().await;
        }
        std::future::pending().await
    }

    /// How long the machine slept since the last time this said so, in milliseconds. `None`: not at all, or too shortly
    /// to matter; short sleeps do not add up.
    pub(crate) fn slept_ms(&mut self) -> Option<u64> {
        let in_all_ms = (self.slept_in_all)();
        let slept_ms = in_all_ms.saturating_sub(self.last_ms);
        self.last_ms = in_all_ms;
        (slept_ms >= SLEEP_MS_MIN).then_some(slept_ms)
    }
}

/// What the clock that goes on during a suspend is ahead of the one that does not. The two are read one after the other,
/// so this is exact to some microseconds; both are read without a system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn slept_in_all_ms() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let (going, standing) = (
        clock_gettime(ClockId::Boottime),
        clock_gettime(ClockId::Monotonic),
    );
    let ms = |time: rustix::time::Timespec| {
        i128::from(time.tv_sec) * 1_000 + i128::from(time.tv_nsec) / 1_000_000
    };
    u64::try_from(ms(going) - ms(standing)).unwrap_or(0)
}

/// As on Linux: here the monotonic clock goes on during a suspend, and the one behind `Instant` does not.
#[cfg(target_vendor = "apple")]
fn slept_in_all_ms() -> u64 {
    use std::sync::LazyLock;
    use std::time::Instant;

    use rustix::time::{ClockId, clock_gettime};
    static STANDING: LazyLock<Instant> = LazyLock::new(Instant::now);
    let standing = STANDING.elapsed();
    let going = clock_gettime(ClockId::Monotonic);
    let going_ms = i128::from(going.tv_sec) * 1_000 + i128::from(going.tv_nsec) / 1_000_000;
    let standing_ms = i128::try_from(standing.as_millis()).unwrap_or(i128::MAX);
    u64::try_from(going_ms - standing_ms).unwrap_or(0)
}

/// Nothing to compare here: `Manager::woke` tells.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn slept_in_all_ms() -> u64 {
    0
}

#[cfg(target_os = "linux")]
mod resumed {
    //! A timer that the kernel cancels whenever the wall clock jumps, which a resume makes it do.

    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    use crate::process::readable;

    /// When the timer itself would expire: never, in effect.
    const FAR_S: i64 = i64::MAX / 4_000_000_000;

    /// Becomes readable when the machine resumes, or somebody sets its clock.
    pub(super) struct Resumed(AsyncFd<OwnedFd>);

    impl Resumed {
        pub(super) fn watch() -> io::Result<Self> {
            Self::expiring(TimerfdClockId::Realtime, FAR_S)
        }

        pub(super) fn expiring(clock: TimerfdClockId, at_s: i64) -> io::Result<Self> {
            let timer = timerfd_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            let zero = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let never = Itimerspec {
                it_interval: zero,
                it_value: Timespec {
                    tv_sec: at_s,
                    tv_nsec: 0,
                },
            };
            let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
            timerfd_settime(&timer, flags, &never)?;
            Ok(Self(readable(timer)?))
        }

        /// Cancel-safe: the readiness stays until it is read.
        pub(super) async fn noticed(&self) {
            let Ok(mut ready) = self.0.readable().await else {
                // The runtime is shutting down.
                return std::future::pending().await;
            };
            let mut count = [0_u8; 8];
            // A cancelled timer fails with ECANCELED, once per jump, and goes on watching. Whatever the answer is, the
            // clocks are compared next; what must not happen is to be told of the same jump again.
            let _ = rustix::io::read(self.0.get_ref(), &mut count);
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn law_12_f225_f228_only_what_one_clock_gained_over_the_other_is_sleep() {
        let gained = Arc::new(AtomicU64::new(5_000));
        let reading = Arc::clone(&gained);
        let mut wake = Wake::by(Box::new(move || reading.load(Ordering::Relaxed)));
        assert_eq!(
            wake.slept_ms(),
            None,
            "what was slept before does not count"
        );
        gained.store(3_605_000, Ordering::Relaxed);
        assert_eq!(wake.slept_ms(), Some(3_600_000));
        assert_eq!(wake.slept_ms(), None, "told once");
        gained.store(3_605_999, Ordering::Relaxed);
        assert_eq!(wake.slept_ms(), None, "too short to matter");
        // The reading itself may waver by a millisecond.
        gained.store(3_605_998, Ordering::Relaxed);
        assert_eq!(wake.slept_ms(), None);
        assert!(format!("{wake:?}").contains("3605998"));
    }

    #[tokio::test]
    async fn f228_the_machine_as_it_is_has_not_slept_and_nothing_is_noticed() {
        let mut wake = Wake::start();
        assert_eq!(wake.slept_ms(), None);
        let quiet = std::time::Duration::from_millis(50);
        let noticed = tokio::time::timeout(quiet, wake.noticed()).await;
        assert!(noticed.is_err(), "an idle machine is not woken up");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn f225_a_wake_up_of_the_kernel_is_noticed_once() {
        // The past: expired at once, which is how a cancelled timer looks to whoever waits for it.
        let resumed = super::resumed::Resumed::expiring(rustix::time::TimerfdClockId::Realtime, 1)
            .expect("a timer");
        let generous = std::time::Duration::from_secs(20);
        tokio::time::timeout(generous, resumed.noticed())
            .await
            .expect("noticed");
        let quiet = std::time::Duration::from_millis(50);
        let again = tokio::time::timeout(quiet, resumed.noticed()).await;
        assert!(again.is_err(), "told once");
    }
}
