//! How many calls may be at a server at the same time: a semaphore whose size can change while it is in use.
//!
//! Who is in stays in. When it shrinks, the next who leave take the difference with them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The limit of one server, shared by all of its connections.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Semaphore,
    /// Written by the driver only.
    size: AtomicUsize,
    /// Places that are gone as soon as somebody leaves them.
    owed: AtomicUsize,
}

/// A place. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    /// Taken out on drop only.
    permit: Option<SemaphorePermit<'a>>,
    owed: &'a AtomicUsize,
}

impl Admission {
    pub(crate) fn new(size: usize) -> Self {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Semaphore::new(size),
            size: AtomicUsize::new(size),
            owed: AtomicUsize::new(0),
        }
    }

    /// For the driver, which is the only one that does it: there are so many places from now on.
    pub(crate) fn resize(&self, size: usize) {
        let size = size.clamp(1, Semaphore::MAX_PERMITS);
        let before = self.size.swap(size, Ordering::AcqRel);
        if size < before {
            let gone = self.places.forget_permits(before - size);
            self.owed.fetch_add(before - size - gone, Ordering::AcqRel);
        }
        let mut more = size.saturating_sub(before);
        while more > 0 && take_one(&self.owed) {
            more -= 1;
        }
        self.places.add_permits(more);
    }

    /// A place, if there is one free now.
    pub(crate) fn try_acquire(&self) -> Option<Permit<'_>> {
        self.places.try_acquire().ok().map(|permit| self.of(permit))
    }

    /// A place, first come, first served; `None` when there will be none any more. Cancel-safe.
    pub(crate) async fn acquire(&self) -> Option<Permit<'_>> {
        let permit = self.places.acquire().await.ok()?;
        Some(self.of(permit))
    }

    /// Nobody gets in any more; who is in stays in.
    pub(crate) fn close(&self) {
        self.places.close();
    }

    fn of<'a>(&'a self, permit: SemaphorePermit<'a>) -> Permit<'a> {
        Permit {
            permit: Some(permit),
            owed: &self.owed,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && take_one(self.owed)
        {
            permit.forget();
        }
    }
}

fn take_one(owed: &AtomicUsize) -> bool {
    let less = |owed: usize| owed.checked_sub(1);
    owed.fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(admission: &Admission) -> usize {
        let mut held = Vec::new();
        while let Some(permit) = admission.try_acquire() {
            held.push(permit);
        }
        held.len()
    }

    #[test]
    fn f214_a_limit_changes_while_calls_are_in() {
        let admission = Admission::new(4);
        let held: Vec<_> = (0..3).filter_map(|_| admission.try_acquire()).collect();
        admission.resize(2);
        assert!(admission.try_acquire().is_none(), "three are in already");
        drop(held);
        assert_eq!(free(&admission), 2);
        let held = (admission.try_acquire(), admission.try_acquire());
        admission.resize(1);
        admission.resize(5);
        assert_eq!(free(&admission), 3, "what was owed is not owed any more");
        drop(held);
        assert_eq!(free(&admission), 5);
        admission.resize(0);
        assert_eq!(free(&admission), 1, "at least one call gets through");
    }
}
