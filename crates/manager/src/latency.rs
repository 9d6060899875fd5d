//! How long the calls of one server take, lately: a histogram of the last minutes, in slices that are reused in turn.
//!
//! Plain atomics on the data path: measuring never waits. Where two calls turn to a new slice at the same moment a sample
//! may be lost, so percentiles are close, and totals are the counters' business.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// One slice.
const SLICE_MS: u64 = 60_000;

/// The window: the slice that is being filled, and the full ones before it.
const SLICES: usize = 6;

/// Buckets per doubling; a bucket is at most a quarter wide, and its middle is told.
const STEPS: u32 = 4;

/// Up to 2^32 µs, which is more than an hour; what takes longer is in the last.
const BUCKETS: usize = (32 * STEPS) as usize;

/// The rate counts in slots of this length.
const SLOT_MS: u64 = 5_000;

/// A minute of them, and the one that is being filled.
const SLOTS: usize = 13;

/// Two figures of the same sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Percentiles {
    /// Half took at most this long, in microseconds.
    pub(crate) p50_us: u64,
    /// All but one in twenty took at most this long, in microseconds.
    pub(crate) p95_us: u64,
}

/// The times of one server's calls. Takes memory when the first call ends.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    window: OnceLock<Box<Window>>,
}

#[derive(Debug)]
struct Window {
    slices: [Slice; SLICES],
    rate: [AtomicU64; SLOTS],
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

#[derive(Debug)]
struct Slice {
    /// Which stretch of time it is about, counted from 1; 0 is none.
    turn: AtomicU64,
    served: [AtomicU32; BUCKETS],
    queued: [AtomicU32; BUCKETS],
}

/// One call to be measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Time in our queue.
    pub(crate) queued: Duration,
    /// Time at the server, if it answered.
    pub(crate) served: Option<Duration>,
    /// Bytes from the caller.
    pub(crate) bytes_in: u64,
    /// Bytes to the caller.
    pub(crate) bytes_out: u64,
}

/// What the window holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Calls that ended within the last minute.
    pub(crate) per_minute: u64,
    /// Time at the server.
    pub(crate) served: Percentiles,
    /// Time in our queue.
    pub(crate) queued: Percentiles,
    /// Bytes from callers since the start.
    pub(crate) bytes_in: u64,
    /// Bytes to callers since the start.
    pub(crate) bytes_out: u64,
}

