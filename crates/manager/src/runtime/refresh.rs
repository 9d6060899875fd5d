//! When to list again: notices mark the catalog dirty, and listing happens elsewhere, later and rarely.
//!
//! Bursts coalesce (law 23): a mark starts a short wait, marks during a listing lead to one more listing, and two
//! listings are at least a minimum interval apart. Nothing here runs inside a read loop. What a listing is believed to
//! say is decided here as well: an empty one, or one that a change notice did not change, is looked at again first.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Runtime;
use super::catalog::{Listing, list_all};
use super::keeper::Setup;
use super::report::Report;
use crate::config::CatalogSettings;
use crate::events::EventKind;

/// The server said that something changed.
const NOTICE: u8 = 1;
/// Something else made us doubt what we know.
const DOUBT: u8 = 2;

/// The interval between listings grows no further than this while a server announces changes that are none (F161), or
/// cannot be listed.
const INTERVAL_MAX: Duration = Duration::from_secs(5 * 60);
/// Useless listings in a row that are called a loop.
const LOOP: u32 = 4;
/// Checks of an empty listing before it is believed, and checks in all: warming up may take longer (F157).
const EMPTY_CHECKS: u32 = 3;
const EMPTY_CHECKS_MAX: u32 = 7;
/// Checks are at most this far apart.
const RECHECK_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether the catalog of a generation may have changed since it was last listed.
#[derive(Debug)]
pub(crate) struct Dirty {
    marks: AtomicU8,
    /// How often it was marked; the newest number is what [`Dirty::is_listed`] waits for.
    asked: AtomicU64,
    /// The newest number that a listing was completed for.
    listed: watch::Sender<u64>,
    wake: Notify,
}

impl Default for Dirty {
    fn default() -> Self {
        Self {
            marks: AtomicU8::new(0),
            asked: AtomicU64::new(0),
            listed: watch::Sender::new(0),
            wake: Notify::new(),
        }
    }
}

/// What a listing that is due answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    marks: u8,
    asked: u64,
}

impl Dirty {
    /// The server said that something changed. Never blocks; the read loop calls it.
    pub(crate) fn mark(&self) {
        self.set(NOTICE);
    }

    /// What we know may be out of date, though nobody announced a change: a renewed session, a gap in the notices, a call
    /// that found its tool gone (F172). Never blocks. The number is for [`Dirty::is_listed`].
    pub(crate) fn doubt(&self) -> u64 {
        self.set(DOUBT)
    }

    fn set(&self, mark: u8) -> u64 {
        // The number first: whoever takes the mark away takes its number along.
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.marks.fetch_or(mark, Ordering::AcqRel);
        self.wake.notify_one();
        number
    }

    /// When the next listing is due by itself may have changed: look again.
    pub(crate) fn look_again(&self) {
        self.wake.notify_one();
    }

    fn is_marked(&self) -> bool {
        self.marks.load(Ordering::Acquire) != 0
    }

    /// Takes the marks away: what is marked from now on leads to another listing (F162).
    fn take(&self) -> Due {
        let marks = self.marks.swap(0, Ordering::AcqRel);
        let asked = self.asked.load(Ordering::Acquire);
        Due { marks, asked }
    }

    /// A listing that answers to this number is complete.
    fn complete(&self, asked: u64) {
        self.listed.send_if_modified(|listed| {
            let newer = asked > *listed;
            *listed = asked.max(*listed);
            newer
        });
    }

    /// Resolves when a listing that was begun after this mark is complete (F136). Level-triggered, cancel-safe.
    pub(crate) async fn is_listed(&self, number: u64) {
        // The sender lives as long as `self`, so this only ends when it is true.
        let _ = self
            .listed
            .subscribe()
            .wait_for(|listed| *listed >= number)
            .await;
    }
}

/// What a listing turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It differs from what is known.
    Changed,
    /// It says what is known.
    Same,
    /// A list is empty that was not, or was never seen.
    Empty,
    /// It could not be had.
    Failed,
}

/// What to do with a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    /// Publish it.
    Publish,
    /// Keep what is known, and look again.
    Doubt,
}

/// The rhythm of listing one generation. Decides, and waits for nothing but what it is asked to wait for.
struct Pace {
    settings: CatalogSettings,
    last: Option<Instant>,
    /// Listings in a row that were asked for and changed nothing.
    useless: u32,
    /// Listings in a row that failed.
    failures: u32,
    /// How often the same emptiness was seen.
    empty: u32,
    /// A listing of our own accord.
    planned: Option<Instant>,
}

impl Pace {
    fn new(settings: CatalogSettings) -> Self {
        Self {
            settings,
            last: None,
            useless: 0,
            failures: 0,
            empty: 0,
            planned: None,
        }
    }

