//! The states and what they carry: ids, numbers and failures. No handles, no futures.
//!
//! Every variant says who acts on it and how it is left; the generated state table is checked against this code.

use crate::failure::Failure;
use crate::ids::Generation;
use crate::lifecycle::effect::StopStep;
use crate::lifecycle::input::{OpenMode, Phase};
use crate::lifecycle::status::{StateWord, Why};
use crate::time::Time;

/// Where a lifecycle stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Owns nothing, wants nothing, published nowhere. Left by `Enable` only (after a shutdown: never).
    Disabled(DisabledBy),
    /// Owns nothing; its catalog stays published. Left by a call, by `Restart`, or by a config that is no longer lazy.
    Idle,
    /// Owns the generation that is being opened. Left when it opens, fails, or runs into a deadline.
    Connecting(Connecting),
    /// Owns the generation that serves. Left when it dies, loses its session, misses its probes, or is no longer wanted.
    Connected(Connected),
    /// Owns the generation on its way out. Left when that is gone; the clock escalates until then.
    Draining(Draining),
    /// Owns nothing. Left by the clock, or when something changed that may help.
    Backoff(Backoff),
    /// Owns nothing. Left by the operator, by a change that may help, by a call, or by the slow self-probe.
    Parked(Parked),
}

/// Who switched it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DisabledBy {
    /// Nobody: `Input::Start` has not been given yet.
    NotStarted,
    /// The config.
    Config,
    /// The operator.
    Operator,
    /// Shutdown or removal. Final.
    Shutdown,
}

/// A generation that is being opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    /// Which.
    pub generation: Generation,
    /// How.
    pub mode: OpenMode,
    /// `None` while it waits for the start gate: then no runtime exists and no deadline runs, because the gate
    /// guarantees progress.
    pub running: Option<Running>,
}

/// An open that the start gate let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Running {
    /// Where it stands; never `Queued`.
    pub phase: Phase,
    /// End of this phase, if there are no signs of life.
    pub phase_ends: Time,
    /// End of all phases, whatever the signs.
    pub total_ends: Time,
}

/// What `Connecting` carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Connecting {
    /// The generation that is being opened.
    pub opening: Opening,
    /// Credentials or config changed meanwhile: if this attempt fails, the next one starts with a clean slate.
    pub poked: bool,
}

/// What `Connected` carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Connected {
    /// The generation that serves.
    pub generation: Generation,
    /// When it will count as proven just by having lasted; `None` once it is proven.
    pub stable_at: Option<Time>,
    /// Where probing stands.
    pub keepalive: Keepalive,
    /// When to ask whether anybody still uses it.
    pub unused_at: Option<Time>,
    /// Its planned replacement, while there is one.
    pub successor: Option<Successor>,
}

/// Where probing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keepalive {
    /// Nothing to watch; only suspicion leads to a probe.
    Off,
    /// Quiet until `probe_at`.
    Waiting {
        /// When to probe.
        probe_at: Time,
        /// Probes missed in a row.
        misses: u32,
    },
    /// It may have died unnoticed (the machine slept, its network changed): probe, whatever was heard before that.
    Suspected {
        /// When to probe: not all servers at the same time.
        probe_at: Time,
        /// Traffic from here on makes the probe unnecessary.
        since: Time,
    },
    /// A probe is under way.
    Probing {
        /// When the next probe would be due, should this one be reported missed.
        again_at: Time,
        /// When it counts as missed even if nobody reports anything.
        answer_by: Time,
        /// Probes missed in a row before this one.
        misses: u32,
    },
}

/// The planned replacement of a connected generation (never for exclusive servers).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Successor {
    /// It is being opened.
    Opening(Opening),
    /// It could not be opened, or not yet; the old one serves on.
    Waiting {
        /// When to try again; `None` when only a human can help.
        until: Option<Time>,
    },
}

/// A generation on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stopping {
    /// Which.
    pub generation: Generation,
    /// The step that is being waited for.
    pub step: StopStep,
    /// When to escalate.
    pub deadline: Time,
}

/// What `Draining` carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Draining {
    /// The generation on its way out.
    pub stopping: Stopping,
    /// What comes when it is gone.
    pub next: Next,
}

/// What follows a `Draining`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Nothing.
    Disabled(DisabledBy),
    /// Wait for somebody to want it.
    Idle,
    /// Open again as soon as the minimum interval allows.
    Open(OpenMode),
    /// Open again, not before `until`.
    Retry {
        /// When.
        until: Time,
        /// Why not at once.
        failure: Failure,
    },
    /// Park.
    Park {
        /// Why.
        failure: Failure,
        /// The network changed meanwhile: probe as soon as calls may, instead of after the long interval.
        soon: bool,
    },
}

/// What `Backoff` carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// When the next open is due.
    pub until: Time,
    /// How it will be opened.
    pub mode: OpenMode,
    /// Why it waits; `None` when it is only the minimum interval between two opens.
    pub failure: Option<Failure>,
}

/// What `Parked` carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parked {
    /// Why.
    pub failure: Failure,
    /// When it probes itself; `None` when that is switched off or could not help.
    pub probe_at: Option<Time>,
    /// Before this, calls and network changes cause no attempt.
    pub call_not_before: Time,
}

impl State {
    /// The state without what it carries.
    #[must_use]
    pub const fn word(&self) -> StateWord {
        match self {
            State::Disabled(_) => StateWord::Disabled,
            State::Idle => StateWord::Idle,
            State::Connecting(_) => StateWord::Connecting,
            State::Connected(_) => StateWord::Connected,
            State::Draining(_) => StateWord::Draining,
            State::Backoff(_) => StateWord::Backoff,
            State::Parked(_) => StateWord::Parked,
        }
    }

    /// The generation this state is about.
    #[must_use]
    pub const fn generation(&self) -> Option<Generation> {
        match self {
            State::Connecting(Connecting { opening, .. }) => Some(opening.generation),
            State::Connected(connected) => Some(connected.generation),
            State::Draining(draining) => Some(draining.stopping.generation),
            State::Disabled(_) | State::Idle | State::Backoff(_) | State::Parked(_) => None,
        }
    }
}

impl Stopping {
    /// Its deadline, by name.
    pub(super) const fn named_deadline(&self) -> (Time, Why) {
        let why = match self.step {
            StopStep::Drain => Why::DrainDeadline,
            StopStep::Close => Why::CloseDeadline,
            StopStep::Terminate => Why::TerminateDeadline,
            StopStep::Kill => Why::KillDeadline,
        };
        (self.deadline, why)
    }
}

impl Keepalive {
    /// Its deadline, by name.
    pub(super) const fn named_deadline(&self) -> Option<(Time, Why)> {
        match *self {
            Keepalive::Off => None,
            Keepalive::Waiting { probe_at, .. } => Some((probe_at, Why::KeepaliveIdle)),
            Keepalive::Suspected { probe_at, .. } => Some((probe_at, Why::SuspicionProbe)),
            Keepalive::Probing { answer_by, .. } => Some((answer_by, Why::ProbeDeadline)),
        }
    }

    /// Probes missed in a row.
    pub(super) const fn misses(&self) -> u32 {
        match *self {
            Keepalive::Off | Keepalive::Suspected { .. } => 0,
            Keepalive::Waiting { misses, .. } | Keepalive::Probing { misses, .. } => misses,
        }
    }
}
