//! Counts calls: how many a minute, and how many at the same time, for each principal by itself.
//!
//! A token bucket for each rule and principal, or for each of its tools. Bounded: a principal has so many buckets and no more,
//! so that it cannot crowd out others by calling under many names, and buckets that say nothing any more are forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay::Principal;
use mainstay::config::{CallLimits, LimitEach};
use tokio::time::Instant;

/// Principals whose calls are counted. Beyond it those are forgotten that were quiet for longest.
const PRINCIPALS_MAX: usize = 20_000;

/// Buckets of one principal. What comes beyond it shares one for each rule.
const BUCKETS_MAX: usize = 512;

const MINUTE: Duration = Duration::from_secs(60);

/// Why a call may not be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Too many a minute: again after this time.
    Rate(Duration),
    /// So many are running, which is the limit.
    Concurrent(u64),
}

/// All counts of a gateway. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<Table>>);

type Buckets = HashMap<Key, Bucket>;

#[derive(Debug, Default)]
struct Table {
    of: HashMap<Option<Principal>, Buckets>,
}

/// A rule, and the tool if each has its own count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    rule: Box<str>,
    tool: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it will be full again. What lies in the past is full.
    full_at: Instant,
    running: u64,
}

impl Bucket {
    fn says_nothing(&self, now: Instant) -> bool {
        self.running == 0 && self.full_at <= now
    }

    /// Takes one call out of it.
    fn take(&mut self, limits: CallLimits, now: Instant) -> Result<(), Over> {
        if let Some(most) = limits.concurrent
            && self.running >= most
        {
            return Err(Over::Concurrent(most));
        }
        if let Some(per_minute) = limits.per_minute {
            // In nanoseconds: a million calls a minute are 60 µs apart.
            let each = MINUTE / u32::try_from(per_minute).unwrap_or(u32::MAX).max(1);
            let whole = each * u32::try_from(limits.burst).unwrap_or(u32::MAX).max(1);
            let full_at = self.full_at.max(now) + each;
            let late = full_at.saturating_duration_since(now + whole);
            if !late.is_zero() {
                return Err(Over::Rate(late));
            }
            self.full_at = full_at;
        }
        self.running += 1;
        Ok(())
    }
}

