//! Defects planted around the fleet, to show that the histories find them. Production code knows nothing of them.

use mainstay_core::fleet::{Fleet, FleetEffect, FleetInput};
use mainstay_core::ids::SlotId;
use mainstay_core::lifecycle::{Effect, Input, StateWord};
use mainstay_core::policy::Policy;

/// One way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// One attempt too many.
    BudgetOffByOne,
    /// No minimum interval between two opens.
    IntervalForgotten,
    /// Lost sessions are renewed for nothing, however many.
    RenewalsUnbounded,
    /// What the sleep broke is charged.
    SleepCharged,
    /// A server's Retry-After is cut to nothing.
    RetryAfterIgnored,
    /// One open more than the gate allows.
    GateTooWide,
    /// Nobody notices that the machine slept.
    SleepUnnoticed,
    /// A wake-up makes everything that is due fire.
    WakeFires,
    /// What old generations report is blamed on the current one.
    NoiseBlamed,
    /// Proofs of old generations count.
    StaleProofBelieved,
    /// A handshake counts as proof.
    HandshakeProves,
    /// A disabled server is enabled by whoever wants it.
    WantedEnables,
    /// Nobody is told which servers died together.
    TogetherUntold,
    /// A change of state is recorded twice.
    RecordedTwice,
    /// Calls on a dead generation are not told.
    FailForgotten,
    /// A disabled server stays published.
    RetractForgotten,
    /// The clock of parked servers stands still.
    ParkedIsDead,
    /// The clock of servers on their way out stands still.
    DrainWithoutDeadline,
    /// A shutdown is not heard.
    ShutdownUnheard,
}

/// All of them.
pub const ALL: [Defect; 19] = [
    Defect::BudgetOffByOne,
    Defect::IntervalForgotten,
    Defect::RenewalsUnbounded,
    Defect::SleepCharged,
    Defect::RetryAfterIgnored,
    Defect::GateTooWide,
    Defect::SleepUnnoticed,
    Defect::WakeFires,
    Defect::NoiseBlamed,
    Defect::StaleProofBelieved,
    Defect::HandshakeProves,
    Defect::WantedEnables,
    Defect::TogetherUntold,
    Defect::RecordedTwice,
    Defect::FailForgotten,
    Defect::RetractForgotten,
    Defect::ParkedIsDead,
    Defect::DrainWithoutDeadline,
    Defect::ShutdownUnheard,
];

impl Defect {
    /// The policy that the fleet is given.
    pub(super) fn policy(self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        match self {
            Defect::BudgetOffByOne => policy.budget += 1,
            Defect::IntervalForgotten => policy.open_interval_ms = 0,
            Defect::RenewalsUnbounded => policy.renewals.max = u32::MAX,
            Defect::SleepCharged => policy.wake.grace_ms = 0,
            Defect::RetryAfterIgnored => policy.backoff.retry_after_ms_max = 0,
            _ => {}
        }
        policy
    }

    /// What the fleet hears instead of `input`.
    pub(super) fn input(self, fleet: &Fleet, input: FleetInput) -> FleetInput {
        match (self, input) {
            (Defect::SleepUnnoticed, FleetInput::Woke { .. })
            | (Defect::ShutdownUnheard, FleetInput::Shutdown { .. })
            | (Defect::WakeFires, FleetInput::Woke { .. }) => FleetInput::Timeout,
            (_, FleetInput::Slot { slot, input }) => FleetInput::Slot {
                slot,
                input: self.slot_input(fleet, slot, input),
            },
            (_, input) => input,
        }
    }

    fn slot_input(self, fleet: &Fleet, slot: SlotId, input: Input) -> Input {
        let Some(status) = fleet.status(slot) else {
            return input;
        };
        match (self, input) {
            (Defect::NoiseBlamed, Input::Exited { failure, .. }) => Input::Exited {
                generation: status.generation,
                failure,
            },
            (Defect::StaleProofBelieved, Input::Proof { proof, .. }) => Input::Proof {
                generation: status.generation,
                proof,
            },
            (Defect::WantedEnables, Input::Wanted) if status.state == StateWord::Disabled => {
                Input::Enable
            }
            (_, input) => input,
        }
    }

    /// A further input that the defective fleet gives itself.
    pub(super) fn more(self, input: &FleetInput) -> Option<FleetInput> {
        match (self, input) {
            (
                Defect::HandshakeProves,
                FleetInput::Slot {
                    slot,
                    input: Input::Opened { generation },
                },
            ) => Some(FleetInput::Slot {
                slot: *slot,
                input: Input::Proof {
                    generation: *generation,
                    proof: mainstay_core::lifecycle::Proof::ProbeAnswered,
                },
            }),
            _ => None,
        }
    }

    /// How often an effect is seen.
    pub(super) fn copies(self, effect: &FleetEffect) -> usize {
        match (self, effect) {
            (Defect::TogetherUntold, FleetEffect::DiedTogether(_)) => 0,
            (
                Defect::FailForgotten,
                FleetEffect::Slot {
                    effect: Effect::Fail { .. },
                    ..
                },
            )
            | (
                Defect::RetractForgotten,
                FleetEffect::Slot {
                    effect: Effect::Retract,
                    ..
                },
            ) => 0,
            (
                Defect::RecordedTwice,
                FleetEffect::Slot {
                    effect: Effect::Changed(_),
                    ..
                },
            ) => 2,
            _ => 1,
        }
    }

    /// Whether the fleet forgets this deadline.
    pub(super) fn forgets(self, state: StateWord) -> bool {
        matches!(
            (self, state),
            (Defect::ParkedIsDead, StateWord::Parked)
                | (Defect::DrainWithoutDeadline, StateWord::Draining)
        )
    }
}
