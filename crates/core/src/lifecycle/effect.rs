//! Everything a lifecycle can ask its driver to do.
//!
//! Effects are performed in the order given. Performing one never waits for its outcome: outcomes come back as inputs.

use crate::event::Transition;
use crate::failure::Failure;
use crate::ids::Generation;
use crate::lifecycle::input::OpenMode;
use crate::time::Time;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Ask the start gate to let this open through. The fleet consumes it and answers with `Input::Granted`.
    RequestOpen {
        /// New, never used before.
        generation: Generation,
        /// How.
        mode: OpenMode,
    },
    /// Begin the work of opening now. From here on `Input::Gone` is owed for this generation.
    Open {
        /// The one that was granted.
        generation: Generation,
        /// How.
        mode: OpenMode,
    },
    /// This generation takes leases from now on; a former one stops doing so in the same instant.
    Accept {
        /// The opened one.
        generation: Generation,
    },
    /// This generation takes no new leases. Idempotent.
    Fence {
        /// The one on its way out.
        generation: Generation,
    },
    /// Resolve every lease of the generation at once with this cause.
    Fail {
        /// The dead one.
        generation: Generation,
        /// What to tell the calls.
        failure: Failure,
    },
    /// One step of a stop. Its outcome is told by `Drained` and `Gone`; the lifecycle escalates by its own clock.
    Stop {
        /// The one to stop.
        generation: Generation,
        /// Which step.
        how: StopStep,
    },
    /// The staged catalog of this generation becomes the slot's catalog.
    Publish {
        /// The opened one.
        generation: Generation,
    },
    /// The slot is disabled: unpublish it.
    Retract,
    /// Probe the connection, unless there was inbound traffic at or after `since`: then answer `Input::Traffic` instead.
    /// Otherwise answer with `Proof(ProbeAnswered)` or `ProbeMissed`.
    Probe {
        /// The quiet one.
        generation: Generation,
        /// Traffic from here on makes the probe unnecessary.
        since: Time,
    },
    /// Fence the generation if, and only if, it has no lease and no call since `since`, atomically with respect to new
    /// leases. Answer `Input::Unused` if so, otherwise `Input::Traffic` (with the current time while a call runs).
    FenceIfUnused {
        /// The seemingly idle one.
        generation: Generation,
        /// A call from here on means that it is in use.
        since: Time,
    },
    /// A generation on its way out reported a fault. For the record only: log it below warning level and count it apart
    /// from failures (law 4, S-16).
    CleanupFault {
        /// The one that is being stopped.
        generation: Generation,
        /// What it reported.
        failure: Failure,
    },
    /// The state changed: exactly one per change. Log line, journal entry, event and counter are made from it.
    Changed(Transition),
}

/// The steps of a stop, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopStep {
    /// Let running calls finish; `Input::Drained` tells when they have.
    Drain,
    /// Close stdin and end the streams; over HTTP, delete the session.
    Close,
    /// SIGTERM to the group.
    Terminate,
    /// SIGKILL to the group, and sweep what is left. Over HTTP: end every task and socket.
    Kill,
}

impl StopStep {
    /// A stable word for logs and the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            StopStep::Drain => "drain",
            StopStep::Close => "close",
            StopStep::Terminate => "terminate",
            StopStep::Kill => "kill",
        }
    }
}

impl Effect {
    /// A stable word for logs and the generated state table.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Effect::RequestOpen { .. } => "request open",
            Effect::Open { .. } => "open",
            Effect::Accept { .. } => "accept",
            Effect::Fence { .. } => "fence",
            Effect::Fail { .. } => "fail",
            Effect::Stop { .. } => "stop",
            Effect::Publish { .. } => "publish",
            Effect::Retract => "retract",
            Effect::Probe { .. } => "probe",
            Effect::FenceIfUnused { .. } => "fence if unused",
            Effect::CleanupFault { .. } => "cleanup fault",
            Effect::Changed(_) => "changed",
        }
    }
}

/// The caller's buffer into which a step pushes its effects. Reuse it: drain it after every step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "effects that are not performed are decisions that never happen"]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// An empty buffer.
    pub const fn new() -> Effects {
        Effects(Vec::new())
    }

    /// Appends one effect.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Takes everything out, in order, and keeps the allocation.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.0.drain(..)
    }

    /// Looks without taking.
    pub fn iter(&self) -> std::slice::Iter<'_, Effect> {
        self.0.iter()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Effects {
    type Item = &'a Effect;
    type IntoIter = std::slice::Iter<'a, Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