    /// The shortest time between two listings, now.
    fn interval(&self) -> Duration {
        let interval = Duration::from_millis(self.settings.interval_ms);
        doubled(interval, self.useless.max(1) - 1).max(interval)
    }

    /// The delay before the check after `n` checks.
    fn recheck(&self, n: u32) -> Duration {
        let first = Duration::from_millis(self.settings.recheck_ms);
        first
            .saturating_mul(4_u32.saturating_pow(n))
            .min(RECHECK_MAX)
    }

    /// Waits until listing is due: something was marked, a check was planned, or the time that `by_itself` names has come.
    /// Says what it answers to. Cancel-safe: marks are taken only when this returns.
    async fn due(&mut self, dirty: &Dirty, by_itself: impl Fn() -> Option<Instant>) -> Due {
        loop {
            let own =
                by_itself().map(|at| self.last.map_or(at, |last| at.max(last + self.interval())));
            let own = own.into_iter().chain(self.planned).min();
            if dirty.is_marked() {
                let (asked, useless) = self.asked();
                match own {
                    Some(own) if own < asked => tokio::time::sleep_until(own).await,
                    Some(_) | None => {
                        tokio::time::sleep_until(asked).await;
                        self.useless = useless;
                    }
                }
                break;
            }
            // A permit left over from an earlier mark only costs one more look.
            match own {
                None => dirty.wake.notified().await,
                Some(at) => {
                    if tokio::time::timeout_at(at, dirty.wake.notified())
                        .await
                        .is_err()
                    {
                        break;
                    }
                }
            }
        }
        self.planned = None;
        dirty.take()
    }

    /// When a listing that is asked for now may be made, and how many useless ones count from then on.
    fn asked(&self) -> (Instant, u32) {
        let now = Instant::now();
        let quiet = self
            .last
            .is_none_or(|last| now >= last + self.interval() * 2);
        let mut at = now + Duration::from_millis(self.settings.debounce_ms);
        if let Some(last) = self.last {
            at = at.max(last + self.interval());
        }
        (at, if quiet { 0 } else { self.useless })
    }

    /// Takes note of a listing, plans the next one, and says whether this one is believed.
    fn listed(&mut self, marks: u8, outcome: Outcome) -> Belief {
        let now = Instant::now();
        self.last = Some(now);
        if outcome != Outcome::Failed {
            self.failures = 0;
        }
        match outcome {
            Outcome::Failed => {
                self.failures = self.failures.saturating_add(1);
                let interval = Duration::from_millis(self.settings.interval_ms);
                self.planned = Some(now + doubled(interval, self.failures));
                return Belief::Doubt;
            }
            Outcome::Empty => {
                self.empty = self.empty.saturating_add(1);
                self.planned = Some(now + self.recheck(self.empty - 1));
                return if self.empty <= EMPTY_CHECKS {
                    Belief::Doubt
                } else {
                    Belief::Publish
                };
            }
            Outcome::Changed => {
                self.useless = 0;
                self.empty = 0;
            }
            Outcome::Same => {
                if marks != 0 {
                    self.useless = self.useless.saturating_add(1);
                }
                if self.empty > 0 && self.empty < EMPTY_CHECKS_MAX {
                    self.planned = Some(now + self.recheck(self.empty));
                    self.empty += 1;
                } else if marks & NOTICE != 0 && self.useless == 1 {
                    // The change may have been announced before it can be seen (F163).
                    let soon = Duration::from_millis(self.settings.recheck_ms);
                    self.planned = Some(now + soon.max(self.interval()));
                }
            }
        }
        Belief::Publish
    }

    /// Whether the last useless listing is one that people should hear of: the fourth in a row, then ever more rarely.
    fn is_loop(&self) -> bool {
        self.useless >= LOOP && self.useless.is_power_of_two()
    }

    fn next_in_ms(&self) -> Option<u64> {
        let ahead = self.planned?.saturating_duration_since(Instant::now());
        u64::try_from(ahead.as_millis()).ok()
    }
}

fn doubled(duration: Duration, times: u32) -> Duration {
    duration
        .saturating_mul(2_u32.saturating_pow(times))
        .min(INTERVAL_MAX.max(duration))
}