impl Latency {
    /// A call ended at `now_ms`.
    pub(crate) fn record(&self, now_ms: u64, sample: Sample) {
        let window = self.window.get_or_init(Window::new);
        window
            .bytes_in
            .fetch_add(sample.bytes_in, Ordering::Relaxed);
        window
            .bytes_out
            .fetch_add(sample.bytes_out, Ordering::Relaxed);
        window.count(now_ms);
        let slice = window.slice(now_ms);
        slice.queued[bucket(sample.queued)].fetch_add(1, Ordering::Relaxed);
        if let Some(served) = sample.served {
            slice.served[bucket(served)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is known at `now_ms`.
    pub(crate) fn read(&self, now_ms: u64) -> Reading {
        let Some(window) = self.window.get() else {
            return Reading::default();
        };
        Reading {
            per_minute: window.per_minute(now_ms),
            served: window.percentiles(now_ms, |slice| &slice.served),
            queued: window.percentiles(now_ms, |slice| &slice.queued),
            bytes_in: window.bytes_in.load(Ordering::Relaxed),
            bytes_out: window.bytes_out.load(Ordering::Relaxed),
        }
    }
}

impl Window {
    fn new() -> Box<Self> {
        let zeros = || std::array::from_fn(|_| AtomicU32::new(0));
        Box::new(Self {
            slices: std::array::from_fn(|_| Slice {
                turn: AtomicU64::new(0),
                served: zeros(),
                queued: zeros(),
            }),
            rate: std::array::from_fn(|_| AtomicU64::new(0)),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        })
    }

    /// The slice of this moment, empty if it is the first to look at it.
    fn slice(&self, now_ms: u64) -> &Slice {
        let turn = now_ms / SLICE_MS + 1;
        let slice = &self.slices[(turn % SLICES as u64) as usize];
        let before = slice.turn.load(Ordering::Acquire);
        if before < turn
            && slice
                .turn
                .compare_exchange(before, turn, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        {
            for bucket in slice.served.iter().chain(&slice.queued) {
                bucket.store(0, Ordering::Relaxed);
            }
        }
        slice
    }

    /// Adds one to the rate. A slot holds its turn above its count, so that both change together.
    fn count(&self, now_ms: u64) {
        let turn = now_ms / SLOT_MS + 1;
        let slot = &self.rate[(turn % SLOTS as u64) as usize];
        let mine = (turn & u64::from(u32::MAX)) << 32;
        // Cannot fail: the closure always has an answer.
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seen| {
            let is_mine = seen >> 32 == mine >> 32;
            Some(if is_mine { seen + 1 } else { mine | 1 })
        });
    }

    fn per_minute(&self, now_ms: u64) -> u64 {
        let turn = now_ms / SLOT_MS + 1;
        let oldest = turn.saturating_sub(SLOTS as u64 - 2);
        self.rate
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .filter(|seen| (oldest..=turn).contains(&(seen >> 32)))
            .map(|seen| seen & u64::from(u32::MAX))
            .sum()
    }

    fn percentiles(&self, now_ms: u64, of: fn(&Slice) -> &[AtomicU32; BUCKETS]) -> Percentiles {
        let turn = now_ms / SLICE_MS + 1;
        let oldest = turn.saturating_sub(SLICES as u64 - 1);
        let mut counts = [0_u64; BUCKETS];
        for slice in &self.slices {
            if !(oldest..=turn).contains(&slice.turn.load(Ordering::Acquire)) {
                continue;
            }
            for (count, bucket) in counts.iter_mut().zip(of(slice)) {
                *count += u64::from(bucket.load(Ordering::Relaxed));
            }
        }
        let all: u64 = counts.iter().sum();
        let at = |share: u64| {
            let wanted = (all * share).div_ceil(100);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= wanted && seen > 0
            });
            found.map_or(0, middle)
        };
        Percentiles {
            p50_us: at(50),
            p95_us: at(95),
        }
    }
}

/// The bucket of a duration: four to each doubling of the microseconds.
fn bucket(duration: Duration) -> usize {
    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if us < u64::from(STEPS) {
        return us as usize;
    }
    let doublings = us.ilog2();
    let within = (us >> (doublings - 2)) & 3;
    ((doublings * STEPS) as usize + within as usize - STEPS as usize).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> u64 {
    let low = low_of(bucket);
    let high = low_of(bucket + 1);
    low + (high - low) / 2
}

fn low_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < u64::from(STEPS) {
        return bucket;
    }
    let bucket = bucket + u64::from(STEPS);
    let (doublings, within) = (bucket / u64::from(STEPS), bucket % u64::from(STEPS));
    (u64::from(STEPS) + within) << (doublings - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(served_us: u64, queued_us: u64) -> Sample {
        Sample {
            queued: Duration::from_micros(queued_us),
            served: Some(Duration::from_micros(served_us)),
            bytes_in: 10,
            bytes_out: 100,
        }
    }

    #[test]
    fn every_duration_is_in_the_bucket_that_holds_it() {
        for us in (0..5_000).chain([65_535, 65_536, 1_000_000, 59_999_999, 3_600_000_000]) {
            let bucket = bucket(Duration::from_micros(us));
            assert!(
                low_of(bucket) <= us && us < low_of(bucket + 1),
                "{us} in {bucket}"
            );
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_last_minutes_within_a_quarter() {
        let latency = Latency::default();
        assert_eq!(latency.read(0), Reading::default());
        for n in 1..=100 {
            latency.record(1_000, sample(n * 1_000, n * 10));
        }
        let read = latency.read(2_000);
        let near = |told: u64, true_us: u64| told.abs_diff(true_us) * 4 <= true_us;
        assert!(near(read.served.p50_us, 50_000), "{read:?}");
        assert!(near(read.served.p95_us, 95_000), "{read:?}");
        assert!(near(read.queued.p50_us, 500), "{read:?}");
        assert_eq!((read.bytes_in, read.bytes_out), (1_000, 10_000));
        // Minutes later the old ones are forgotten, and the bytes are not.
        for _ in 0..10 {
            latency.record(7 * SLICE_MS, sample(7, 7));
        }
        let read = latency.read(7 * SLICE_MS);
        assert!(read.served.p95_us < 10, "{read:?}");
        assert_eq!(read.bytes_in, 1_100);
        let later = latency.read(20 * SLICE_MS);
        assert_eq!(later.served, Percentiles::default(), "{later:?}");
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let latency = Latency::default();
        for second in 0..300 {
            for _ in 0..3 {
                latency.record(second * 1_000, sample(1, 1));
            }
        }
        let rate = latency.read(299_999).per_minute;
        assert_eq!(rate, 180);
        assert_eq!(latency.read(299_999 + 120_000).per_minute, 0);
    }
}
