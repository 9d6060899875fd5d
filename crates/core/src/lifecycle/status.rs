//! What a lifecycle tells people and programs about itself.

use crate::failure::Failure;
use crate::ids::Generation;
use crate::lifecycle::effect::StopStep;
use crate::lifecycle::input::Phase;
use crate::time::Time;

/// A snapshot of one lifecycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// The state, in one word.
    pub state: StateWord,
    /// The generation the state is about; the newest one in states that are about none.
    pub generation: Generation,
    /// Since when this state word and generation hold.
    pub since: Time,
    /// Where the open stands, while connecting.
    pub phase: Option<Phase>,
    /// Where the stop stands, while draining.
    pub step: Option<StopStep>,
    /// Number of the running or coming attempt since the last proof of health; 1 is the first.
    pub attempt: u32,
    /// Failures charged since the last proof of health.
    pub charges: u32,
    /// The last failure that has not been cured by a new connection.
    pub cause: Option<Failure>,
    /// What a human can do about the cause.
    pub hint: Option<&'static str>,
    /// The next thing the clock will do to this lifecycle, and why.
    pub next: Option<(Time, Why)>,
    /// When the next open is due, where that is known.
    pub next_attempt: Option<Time>,
    /// Whether the connected generation has proven its health.
    pub proven: bool,
    /// What is true besides the state.
    pub marks: Marks,
    /// Opens begun since creation.
    pub opens: u64,
    /// Faults raised while stopping a generation: never charged, never a cause (law 4).
    pub cleanup_faults: u64,
    /// The last of them, attached for whoever looks for it (S-15).
    pub cleanup_fault: Option<Failure>,
    /// Messages of generations that were no longer known. Filled in by the fleet.
    pub stale: u64,
}

/// What is true besides the state: told to people, never decided upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Connected, but probes are being missed or the planned replacement cannot be opened.
    pub degraded: bool,
    /// Its last end came together with that of other servers, and nothing is proven since: look for a common cause (F77).
    pub died_together: bool,
    /// A listing is running. The lifecycle knows nothing of listings: whoever runs them fills this in.
    pub refreshing: bool,
    /// The generation that is being opened to replace the connected one.
    pub successor: Option<Generation>,
    /// The newest of the old generations that are being stopped in the background.
    pub retiring: Option<Generation>,
}

/// The states, without what they carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateWord {
    /// Switched off, or shut down.
    Disabled,
    /// Enabled, and waiting for somebody to want it.
    Idle,
    /// A generation is being opened.
    Connecting,
    /// A generation serves calls.
    Connected,
    /// A generation is on its way out, and nothing else happens before it is gone.
    Draining,
    /// Waiting before the next attempt.
    Backoff,
    /// Out of attempts, or in need of a human. Revivable.
    Parked,
}

impl StateWord {
    /// All of them, in the order of the table.
    pub const ALL: [StateWord; 7] = [
        StateWord::Disabled,
        StateWord::Idle,
        StateWord::Connecting,
        StateWord::Connected,
        StateWord::Draining,
        StateWord::Backoff,
        StateWord::Parked,
    ];

    /// A stable word for logs, metrics and the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            StateWord::Disabled => "disabled",
            StateWord::Idle => "idle",
            StateWord::Connecting => "connecting",
            StateWord::Connected => "connected",
            StateWord::Draining => "draining",
            StateWord::Backoff => "backoff",
            StateWord::Parked => "parked",
        }
    }
}

impl StateWord {
    /// What the state means, in one sentence for the generated table.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            StateWord::Disabled => {
                "Switched off (or shut down): it owns nothing, wants nothing, and is not published."
            }
            StateWord::Idle => "Enabled and resting: the server is opened when somebody wants it.",
            StateWord::Connecting => {
                "A generation is being opened: queued, then spawn, greet, list."
            }
            StateWord::Connected => "A generation takes calls and its catalog is published.",
            StateWord::Draining => {
                "A generation is on its way out: drain, close, terminate, kill. Nothing else happens before it is gone."
            }
            StateWord::Backoff => "Nothing exists; the next attempt has its time.",
            StateWord::Parked => {
                "Out of attempts, or in need of a human. Not dead: it can be revived."
            }
        }
    }

    /// What the state carries, for the generated table.
    #[must_use]
    pub const fn carries(self) -> &'static str {
        match self {
            StateWord::Disabled => "who switched it off",
            StateWord::Idle => "nothing",
            StateWord::Connecting => {
                "generation, mode (fresh, renewal), phase, end of the phase, end of all phases, whether a cure arrived \
                 meanwhile"
            }
            StateWord::Connected => {
                "generation, when it will count as stable, where probing stands, when it counts as unused, its successor"
            }
            StateWord::Draining => {
                "generation, step, deadline of the step, what comes next and why"
            }
            StateWord::Backoff => "when the next open is due, its mode, the failure",
            StateWord::Parked => {
                "the failure, time of the self-probe, time before which calls change nothing"
            }
        }
    }
}

impl std::fmt::Display for StateWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a lifecycle wants to be woken: every deadline has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Spawning takes too long.
    SpawnDeadline,
    /// Greeting takes too long.
    GreetDeadline,
    /// Listing takes too long.
    ListDeadline,
    /// Connecting as a whole takes too long.
    ConnectDeadline,
    /// Running calls were given time to finish; it is over.
    DrainDeadline,
    /// Closing takes too long: terminate.
    CloseDeadline,
    /// Terminating takes too long: kill.
    TerminateDeadline,
    /// Something survived the kill: kill again.
    KillDeadline,
    /// Time for the next attempt.
    Retry,
    /// Time for the self-probe of a parked server.
    ParkedProbe,
    /// The connection will have lasted long enough to be proven healthy.
    Stable,
    /// The link was quiet for long: probe it.
    KeepaliveIdle,
    /// The link may have died unnoticed: probe it.
    SuspicionProbe,
    /// The probe is overdue.
    ProbeDeadline,
    /// Nobody used the server for long: ask whether it may be stopped.
    IdleLimit,
    /// Time for the next attempt to open the replacement.
    SuccessorRetry,
    /// The fleet's own: time to tell which servers died together.
    DiedTogether,
}

impl Why {
    /// A stable word for logs and the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Why::SpawnDeadline => "spawn-deadline",
            Why::GreetDeadline => "greet-deadline",
            Why::ListDeadline => "list-deadline",
            Why::ConnectDeadline => "connect-deadline",
            Why::DrainDeadline => "drain-deadline",
            Why::CloseDeadline => "close-deadline",
            Why::TerminateDeadline => "terminate-deadline",
            Why::KillDeadline => "kill-deadline",
            Why::Retry => "retry",
            Why::ParkedProbe => "parked-probe",
            Why::Stable => "stable",
            Why::KeepaliveIdle => "keepalive-idle",
            Why::SuspicionProbe => "suspicion-probe",
            Why::ProbeDeadline => "probe-deadline",
            Why::IdleLimit => "idle-limit",
            Why::SuccessorRetry => "successor-retry",
            Why::DiedTogether => "died-together",
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}