/// Lists again whenever something says so (law 23). Never ends by itself. `first`: the listing that the generation was
/// opened with, if it was not believed.
pub(crate) async fn refresh(setup: &Setup, runtime: &Runtime, first: Option<Listing>) {
    let mut pace = Pace::new(setup.config.catalog.clone());
    let jitter = getrandom::u32().unwrap_or(0);
    match first {
        Some(_listing) => {
            pace.listed(0, Outcome::Empty);
            tell_empty(setup, &pace);
        }
        // The opening has listed just now; a renewal has not.
        None if !runtime.dirty.is_marked() => pace.last = Some(Instant::now()),
        None => {}
    }
    let mut since = Instant::now();
    loop {
        // What holds now: a changed setting replaces no connection (F214).
        let config = setup.slot.config.load_full();
        let poll = config.poll_ms.map(Duration::from_millis);
        pace.settings = config.catalog.clone();
        // Where nobody tells of changes, time does (F131, F132).
        let by_itself = || {
            let greeting = runtime.greeting()?;
            Some(since + runtime.freshness.poll_after(greeting, poll, jitter)?)
        };
        let due = pace.due(&runtime.dirty, by_itself).await;
        let marks = due.marks;
        let Some(greeting) = runtime.greeting() else {
            continue;
        };
        // The marks are answered a little later: a throttled listing is a later one, not a lost one (F102).
        runtime.unpaused().await;
        let config = setup.slot.config.load_full();
        let within = Duration::from_millis(config.timeouts.list_ms);
        let listed = list_all(runtime, greeting, &config, setup.pages_max, within).await;
        since = Instant::now();
        match listed {
            Ok(listing) => {
                listing.tell_limits(setup);
                let outcome = judge(setup, &listing);
                let belief = pace.listed(marks, outcome);
                if outcome == Outcome::Empty {
                    tell_empty(setup, &pace);
                }
                if marks != 0 && pace.is_loop() {
                    tell_loop(setup, &pace);
                }
                if belief == Belief::Publish {
                    let report = Report::Listed {
                        generation: setup.generation,
                        catalog: listing.catalog.into(),
                    };
                    setup.reports.send(report).await;
                }
                runtime.dirty.complete(due.asked);
            }
            // Not a failure of the server: the pause of its host came in between, and the change is still to be looked for.
            Err(failure) if failure.kind.is_a_wait() => {
                runtime.dirty.set(marks.max(DOUBT));
            }
            // Law 22: the last good catalog stays. It is tried again, whether or not there is another notice.
            Err(failure) => {
                let failure = runtime.told(failure);
                pace.listed(marks, Outcome::Failed);
                let kind = EventKind::ListingFailed {
                    detail: failure.to_string(),
                    failures: pace.failures,
                    next_in_ms: pace.next_in_ms().unwrap_or_default(),
                };
                tell(setup, kind);
            }
        }
    }
}

/// Compares a listing with what is known of the server.
fn judge(setup: &Setup, listing: &Listing) -> Outcome {
    let known = setup.slot.listed.load_full();
    if listing.is_suspicious(known.as_deref()) {
        return Outcome::Empty;
    }
    match known {
        Some(known) if !known.remembered && known.same_content(&listing.catalog) => Outcome::Same,
        Some(_) | None => Outcome::Changed,
    }
}

fn tell_empty(setup: &Setup, pace: &Pace) {
    let kind = EventKind::EmptyListing {
        believed: pace.empty > EMPTY_CHECKS,
        next_in_ms: pace.next_in_ms().unwrap_or_default(),
    };
    tell(setup, kind);
}

fn tell_loop(setup: &Setup, pace: &Pace) {
    let interval = pace.interval();
    let kind = EventKind::ListingLoop {
        listings: pace.useless,
        interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
    };
    tell(setup, kind);
}

