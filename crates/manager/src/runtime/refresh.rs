//! When to list again: notices mark the catalog dirty, and listing happens elsewhere, later and rarely.
//!
//! Bursts coalesce (law 23): a mark starts a short wait, marks during a listing lead to one more listing, and two
//! listings are at least a minimum interval apart. Nothing here runs inside a read loop. What a listing is believed to
//! say is decided here as well: an empty one, or one that a change notice did not change, is looked at again first.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
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
/// A server's own idea of how long its listing holds is clamped to this.
const TTL_MIN: Duration = Duration::from_secs(30);
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether the catalog of a generation may have changed since it was last listed.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    marks: AtomicU8,
    wake: Notify,
}

impl Dirty {
    /// The server said that something changed. Never blocks; the read loop calls it.
    pub(crate) fn mark(&self) {
        self.set(NOTICE);
    }

    /// What we know may be out of date, though nobody announced a change: a renewed session, a gap in the notices, a call
    /// that found its tool gone (F172). Never blocks.
    pub(crate) fn doubt(&self) {
        self.set(DOUBT);
    }

    fn set(&self, mark: u8) {
        self.marks.fetch_or(mark, Ordering::AcqRel);
        self.wake.notify_one();
    }

    fn is_marked(&self) -> bool {
        self.marks.load(Ordering::Acquire) != 0
    }

    /// Takes the marks away: what is marked from now on leads to another listing (F162).
    fn take(&self) -> u8 {
        self.marks.swap(0, Ordering::AcqRel)
    }

    /// Waits until something is marked. Cancel-safe, level-triggered.
    async fn marked(&self) {
        while !self.is_marked() {
            // A permit left over from an earlier mark only costs one more look.
            self.wake.notified().await;
        }
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
        first.saturating_mul(4_u32.saturating_pow(n)).min(TTL_MAX)
    }

