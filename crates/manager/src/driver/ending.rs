//! A shutdown under way: how long it may take in all, and who had to be told twice (law 6).
//!
//! Each server escalates by its own clock in the core; the limits here are for all of them together.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_core::ids::SlotId;
use serde::Serialize;
use tokio::time::Instant;

/// How long before the end of the time what is left is killed, in milliseconds: a kill takes its moment too. A short
/// limit gives half of itself.
const KILL_RESERVE_MS: u64 = 1_000;

/// How a shutdown went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Servers that did not end by themselves: their process group was killed, or their connection was cut. By name.
    pub killed: Vec<String>,
    /// Servers of which something may still exist, because not even a kill ended it within the time limit (a process in
    /// uninterruptible sleep). By name; normally empty.
    pub left: Vec<String>,
    /// Calls that were running when the shutdown began and were allowed to finish.
    pub calls_finished: usize,
    /// Calls that were running and were cut because their drain time was over.
    pub calls_cut: usize,
}

/// The account of a shutdown under way.
pub(super) struct Ending {
    kill_at: Instant,
    /// The kill is ordered: nothing is left to wait for but the end of the time.
    hurried: bool,
    give_up_at: Instant,
    killed: BTreeSet<SlotId>,
    calls_in_flight: usize,
    calls_cut: usize,
}

/// What the clock says to a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// The grace is over: kill what is left.
    Kill,
    /// The time is over: leave what cannot be ended.
    GiveUp,
}

impl Ending {
    /// Begins now and ends within `total_ms`, with so many calls running.
    pub(super) fn begin(total_ms: u64, calls_in_flight: usize) -> Self {
        let now = Instant::now();
        let reserve_ms = KILL_RESERVE_MS.min(total_ms / 2);
        Self {
            kill_at: now + Duration::from_millis(total_ms - reserve_ms),
            hurried: false,
            give_up_at: now + Duration::from_millis(total_ms),
            killed: BTreeSet::new(),
            calls_in_flight,
            calls_cut: 0,
        }
    }

    /// Everything is being killed from now on; only the reserve is left of the time.
    pub(super) fn hurry(&mut self) {
        if !self.hurried {
            self.hurried = true;
            let reserve = self.give_up_at - self.kill_at;
            self.give_up_at = self.give_up_at.min(Instant::now() + reserve);
        }
    }

    /// When to ask again what is due.
    pub(super) fn deadline(&self) -> Instant {
        if self.hurried {
            self.give_up_at
        } else {
            self.kill_at
        }
    }

    /// What is due now.
    pub(super) fn due(&self) -> Due {
        if Instant::now() < self.deadline() {
            Due::Nothing
        } else if self.hurried {
            Due::GiveUp
        } else {
            Due::Kill
        }
    }

    /// A server had to be killed.
    pub(super) fn killed(&mut self, slot: SlotId) {
        self.killed.insert(slot);
    }

    /// So many calls were cut.
    pub(super) fn cut(&mut self, calls: usize) {
        self.calls_cut += calls;
    }

    /// The report, with the names of the slots.
    pub(super) fn report(
        &self,
        left: impl Iterator<Item = SlotId>,
        name: impl Fn(SlotId) -> Option<String>,
    ) -> ShutdownReport {
        let names = |slots: &mut dyn Iterator<Item = SlotId>| {
            let names: BTreeSet<String> = slots.filter_map(&name).collect();
            names.into_iter().collect()
        };
        ShutdownReport {
            killed: names(&mut self.killed.iter().copied()),
            left: names(&mut { left }),
            calls_finished: self.calls_in_flight.saturating_sub(self.calls_cut),
            calls_cut: self.calls_cut,
        }
    }
}