fn tell(setup: &Setup, kind: EventKind) {
    setup
        .slot
        .events
        .emit(&setup.slot.name, setup.generation.0, kind);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBOUNCE: Duration = Duration::from_millis(250);
    const INTERVAL: Duration = Duration::from_secs(2);
    const RECHECK: Duration = Duration::from_millis(500);

    fn pace() -> Pace {
        Pace::new(CatalogSettings::default())
    }

    /// How long until listing is due, or `None` if nothing is within an hour.
    async fn due(pace: &mut Pace, dirty: &Dirty) -> Option<(Duration, u8)> {
        let start = Instant::now();
        let hour = Duration::from_secs(3_600);
        let marks = tokio::time::timeout(hour, pace.due(dirty, || None))
            .await
            .ok()?
            .marks;
        Some((start.elapsed(), marks))
    }

    #[tokio::test(start_paused = true)]
    async fn law_23_f160_f162_a_burst_of_changes_is_one_listing_and_a_change_during_it_is_one_more()
    {
        let (mut pace, dirty) = (pace(), Dirty::default());
        for _ in 0..200 {
            dirty.mark();
        }
        assert_eq!(due(&mut pace, &dirty).await, Some((DEBOUNCE, NOTICE)));
        dirty.mark();
        assert_eq!(pace.listed(NOTICE, Outcome::Changed), Belief::Publish);
        assert_eq!(due(&mut pace, &dirty).await, Some((INTERVAL, NOTICE)));
        pace.listed(NOTICE, Outcome::Changed);
        assert_eq!(
            due(&mut pace, &dirty).await,
            None,
            "nothing changed, so nothing is listed"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn f161_listings_that_only_lead_to_notices_become_rare_and_a_real_change_ends_that() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        let start = Instant::now();
        let mut listings = 0;
        while start.elapsed() < Duration::from_secs(3_600) {
            // The server announces a change whenever it is listed.
            dirty.mark();
            let Some((_, marks)) = due(&mut pace, &dirty).await else {
                break;
            };
            pace.listed(marks, Outcome::Same);
            listings += 1;
        }
        assert!(listings < 25, "{listings} listings in an hour");
        assert!(pace.interval() == INTERVAL_MAX, "{:?}", pace.interval());
        dirty.mark();
        due(&mut pace, &dirty).await;
        pace.listed(NOTICE, Outcome::Changed);
        assert_eq!(pace.interval(), INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn f161_a_notice_after_a_quiet_time_is_no_loop() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        for _ in 0..20 {
            dirty.mark();
            due(&mut pace, &dirty).await;
            pace.listed(NOTICE, Outcome::Same);
            while due(&mut pace, &dirty).await.is_some() {
                pace.listed(0, Outcome::Same);
            }
            assert!(!pace.is_loop());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f163_an_announced_change_that_is_not_there_yet_is_looked_for_once_more() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        dirty.mark();
        due(&mut pace, &dirty).await;
        pace.listed(NOTICE, Outcome::Same);
        assert_eq!(due(&mut pace, &dirty).await, Some((INTERVAL, 0)));
        pace.listed(0, Outcome::Same);
        assert_eq!(due(&mut pace, &dirty).await, None, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn f156_f157_an_empty_listing_is_checked_before_it_is_believed_and_watched_afterwards() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        assert_eq!(pace.listed(0, Outcome::Empty), Belief::Doubt);
        let mut waits = vec![due(&mut pace, &dirty).await.unwrap().0];
        assert_eq!(pace.listed(0, Outcome::Empty), Belief::Doubt);
        waits.push(due(&mut pace, &dirty).await.unwrap().0);
        assert_eq!(pace.listed(0, Outcome::Empty), Belief::Doubt);
        waits.push(due(&mut pace, &dirty).await.unwrap().0);
        assert_eq!(waits, [RECHECK, RECHECK * 4, RECHECK * 16]);
        assert_eq!(
            pace.listed(0, Outcome::Empty),
            Belief::Publish,
            "F156: emptiness is possible"
        );
        let mut checks = 0;
        while due(&mut pace, &dirty).await.is_some() {
            pace.listed(0, Outcome::Same);
            checks += 1;
        }
        assert_eq!(checks, 4, "bounded");
    }

    #[tokio::test(start_paused = true)]
    async fn law_22_a_listing_that_fails_is_tried_again_ever_more_rarely() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        dirty.mark();
        due(&mut pace, &dirty).await;
        let mut last = Duration::ZERO;
        for _ in 0..7 {
            assert_eq!(pace.listed(NOTICE, Outcome::Failed), Belief::Doubt);
            let wait = due(&mut pace, &dirty).await.unwrap().0;
            assert!(wait > last, "{wait:?} after {last:?}");
            last = wait;
        }
        for _ in 0..5 {
            pace.listed(NOTICE, Outcome::Failed);
            assert!(due(&mut pace, &dirty).await.unwrap().0 <= INTERVAL_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f131_without_a_mark_listing_is_due_at_its_time_and_never_too_often() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        let start = Instant::now();
        pace.listed(0, Outcome::Changed);
        let at = start + Duration::from_secs(60);
        pace.due(&dirty, || Some(at)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(60));
        pace.listed(0, Outcome::Same);
        let again = Instant::now();
        pace.due(&dirty, || Some(again)).await;
        assert_eq!(again.elapsed(), INTERVAL, "a time in the past is not now");
    }

    #[tokio::test(start_paused = true)]
    async fn f136_whoever_needs_a_fresh_listing_waits_for_one_that_began_after_asking() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        dirty.mark();
        let running = pace.due(&dirty, || None).await;
        let asked = dirty.doubt();
        dirty.complete(running.asked);
        let waiting = tokio::time::timeout(Duration::from_secs(9), dirty.is_listed(asked)).await;
        assert!(waiting.is_err(), "that listing began before");
        let next = pace.due(&dirty, || None).await;
        dirty.complete(next.asked);
        dirty.is_listed(asked).await;
    }
}
