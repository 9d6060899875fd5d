//! Who uses a connection now, so that it is closed only when nobody does.
//!
//! Calls hold it from before they wait for it until they have ended. What closes it must win it first: a call that comes
//! too late finds it closed and gets another one, and never one that is on its way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::driver::Place;

const CLOSED: usize = 1 << (usize::BITS - 1);

/// How many calls use a connection, and since when none does.
#[derive(Debug)]
pub(crate) struct Holds {
    count: AtomicUsize,
    /// When the last one ended, on the driver's clock.
    last_use_ms: AtomicU64,
}

impl Holds {
    /// Nobody, since now.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            count: AtomicUsize::new(0),
            last_use_ms: AtomicU64::new(now_ms),
        }
    }

    fn take(&self) -> bool {
        self.count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count & CLOSED == 0).then_some(count + 1)
            })
            .is_ok()
    }

    /// Takes no more holds, if there is none now. `false`: in use.
    pub(crate) fn close_if_unused(&self) -> bool {
        let closed = self
            .count
            .compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire);
        matches!(closed, Ok(_) | Err(CLOSED))
    }

    /// Takes no more holds from now on, used or not.
    pub(crate) fn close(&self) {
        self.count.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// When it was last used, on the driver's clock; `None`: it is in use.
    pub(crate) fn unused_since_ms(&self) -> Option<u64> {
        let last = self.last_use_ms.load(Ordering::Acquire);
        (self.count.load(Ordering::Acquire) & !CLOSED == 0).then_some(last)
    }
}

/// One call's hold on a connection. Dropping it lets go.
#[derive(Debug)]
pub(crate) struct Hold(Arc<Place>);

impl Hold {
    /// Holds a connection, unless it is being closed.
    pub(crate) fn take(place: &Arc<Place>) -> Option<Self> {
        place.slot.holds.take().then(|| Self(Arc::clone(place)))
    }

    /// The connection.
    pub(crate) fn place(&self) -> &Place {
        &self.0
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let slot = &self.0.slot;
        let now_ms = slot.clock.now().0;
        slot.holds.last_use_ms.store(now_ms, Ordering::Release);
        slot.holds.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_1_what_is_held_is_not_closed_and_what_is_closed_is_not_held() {
        let holds = Holds::new(7);
        assert_eq!(holds.unused_since_ms(), Some(7));
        assert!(holds.take());
        assert_eq!(holds.unused_since_ms(), None);
        assert!(!holds.close_if_unused());
        assert!(holds.take(), "nothing was closed");
        holds.count.fetch_sub(2, Ordering::AcqRel);
        assert!(holds.close_if_unused());
        assert!(holds.close_if_unused(), "idempotent");
        assert!(!holds.take());
        let ordered = Holds::new(0);
        assert!(ordered.take());
        ordered.close();
        assert!(!ordered.take());
        assert_eq!(ordered.unused_since_ms(), None, "its calls may end");
    }
}