impl Counts {
    /// Counts a call that a rule with limits fits.
    ///
    /// # Errors
    /// Why it may not be made now; then nothing was counted.
    pub(crate) fn take(
        &self,
        limits: CallLimits,
        rule: &str,
        principal: Option<&Principal>,
        tool: &str,
    ) -> Result<Running, Over> {
        let now = Instant::now();
        let mut key = Key {
            rule: rule.into(),
            tool: match limits.each {
                LimitEach::Principal => None,
                LimitEach::Tool => Some(tool.into()),
            },
        };
        let mut table = self.lock();
        if table.of.len() >= PRINCIPALS_MAX && !table.of.contains_key(&principal.cloned()) {
            table.make_room(now);
        }
        let buckets = table.of.entry(principal.cloned()).or_default();
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| !bucket.says_nothing(now));
            if buckets.len() >= BUCKETS_MAX {
                key.tool = None;
            }
        }
        let bucket = buckets.entry(key.clone()).or_insert(Bucket {
            full_at: now,
            running: 0,
        });
        bucket.take(limits, now)?;
        drop(table);
        Ok(Running {
            counts: self.clone(),
            principal: principal.cloned(),
            key,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn sizes(&self) -> (usize, usize) {
        let table = self.lock();
        let buckets = table.of.values().map(HashMap::len).max();
        (table.of.len(), buckets.unwrap_or(0))
    }
}

impl Table {
    /// Forgets those who are quiet; if nobody is, the one that will be first.
    fn make_room(&mut self, now: Instant) {
        self.of
            .retain(|_, buckets| !buckets.values().all(|bucket| bucket.says_nothing(now)));
        if self.of.len() < PRINCIPALS_MAX {
            return;
        }
        let quiet_at = |buckets: &Buckets| {
            let running = buckets.values().any(|bucket| bucket.running > 0);
            let full_at = buckets.values().map(|bucket| bucket.full_at).max();
            (running, full_at)
        };
        let first = self.of.iter().min_by_key(|(_, buckets)| quiet_at(buckets));
        if let Some(first) = first.map(|(principal, _)| principal.clone()) {
            self.of.remove(&first);
        }
    }
}

/// A call that is counted as running until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    counts: Counts,
    principal: Option<Principal>,
    key: Key,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut table = self.counts.lock();
        let buckets = table.of.get_mut(&self.principal);
        if let Some(bucket) = buckets.and_then(|buckets| buckets.get_mut(&self.key)) {
            bucket.running = bucket.running.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_minute: Option<u64>, burst: u64, concurrent: Option<u64>) -> CallLimits {
        CallLimits {
            per_minute,
            burst,
            concurrent,
            each: LimitEach::Principal,
        }
    }

    fn principal(name: &str) -> Principal {
        Principal::new(name).unwrap()
    }

    /// How many calls get through, one after the other.
    fn through(counts: &Counts, limits: CallLimits, who: &Principal, calls: usize) -> usize {
        let taken = |_| counts.take(limits, "r", Some(who), "t").is_ok();
        (0..calls).filter(|call| taken(*call)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (counts, ann) = (Counts::default(), principal("ann"));
        let limits = limits(Some(60), 5, None);
        assert_eq!(through(&counts, limits, &ann, 10), 5);
        let over = counts.take(limits, "r", Some(&ann), "t").unwrap_err();
        assert_eq!(over, Over::Rate(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(
            through(&counts, limits, &ann, 1),
            0,
            "not before it is told"
        );
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(through(&counts, limits, &ann, 2), 1);
        let mut got = 0;
        for _ in 0..600 {
            tokio::time::advance(Duration::from_millis(100)).await;
            got += through(&counts, limits, &ann, 3);
        }
        assert_eq!(got, 60, "sixty in a minute, however often it is tried");
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(
            through(&counts, limits, &ann, 10),
            5,
            "no more than the burst is saved"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_principals_flood_takes_nothing_from_others() {
        let (counts, ann, bob) = (Counts::default(), principal("ann"), principal("bob"));
        let limits = limits(Some(6), 3, None);
        assert_eq!(through(&counts, limits, &ann, 1_000), 3);
        assert_eq!(through(&counts, limits, &bob, 1_000), 3);
        assert!(
            counts.take(limits, "r", None, "t").is_ok(),
            "and nobody in particular"
        );
        assert!(
            counts.take(limits, "other", Some(&ann), "t").is_ok(),
            "another rule"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_run_at_the_same_time() {
        let (counts, ann) = (Counts::default(), principal("ann"));
        let limits = limits(None, 1, Some(2));
        let take = || counts.take(limits, "r", Some(&ann), "t");
        let (first, second) = (take().unwrap(), take().unwrap());
        assert_eq!(take().unwrap_err(), Over::Concurrent(2));
        drop(first);
        let third = take().unwrap();
        assert!(take().is_err());
        drop((second, third));
        assert!(take().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn many_names_make_no_more_buckets_than_there_may_be() {
        let (counts, ann) = (Counts::default(), principal("ann"));
        let limits = CallLimits {
            each: LimitEach::Tool,
            ..limits(Some(1), 1, None)
        };
        let made = |name: usize| {
            counts
                .take(limits, "r", Some(&ann), &name.to_string())
                .is_ok()
        };
        let through = (0..5_000).filter(|name| made(*name)).count();
        assert_eq!(through, BUCKETS_MAX + 1, "the rest share one");
        assert_eq!(counts.sizes().1, BUCKETS_MAX + 1);
        let bob = principal("bob");
        assert!(counts.take(limits, "r", Some(&bob), "1").is_ok());
        for number in 0..PRINCIPALS_MAX + 10 {
            let who = principal(&number.to_string());
            assert!(counts.take(limits, "r", Some(&who), "t").is_ok());
        }
        assert!(counts.sizes().0 <= PRINCIPALS_MAX, "{:?}", counts.sizes());
        tokio::time::advance(MINUTE).await;
        assert!(
            counts
                .take(limits, "r", Some(&principal("new")), "t")
                .is_ok()
        );
        assert_eq!(counts.sizes().0, 1, "who is quiet is forgotten");
    }
}
