//! Everything that can happen to a lifecycle.
//!
//! Messages from a runtime carry their generation; one whose generation the lifecycle no longer knows changes nothing
//! (law 3). Messages from people and from config carry none.

use crate::failure::Failure;
use crate::ids::Generation;
use crate::time::Time;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Given once, after creation: eager servers open, lazy ones go to `Idle`, disabled ones stay.
    Start,
    /// Operator. The only way out of `Disabled`. Idempotent.
    Enable,
    /// Operator. Prompt and final: in the same step the slot is fenced and retracted (law 5).
    Disable,
    /// Operator. Works from every state except `Disabled`; forgets earlier failures.
    Restart,
    /// The config changed under the same slot; the policy passed in is the new one. A planned replacement.
    Replace,
    /// A call waits at the edge. `Idle` starts; `Parked` makes at most one attempt per interval; ignored elsewhere.
    Wanted,
    /// Something changed that may cure a failure.
    Poke(Poke),
    /// The machine slept. Deadlines begin anew, what is due is spread, and what the sleep broke is not charged (law 12).
    /// Nothing else happens in this step.
    Woke {
        /// The part of the sleep that the clock of the steps did not count; zero where it went on.
        asleep_ms: u64,
    },
    /// Other servers died at the same time: do not come back in the same instant (F77).
    Stagger,
    /// Nothing opens ever again. `impatient` skips the grace.
    Shutdown {
        /// Kill at once instead of draining and closing.
        impatient: bool,
    },
    /// The start gate let this open through; the connect deadlines count from here.
    Granted {
        /// The one that was requested.
        generation: Generation,
    },
    /// The open made progress: `Spawn`, then `Greet`, then `List`. Only forward moves count.
    Phase {
        /// The connecting one.
        generation: Generation,
        /// The phase that begins.
        phase: Phase,
    },
    /// Output on stderr while connecting: extends the phase deadline, never the total (F4).
    Life {
        /// The connecting one.
        generation: Generation,
    },
    /// Greeted and listed completely.
    Opened {
        /// The connecting one.
        generation: Generation,
    },
    /// The work of the open ended without success. A runtime may or may not exist: it is stopped until `Gone` says so.
    OpenFailed {
        /// The connecting one.
        generation: Generation,
        /// Why.
        failure: Failure,
    },
    /// A connected runtime died: process exit, end of stream, fatal transport error.
    Exited {
        /// The one that died.
        generation: Generation,
        /// Why.
        failure: Failure,
    },
    /// The server no longer knows the session (law 26).
    SessionLost {
        /// The one whose session is gone.
        generation: Generation,
    },
    /// The server announced a planned reconnect (S-18).
    ServerClosing {
        /// The one that is about to go.
        generation: Generation,
    },
    /// The generation is fenced and its last lease has ended.
    Drained {
        /// The draining one.
        generation: Generation,
    },
    /// Nothing of the generation exists any more: process group empty and reaped, sockets and tasks ended. Sent exactly
    /// once for every generation for which `Effect::Open` was emitted.
    Gone {
        /// The one that ceased to exist.
        generation: Generation,
    },
    /// Proof of health (law 9).
    Proof {
        /// The one that proved itself.
        generation: Generation,
        /// How.
        proof: Proof,
    },
    /// Answer to `Effect::Probe` or `Effect::FenceIfUnused`: not needed, there was traffic (or a call) at `at`.
    Traffic {
        /// The busy one.
        generation: Generation,
        /// When traffic was last seen.
        at: Time,
    },
    /// A probe failed, or was not answered within the policy's timeout, and nothing else came in meanwhile.
    ProbeMissed {
        /// The silent one.
        generation: Generation,
    },
    /// A call timed out: probe now (law 15).
    Suspect {
        /// The suspected one.
        generation: Generation,
    },
    /// Answer to `Effect::FenceIfUnused`: it had no lease and was not used since, and it is fenced now.
    Unused {
        /// The idle one.
        generation: Generation,
    },
    /// Time passed. Spurious ones are harmless.
    Timeout,
}

/// What may have cured a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Poke {
    /// New credentials were stored.
    Credentials,
    /// The machine's network changed.
    Network,
    /// The policy or the environment of the server changed without needing a replacement.
    Config,
}

/// Why a connection is known to be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// A call was answered, with a result or with an error (law 15).
    ServedCall,
    /// A probe was answered; "unsupported" is an answer.
    ProbeAnswered,
}

/// Where an open stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Waiting for the start gate.
    Queued,
    /// Creating the process or reaching the endpoint.
    Spawn,
    /// Discovery or handshake.
    Greet,
    /// Listing everything completely.
    List,
}

/// How a generation is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenMode {
    /// From nothing.
    Fresh,
    /// The server is known and only its session was lost: greet again, restore what was subscribed.
    Renewal,
}

impl Phase {
    /// A stable word for logs and the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Queued => "queued",
            Phase::Spawn => "spawn",
            Phase::Greet => "greet",
            Phase::List => "list",
        }
    }
}

impl Input {
    /// The generation this message comes from or is about, if it is about one.
    #[must_use]
    pub const fn generation(&self) -> Option<Generation> {
        match *self {
            Input::Granted { generation }
            | Input::Phase { generation, .. }
            | Input::Life { generation }
            | Input::Opened { generation }
            | Input::OpenFailed { generation, .. }
            | Input::Exited { generation, .. }
            | Input::SessionLost { generation }
            | Input::ServerClosing { generation }
            | Input::Drained { generation }
            | Input::Gone { generation }
            | Input::Proof { generation, .. }
            | Input::Traffic { generation, .. }
            | Input::ProbeMissed { generation }
            | Input::Suspect { generation }
            | Input::Unused { generation } => Some(generation),
            Input::Start
            | Input::Enable
            | Input::Disable
            | Input::Restart
            | Input::Replace
            | Input::Wanted
            | Input::Poke(_)
            | Input::Woke { .. }
            | Input::Stagger
            | Input::Shutdown { .. }
            | Input::Timeout => None,
        }
    }

    /// A stable word for logs and the generated state table.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Input::Start => "start",
            Input::Enable => "enable",
            Input::Disable => "disable",
            Input::Restart => "restart",
            Input::Replace => "replace",
            Input::Wanted => "wanted",
            Input::Poke(Poke::Credentials) => "poke (credentials)",
            Input::Poke(Poke::Network) => "poke (network)",
            Input::Poke(Poke::Config) => "poke (config)",
            Input::Woke { .. } => "woke",
            Input::Stagger => "stagger",
            Input::Shutdown { .. } => "shutdown",
            Input::Granted { .. } => "granted",
            Input::Phase { .. } => "phase",
            Input::Life { .. } => "life",
            Input::Opened { .. } => "opened",
            Input::OpenFailed { .. } => "open failed",
            Input::Exited { .. } => "exited",
            Input::SessionLost { .. } => "session lost",
            Input::ServerClosing { .. } => "server closing",
            Input::Drained { .. } => "drained",
            Input::Gone { .. } => "gone",
            Input::Proof { .. } => "proof",
            Input::Traffic { .. } => "traffic",
            Input::ProbeMissed { .. } => "probe missed",
            Input::Suspect { .. } => "suspect",
            Input::Unused { .. } => "unused",
            Input::Timeout => "timeout",
        }
    }
}
