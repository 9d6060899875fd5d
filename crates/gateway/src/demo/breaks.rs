//! What is done to the demo's servers, and when.

use serde::Serialize;

/// What is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BreakKind {
    /// SIGKILL to the child of Mainstay.
    Kill,
    /// The HTTP server is killed and comes back on its port after a moment, knowing nothing of its sessions.
    Restart,
    /// The process stands still: it keeps its connections and answers nothing.
    Hang,
}

impl BreakKind {
    /// The stable word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Hang => "hang",
        }
    }
}

/// Which of the demo's servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    /// The child of Mainstay.
    Stdio,
    /// The HTTP server with sessions.
    Sessions,
    /// The HTTP server without.
    Stateless,
}

impl Victim {
    /// All of them, in the order of the table.
    pub(super) const ALL: [Victim; 3] = [Victim::Stdio, Victim::Sessions, Victim::Stateless];

    /// The server's name in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Sessions => "sessions",
            Self::Stateless => "stateless",
        }
    }

    /// Its place in the table.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Stdio => 0,
            Self::Sessions => 1,
            Self::Stateless => 2,
        }
    }
}

/// Every break that applies, each server in turn; then from the beginning.
const CYCLE: [(Victim, BreakKind); 6] = [
    (Victim::Stdio, BreakKind::Kill),
    (Victim::Sessions, BreakKind::Restart),
    (Victim::Stateless, BreakKind::Restart),
    (Victim::Stdio, BreakKind::Hang),
    (Victim::Sessions, BreakKind::Hang),
    (Victim::Stateless, BreakKind::Hang),
];

/// The last break comes this long before the end (or a third of the whole), so that the recovery can be seen.
const TAIL_MS: u64 = 4_000;
/// The first break comes after this long, so that one sees it work first.
const WARM_UP_MS: u64 = 2_000;
/// The time between two breaks.
const PACE_MS: std::ops::RangeInclusive<u64> = 2_500..=6_000;

/// When each break begins at the earliest, in milliseconds since the start, for a demo of this length.
pub(super) fn schedule(seconds: u64) -> impl Iterator<Item = (u64, Victim, BreakKind)> {
    let total_ms = seconds * 1_000;
    let first_ms = WARM_UP_MS.min(total_ms / 4);
    let last_ms = total_ms
        .saturating_sub(TAIL_MS.min(total_ms / 3))
        .max(first_ms);
    let pace_ms =
        ((last_ms - first_ms) / CYCLE.len() as u64).clamp(*PACE_MS.start(), *PACE_MS.end());
    (first_ms..=last_ms)
        .step_by(usize::try_from(pace_ms).unwrap_or(usize::MAX))
        .zip(CYCLE.into_iter().cycle())
        .map(|(at_ms, (victim, kind))| (at_ms, victim, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_length_has_every_break() {
        let breaks: Vec<_> = schedule(30).collect();
        assert!(breaks.len() >= CYCLE.len(), "{breaks:?}");
        for planned in CYCLE {
            assert!(
                breaks
                    .iter()
                    .any(|(_, victim, kind)| (*victim, *kind) == planned),
                "{planned:?} is missing"
            );
        }
        assert!(
            breaks.iter().all(|(at_ms, _, _)| *at_ms <= 26_000),
            "{breaks:?}"
        );
    }

    #[test]
    fn a_short_demo_breaks_something_and_a_long_one_goes_on() {
        assert_eq!(schedule(3).count(), 1);
        assert!(schedule(12).count() >= 3);
        assert!(schedule(600).count() > 90);
    }
}
