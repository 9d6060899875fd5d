//! The count of calls that hold one generation. A fence turns new ones away; the last one out says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::Runtime;

const FENCED: usize = 1 << (usize::BITS - 1);

/// How many leases a generation has, and whether it takes more (law 2, law 4).
#[derive(Debug, Default)]
pub(crate) struct Leases {
    count: AtomicUsize,
    last_use_ms: AtomicU64,
    drained: Notify,
}

impl Leases {
    /// Takes no new leases from now on. Idempotent.
    pub(crate) fn fence(&self) {
        let before = self.count.fetch_or(FENCED, Ordering::AcqRel);
        if before & !FENCED == 0 {
            self.drained.notify_waiters();
        }
    }

    /// Fences if there is no lease and there was none since `since_ms` (the driver's clock). `Err`: when it was last
    /// used, or `None` while it is in use.
    pub(crate) fn fence_if_unused(&self, since_ms: u64) -> Result<(), Option<u64>> {
        let last = self.last_use_ms.load(Ordering::Acquire);
        if last >= since_ms && last > 0 {
            return Err(Some(last));
        }
        match self
            .count
            .compare_exchange(0, FENCED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Ok(()),
            Err(FENCED) => Ok(()),
            Err(_held) => Err(None),
        }
    }

    /// Notes that a lease ended at this time.
    pub(crate) fn used(&self, now_ms: u64) {
        self.last_use_ms.store(now_ms, Ordering::Release);
    }

    /// Leases held now.
    pub(crate) fn held(&self) -> usize {
        self.count.load(Ordering::Acquire) & !FENCED
    }

    /// Resolves when the generation is fenced and its last lease has gone. Level-triggered, cancel-safe.
    pub(crate) async fn drained(&self) {
        loop {
            let notified = self.drained.notified();
            tokio::pin!(notified);
            // Register before looking, so that a release in between is not missed.
            notified.as_mut().enable();
            if self.count.load(Ordering::Acquire) == FENCED {
                return;
            }
            notified.await;
        }
    }

    fn take(&self) -> bool {
        self.count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count & FENCED == 0).then_some(count + 1)
            })
            .is_ok()
    }

    fn release(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == FENCED + 1 {
            self.drained.notify_waiters();
        }
    }
}

/// One call's hold on one generation.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Runtime>);

impl Lease {
    /// Leases the generation, unless it is fenced.
    pub(crate) fn take(runtime: &Arc<Runtime>) -> Option<Self> {
        runtime.leases.take().then(|| Self(Arc::clone(runtime)))
    }

    /// The generation held.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.leases.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn law_4_a_fence_turns_new_leases_away_and_the_last_one_out_says_so() {
        let leases = Leases::default();
        assert!(leases.take());
        leases.fence();
        assert!(!leases.take());
        assert_eq!(leases.held(), 1);
        let waiting =
            tokio::time::timeout(std::time::Duration::from_secs(1), leases.drained()).await;
        assert!(waiting.is_err(), "one lease is still held");
        leases.release();
        leases.drained().await;
        leases.fence();
        leases.drained().await;
    }
}
