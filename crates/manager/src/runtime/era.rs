//! What is remembered about a server's era, so that only the first start pays for the probe (F33).
//!
//! The memory is a hint and corrects itself: it ages, an attempt that ended without a word makes it doubtful (F32), and a
//! server that keeps changing its mind is held to one era for a while (F139).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_wire::revision::Era;
use tokio::time::Instant;

/// A memory older than this is not believed without asking: a legacy server may have learned the modern era meanwhile.
pub(crate) const ERA_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Changes of era within [`FLIP_WINDOW`] that are taken as they come. One server changes once, when it is updated.
const FLIPS_MAX: usize = 3;
const FLIP_WINDOW: Duration = Duration::from_secs(10 * 60);

/// How long a server that changed too often is held to the era that it last worked in.
const PIN: Duration = Duration::from_secs(60);

/// Which era to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EraHint {
    /// Nothing is known: probe.
    Probe,
    /// Known from an earlier connection: try it first, and probe if it turns out wrong.
    Remembered(Era),
    /// The server changed its era too often: for now nothing else is tried (F139).
    Pinned(Era),
    /// Set in the config: nothing else is tried.
    Fixed(Era),
}

/// How far an attempt to connect got, as long as nobody said how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// It was greeting.
    Greeting,
    /// It was listing, after a greeting in this era.
    Listing(Era),
}

#[derive(Debug, Default)]
struct Inner {
    /// The era that worked last, and when.
    worked: Option<(Era, Instant)>,
    /// The last era that ever worked; unlike `worked` it is not forgotten, so that flips are counted.
    last: Option<Era>,
    /// An attempt that is under way, or ended without saying how: its generation was dropped in the middle.
    attempt: Option<Attempt>,
    /// When the era changed, newest last. Bounded by `FLIPS_MAX + 1`.
    flips: VecDeque<Instant>,
    pinned_until: Option<Instant>,
}

/// The era memory of one server. Lives as long as the slot; the store keeps it over restarts.
#[derive(Debug, Default)]
pub(crate) struct EraMemory(Mutex<Inner>);

impl EraMemory {
    /// What to try first.
    pub(crate) fn hint(&self, fixed: Option<Era>) -> EraHint {
        if let Some(era) = fixed {
            return EraHint::Fixed(era);
        }
        let now = Instant::now();
        let mut inner = self.lock();
        if let (Some(era), Some(until)) = (inner.last, inner.pinned_until)
            && now < until
        {
            return EraHint::Pinned(era);
        }
        match inner.attempt.take() {
            // The modern handshake went well and the catalog never came: the legacy era once (F32).
            Some(Attempt::Listing(Era::Modern)) => return EraHint::Remembered(Era::Legacy),
            Some(Attempt::Greeting | Attempt::Listing(Era::Legacy)) => return EraHint::Probe,
            None => {}
        }
        match inner.worked {
            Some((era, at)) if now.saturating_duration_since(at) < ERA_AGE_MAX => {
                EraHint::Remembered(era)
            }
            Some(_) | None => EraHint::Probe,
        }
    }

    /// The remembered era.
    pub(crate) fn get(&self) -> Option<Era> {
        self.lock().worked.map(|(era, _)| era)
    }

    /// Remembers an era that worked, or forgets one that did not.
    pub(crate) fn set(&self, era: Option<Era>) {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.attempt = None;
        inner.worked = era.map(|era| (era, now));
        let Some(era) = era else { return };
        if inner.last.replace(era).is_some_and(|last| last != era) {
            inner.flips.push_back(now);
            while inner
                .flips
                .front()
                .is_some_and(|at| now.saturating_duration_since(*at) > FLIP_WINDOW)
            {
                inner.flips.pop_front();
            }
            if inner.flips.len() > FLIPS_MAX {
                inner.flips.pop_front();
                inner.pinned_until = Some(now + PIN);
            }
        }
    }

    /// An attempt begins to greet.
    pub(crate) fn greeting(&self) {
        self.lock().attempt = Some(Attempt::Greeting);
    }

    /// An attempt was greeted in this era and begins to list.
    pub(crate) fn listing(&self, era: Era) {
        self.lock().attempt = Some(Attempt::Listing(era));
    }

    /// An attempt ended, and the way it ended says nothing about the era.
    pub(crate) fn no_verdict(&self) {
        self.lock().attempt = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn f33_the_era_is_remembered_for_a_day_and_then_asked_for_again() {
        let memory = EraMemory::default();
        assert_eq!(memory.hint(None), EraHint::Probe);
        memory.set(Some(Era::Legacy));
        tokio::time::advance(ERA_AGE_MAX - Duration::from_secs(1)).await;
        assert_eq!(memory.hint(None), EraHint::Remembered(Era::Legacy));
        assert_eq!(memory.hint(Some(Era::Modern)), EraHint::Fixed(Era::Modern));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(memory.hint(None), EraHint::Probe);
        memory.set(None);
        assert_eq!((memory.get(), memory.hint(None)), (None, EraHint::Probe));
    }

    #[tokio::test(start_paused = true)]
    async fn f32_an_attempt_that_ended_without_a_word_makes_the_memory_doubtful_once() {
        let memory = EraMemory::default();
        memory.set(Some(Era::Modern));
        memory.greeting();
        memory.listing(Era::Modern);
        // Its deadline passed, and its generation was dropped.
        assert_eq!(memory.hint(None), EraHint::Remembered(Era::Legacy));
        assert_eq!(memory.hint(None), EraHint::Remembered(Era::Modern));
        memory.set(Some(Era::Legacy));
        memory.greeting();
        assert_eq!(memory.hint(None), EraHint::Probe, "initialize hung");
        memory.greeting();
        memory.no_verdict();
        assert_eq!(memory.hint(None), EraHint::Remembered(Era::Legacy));
    }

    #[tokio::test(start_paused = true)]
    async fn f139_flips_are_bounded_a_fleet_of_both_eras_is_held_to_one() {
        let memory = EraMemory::default();
        let mut flips = 0;
        let mut last = None;
        // A balancer that sends every other connection to a replica of the other era, for an hour, once a second.
        for second in 0..3_600 {
            let era = match memory.hint(None) {
                EraHint::Pinned(era) => era,
                EraHint::Probe | EraHint::Remembered(_) | EraHint::Fixed(_) if second % 2 == 0 => {
                    Era::Modern
                }
                EraHint::Probe | EraHint::Remembered(_) | EraHint::Fixed(_) => Era::Legacy,
            };
            memory.set(Some(era));
            flips += u32::from(last.replace(era).is_some_and(|last| last != era));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(flips > 3, "it follows a server that changes");
        assert!(flips <= 70, "{flips} flips in an hour");
        // A server that has changed once is simply followed.
        let memory = EraMemory::default();
        memory.set(Some(Era::Legacy));
        memory.set(Some(Era::Modern));
        assert_eq!(memory.hint(None), EraHint::Remembered(Era::Modern));
    }
}