    /// Waits until listing is due, and says which marks it answers. Cancel-safe: marks are taken only when this returns.
    async fn due(&mut self, dirty: &Dirty) -> u8 {
        let planned = self.planned;
        let own = async {
            match planned {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let asked = async {
            dirty.marked().await;
            let now = Instant::now();
            let quiet = self
                .last
                .is_none_or(|last| now >= last + self.interval() * 2);
            let useless = if quiet { 0 } else { self.useless };
            let mut at = now + Duration::from_millis(self.settings.debounce_ms);
            if let Some(last) = self.last {
                at = at.max(last + self.interval());
            }
            tokio::time::sleep_until(at).await;
            useless
        };
        let useless = tokio::select! {
            // Cancel-safe: a sleep holds nothing.
            () = own => self.useless,
            // Cancel-safe: marks stay until they are taken below.
            useless = asked => useless,
        };
        self.useless = useless;
        self.planned = None;
        dirty.take()
    }

    /// Takes note of a listing, plans the next one, and says whether this one is believed.
    fn listed(&mut self, marks: u8, outcome: Outcome, ttl: Option<Duration>) -> Belief {
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
        if let (None, Some(ttl)) = (self.planned, ttl) {
            self.planned = Some(now + ttl.clamp(TTL_MIN, TTL_MAX));
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
    match first {
        Some(listing) => {
            let ttl = listing.ttl;
            pace.listed(0, Outcome::Empty, ttl);
            tell_empty(setup, &pace);
        }
        // The opening has listed just now; a renewal has not.
        None if !runtime.dirty.is_marked() => pace.last = Some(Instant::now()),
        None => {}
    }
    loop {
        let marks = pace.due(&runtime.dirty).await;
        let Some(greeting) = runtime.greeting() else {
            continue;
        };
        // The marks are answered a little later: a throttled listing is a later one, not a lost one (F102).
        runtime.unpaused().await;
        let within = Duration::from_millis(setup.config.timeouts.list_ms);
        match list_all(runtime, greeting, &setup.config, setup.pages_max, within).await {
            Ok(listing) => {
                listing.tell_limits(setup);
                let outcome = judge(setup, &listing);
                let belief = pace.listed(marks, outcome, listing.ttl);
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
            }
            // Law 22: the last good catalog stays. It is tried again, whether or not there is another notice.
            Err(failure) => {
                let failure = runtime.told(failure);
                pace.listed(marks, Outcome::Failed, None);
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
    let known = setup.slot.catalog.load_full();
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
        let marks = tokio::time::timeout(hour, pace.due(dirty)).await.ok()?;
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
        assert_eq!(pace.listed(NOTICE, Outcome::Changed, None), Belief::Publish);
        assert_eq!(due(&mut pace, &dirty).await, Some((INTERVAL, NOTICE)));
        pace.listed(NOTICE, Outcome::Changed, None);
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
            pace.listed(marks, Outcome::Same, None);
            listings += 1;
        }
        assert!(listings < 25, "{listings} listings in an hour");
        assert!(pace.interval() == INTERVAL_MAX, "{:?}", pace.interval());
        dirty.mark();
        due(&mut pace, &dirty).await;
        pace.listed(NOTICE, Outcome::Changed, None);
        assert_eq!(pace.interval(), INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn f161_a_notice_after_a_quiet_time_is_no_loop() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        for _ in 0..20 {
            dirty.mark();
            due(&mut pace, &dirty).await;
            pace.listed(NOTICE, Outcome::Same, None);
            while due(&mut pace, &dirty).await.is_some() {
                pace.listed(0, Outcome::Same, None);
            }
            assert!(!pace.is_loop());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f163_an_announced_change_that_is_not_there_yet_is_looked_for_once_more() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        dirty.mark();
        due(&mut pace, &dirty).await;
        pace.listed(NOTICE, Outcome::Same, None);
        assert_eq!(due(&mut pace, &dirty).await, Some((INTERVAL, 0)));
        pace.listed(0, Outcome::Same, None);
        assert_eq!(due(&mut pace, &dirty).await, None, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn f156_f157_an_empty_listing_is_checked_before_it_is_believed_and_watched_afterwards() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        assert_eq!(pace.listed(0, Outcome::Empty, None), Belief::Doubt);
        let mut waits = vec![due(&mut pace, &dirty).await.unwrap().0];
        assert_eq!(pace.listed(0, Outcome::Empty, None), Belief::Doubt);
        waits.push(due(&mut pace, &dirty).await.unwrap().0);
        assert_eq!(pace.listed(0, Outcome::Empty, None), Belief::Doubt);
        waits.push(due(&mut pace, &dirty).await.unwrap().0);
        assert_eq!(waits, [RECHECK, RECHECK * 4, RECHECK * 16]);
        assert_eq!(
            pace.listed(0, Outcome::Empty, None),
            Belief::Publish,
            "F156: emptiness is possible"
        );
        let mut checks = 0;
        while due(&mut pace, &dirty).await.is_some() {
            pace.listed(0, Outcome::Same, None);
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
            assert_eq!(pace.listed(NOTICE, Outcome::Failed, None), Belief::Doubt);
            let wait = due(&mut pace, &dirty).await.unwrap().0;
            assert!(wait > last, "{wait:?} after {last:?}");
            last = wait;
        }
        for _ in 0..5 {
            pace.listed(NOTICE, Outcome::Failed, None);
            assert!(due(&mut pace, &dirty).await.unwrap().0 <= INTERVAL_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_how_long_its_listing_holds_is_listed_again_after_that() {
        let (mut pace, dirty) = (pace(), Dirty::default());
        let ttl = Duration::from_secs(90);
        pace.listed(NOTICE, Outcome::Changed, Some(ttl));
        assert_eq!(due(&mut pace, &dirty).await, Some((ttl, 0)));
        pace.listed(0, Outcome::Same, Some(Duration::from_millis(1)));
        assert_eq!(due(&mut pace, &dirty).await, Some((TTL_MIN, 0)));
    }
}
