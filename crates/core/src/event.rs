//! The one record of a state change, from which log line, journal entry, status event and counter are made.

use crate::failure::Failure;
use crate::ids::Generation;
use crate::lifecycle::input::Poke;
use crate::lifecycle::status::{StateWord, Why};
use crate::time::Time;

/// One change of (state, generation). A lifecycle emits exactly one per change, and a generation that served leaves
/// `Connected` exactly once (F235, F236).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    /// When.
    pub at: Time,
    /// The state before.
    pub from: StateWord,
    /// The generation the state before was about.
    pub from_generation: Generation,
    /// The state after.
    pub to: StateWord,
    /// The generation the state after is about.
    pub generation: Generation,
    /// What made it change.
    pub cause: Cause,
    /// The failure the new state is in because of: the primary one, never a cleanup fault (S-15).
    pub failure: Option<Failure>,
    /// Failures charged so far without proof of health.
    pub charges: u32,
    /// What the clock will do next.
    pub next: Option<(Time, Why)>,
}

/// What made a state change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The slot was started.
    Started,
    /// Enabled by the operator.
    Enabled,
    /// Disabled by the operator.
    Disabled,
    /// Restarted by the operator.
    Restarted,
    /// The config changed.
    Replaced,
    /// A call wanted it.
    Wanted,
    /// Something changed that may cure the failure.
    Poked(Poke),
    /// The machine woke up.
    Woke,
    /// Other servers died at the same time.
    DiedTogether,
    /// Everything shuts down, or the slot is removed.
    Shutdown,
    /// Greeted and listed.
    Opened,
    /// A failure.
    Failed(Failure),
    /// The session was lost and is being renewed.
    SessionLost,
    /// The server announced that it will close.
    ServerClosing,
    /// Nobody used it for long.
    Unused,
    /// The old generation is gone.
    Gone,
    /// A deadline.
    Deadline(Why),
}

impl Cause {
    /// A stable word for logs, metrics and the API.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Cause::Started => "started",
            Cause::Enabled => "enabled",
            Cause::Disabled => "disabled",
            Cause::Restarted => "restarted",
            Cause::Replaced => "replaced",
            Cause::Wanted => "wanted",
            Cause::Poked(Poke::Credentials) => "new-credentials",
            Cause::Poked(Poke::Network) => "network-changed",
            Cause::Poked(Poke::Config) => "config-changed",
            Cause::Woke => "woke",
            Cause::DiedTogether => "died-together",
            Cause::Shutdown => "shutdown",
            Cause::Opened => "opened",
            Cause::Failed(_) => "failed",
            Cause::SessionLost => "session-lost",
            Cause::ServerClosing => "server-closing",
            Cause::Unused => "unused",
            Cause::Gone => "gone",
            Cause::Deadline(why) => why.word(),
        }
    }
}
