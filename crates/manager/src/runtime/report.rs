//! The way from a generation to the driver: one bounded queue, and every report carries its generation.

use std::sync::Arc;

use mainstay_core::ids::{Generation, SlotId};
use mainstay_core::lifecycle::input::Input;
use mainstay_core::time::Time;
use tokio::sync::mpsc;

use super::Runtime;
use crate::catalog::Catalog;
use crate::clock::Clock;

/// What a generation tells the driver.
#[derive(Debug)]
pub(crate) enum Report {
    /// Something that the lifecycle decides about.
    Input(Input),
    /// The generation is greeted (and, unless it is a renewal, listed): here is what calls will use.
    Opened {
        /// Which one.
        generation: Generation,
        /// The connection.
        runtime: Arc<Runtime>,
        /// Its complete listing; `None` for a renewal, which lists afterwards.
        catalog: Option<Arc<Catalog>>,
    },
    /// A later complete listing of a connected generation.
    Listed {
        /// Which one.
        generation: Generation,
        /// The listing.
        catalog: Arc<Catalog>,
    },
}

/// A report with its address.
#[derive(Debug)]
pub(crate) struct Addressed {
    /// The slot that it concerns.
    pub(crate) slot: SlotId,
    /// The report.
    pub(crate) report: Report,
}

/// Where one slot's generations send their reports.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    slot: SlotId,
    inbox: mpsc::Sender<Addressed>,
    clock: Clock,
}

impl Reports {
    /// A sender for one slot.
    pub(crate) fn new(slot: SlotId, inbox: mpsc::Sender<Addressed>, clock: Clock) -> Self {
        Self { slot, inbox, clock }
    }

    /// The driver's time.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Reports, waiting for room. A driver that is gone needs no reports.
    pub(crate) async fn send(&self, report: Report) {
        let _ = self
            .inbox
            .send(Addressed {
                slot: self.slot,
                report,
            })
            .await;
    }

    /// Reports an input, waiting for room.
    pub(crate) async fn input(&self, input: Input) {
        self.send(Report::Input(input)).await;
    }

    /// Reports an input if there is room. For the call path, which must not wait for the driver.
    pub(crate) fn try_send(&self, input: Input) -> bool {
        self.inbox
            .try_send(Addressed {
                slot: self.slot,
                report: Report::Input(input),
            })
            .is_ok()
    }
}
