//! When to list again: `list_changed` marks the catalog dirty, and listing happens elsewhere, later and rarely.
//!
//! Bursts coalesce (law 23): a mark starts a short wait, marks during a listing lead to one more listing, and two
//! listings are at least a minimum interval apart. Nothing here runs inside a read loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A burst of changes is waited out for this long before listing.
pub(crate) const DEBOUNCE: Duration = Duration::from_millis(250);

/// Two listings are at least this far apart.
pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

/// Whether the catalog of a generation may have changed since it was last listed.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    dirty: AtomicBool,
    wake: Notify,
}

impl Dirty {
    /// Something changed. Never blocks; the read loop calls it.
    pub(crate) fn mark(&self) {
        self.dirty.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Waits until listing is due, and clears the mark: a change during the listing marks it again (F162). Cancel-safe:
    /// the mark is cleared only when this returns.
    pub(crate) async fn due(&self, last_listing: Option<Instant>) {
        while !self.dirty.load(Ordering::Acquire) {
            // A permit left over from an earlier mark only costs one more look at the flag.
            self.wake.notified().await;
        }
        let mut at = Instant::now() + DEBOUNCE;
        if let Some(last) = last_listing {
            at = at.max(last + INTERVAL);
        }
        tokio::time::sleep_until(at).await;
        self.dirty.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn law_23_f160_a_burst_of_changes_is_one_listing_and_a_change_during_it_is_one_more() {
        let dirty = Dirty::default();
        let start = Instant::now();
        for _ in 0..200 {
            dirty.mark();
        }
        dirty.due(None).await;
        assert_eq!(start.elapsed(), DEBOUNCE);
        let listed = Instant::now();
        dirty.mark();
        dirty.due(Some(listed)).await;
        assert!(listed.elapsed() >= INTERVAL);
        let idle =
            tokio::time::timeout(Duration::from_secs(3600), dirty.due(Some(Instant::now()))).await;
        assert!(idle.is_err(), "nothing changed, so nothing is listed");
    }
}
