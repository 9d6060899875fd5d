//! What is remembered about a server's era, so that only the first start pays for the probe (F33).

use std::sync::Mutex;
use std::sync::PoisonError;

use mainstay_wire::revision::Era;

/// Which era to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EraHint {
    /// Nothing is known: probe.
    Probe,
    /// Known from an earlier connection: try it first, and probe if it turns out wrong.
    Remembered(Era),
    /// Set in the config: nothing else is tried.
    Fixed(Era),
}

/// The era memory of one server. Lives as long as the slot; the store keeps it over restarts.
#[derive(Debug, Default)]
pub(crate) struct EraMemory(Mutex<Option<Era>>);

impl EraMemory {
    /// What to try first.
    pub(crate) fn hint(&self, fixed: Option<Era>) -> EraHint {
        match (fixed, self.get()) {
            (Some(era), _) => EraHint::Fixed(era),
            (None, Some(era)) => EraHint::Remembered(era),
            (None, None) => EraHint::Probe,
        }
    }

    /// The remembered era.
    pub(crate) fn get(&self) -> Option<Era> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an era that worked, or forgets one that did not.
    pub(crate) fn set(&self, era: Option<Era>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = era;
    }
}
