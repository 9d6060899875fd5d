//! When to list again: `list_changed` marks the catalog dirty, and listing happens elsewhere, later and rarely.
//!
//! Bursts coalesce (law 23): a mark starts a short wait, marks during a listing lead to one more listing, and two
//! listings are at least a minimum interval apart. Nothing here runs inside a read loop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// A burst of changes is waited out for this long before listing.
pub(crate) const DEBOUNCE: Duration = Duration::from_millis(250);

/// Two listings are at least this far apart.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// Whether the catalog of a generation may have changed since it was last listed.
#[derive(Debug)]
pub(crate) struct Dirty {
    /// Marks so far.
    marks: AtomicU64,
    /// The newest mark that a listing was begun for.
    taken: AtomicU64,
    /// The newest mark that a listing was completed for.
    listed: watch::Sender<u64>,
    wake: Notify,
}

impl Default for Dirty {
    fn default() -> Self {
        Self {
            marks: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            listed: watch::Sender::new(0),
            wake: Notify::new(),
        }
    }
}

impl Dirty {
    /// Something changed. Never blocks; the read loop calls it. The number is for [`Dirty::is_listed`].
    pub(crate) fn mark(&self) -> u64 {
        let mark = self.marks.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake.notify_one();
        mark
    }

    /// When the next listing is due by itself may have changed: look again.
    pub(crate) fn look_again(&self) {
        self.wake.notify_one();
    }

    /// Waits until listing is due: something was marked, or the time that `by_itself` names has come. A change during the
    /// listing marks it again (F162). Returns the mark that the listing answers to. Cancel-safe: the mark is taken only
    /// when this returns.
    pub(crate) async fn due(
        &self,
        last_listing: Option<Instant>,
        by_itself: impl Fn() -> Option<Instant>,
    ) -> u64 {
        loop {
            if self.marks.load(Ordering::Acquire) > self.taken.load(Ordering::Acquire) {
                let mut at = Instant::now() + DEBOUNCE;
                if let Some(last) = last_listing {
                    at = at.max(last + INTERVAL);
                }
                tokio::time::sleep_until(at).await;
                break;
            }
            // A permit left over from an earlier mark only costs one more look.
            match by_itself() {
                None => self.wake.notified().await,
                Some(at) => {
                    let at = last_listing.map_or(at, |last| at.max(last + INTERVAL));
                    if tokio::time::timeout_at(at, self.wake.notified())
                        .await
                        .is_err()
                    {
                        break;
                    }
                }
            }
        }
        let mark = self.marks.load(Ordering::Acquire);
        self.taken.store(mark, Ordering::Release);
        mark
    }

    /// A listing that answers to this mark is complete.
    pub(crate) fn listed(&self, mark: u64) {
        self.listed.send_if_modified(|listed| {
            let newer = mark > *listed;
            *listed = mark.max(*listed);
            newer
        });
    }

    /// Resolves when a listing that was begun after this mark is complete. Level-triggered, cancel-safe.
    pub(crate) async fn is_listed(&self, mark: u64) {
        // The sender lives as long as `self`, so this only ends when it is true.
        let _ = self
            .listed
            .subscribe()
            .wait_for(|listed| *listed >= mark)
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> Option<Instant> {
        None
    }

    #[tokio::test(start_paused = true)]
    async fn law_23_f160_a_burst_of_changes_is_one_listing_and_a_change_during_it_is_one_more() {
        let dirty = Dirty::default();
        let start = Instant::now();
        for _ in 0..200 {
            dirty.mark();
        }
        assert_eq!(dirty.due(None, never).await, 200);
        assert_eq!(start.elapsed(), DEBOUNCE);
        let listed = Instant::now();
        dirty.mark();
        dirty.due(Some(listed), never).await;
        assert!(listed.elapsed() >= INTERVAL);
        let idle = tokio::time::timeout(
            Duration::from_secs(3600),
            dirty.due(Some(Instant::now()), never),
        )
        .await;
        assert!(idle.is_err(), "nothing changed, so nothing is listed");
    }

    #[tokio::test(start_paused = true)]
    async fn f131_without_a_mark_listing_is_due_at_its_time_and_never_too_often() {
        let dirty = Dirty::default();
        let start = Instant::now();
        let at = start + Duration::from_secs(60);
        dirty.due(Some(start), || Some(at)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(60));
        let again = Instant::now();
        dirty.due(Some(again), || Some(again)).await;
        assert_eq!(again.elapsed(), INTERVAL, "a time in the past is not now");
    }

    #[tokio::test(start_paused = true)]
    async fn f136_whoever_needs_a_fresh_listing_waits_for_one_that_began_after_asking() {
        let dirty = Dirty::default();
        dirty.mark();
        let running = dirty.due(None, never).await;
        let asked = dirty.mark();
        dirty.listed(running);
        let waiting = tokio::time::timeout(Duration::from_secs(9), dirty.is_listed(asked)).await;
        assert!(waiting.is_err(), "that listing began before");
        dirty.listed(dirty.due(None, never).await);
        dirty.is_listed(asked).await;
    }
}
