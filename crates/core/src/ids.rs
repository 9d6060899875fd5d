//! The two numbers by which everything else is named.

use std::fmt;

/// The permanent place of one (server, scope). Given out by the driver, never reused within one fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// Grows with every open in a slot and is never reused (law 3). Zero means that nothing was ever opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// Nothing was opened yet.
    pub const NONE: Generation = Generation(0);

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Generation {
        // Saturation is unreachable in practice: at one open per millisecond it takes 584 million years.
        Generation(self.0.saturating_add(1))
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}", self.0)
    }
}
