//! How a call can end without an answer. What may be sent again follows from the type, never from a message text.

use std::fmt;
use std::time::Duration;

use mainstay_core::failure::{Failure, FailureKind};

/// A call that was not answered (law 16). Every call ends answered, or in exactly one of these.
///
/// Only [`CallError::Refused`] and [`CallError::Rejected`] are safe to send again without knowing what the tool does.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The request never left Mainstay.
    #[error("refused, nothing was sent: {0}")]
    Refused(#[source] Refusal),
    /// The request reached the server's door, and the server provably did not run it.
    #[error("rejected, the server did not run it: {0}")]
    Rejected(#[source] Lost),
    /// The request was sent and no answer came: it may have run.
    #[error("outcome unknown, the request was sent and may have run: {0}")]
    Unknown(#[source] Lost),
}

impl CallError {
    /// The outcome class as one stable word: `refused`, `rejected` or `unknown`.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Rejected(_) => "rejected",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Why a call was refused before anything was sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// No server of that name is configured.
    #[error("no server is named `{0}`")]
    NoSuchServer(Box<str>),
    /// The server was taken out of the config while somebody still held its handle. A server that comes back under its name
    /// is found by the same handle.
    #[error("server `{server}` is not in the configuration any more")]
    Removed {
        /// The server's name.
        server: Box<str>,
    },
    /// An operator switched the server off.
    #[error("server `{server}` is disabled; enable it with `mainstay enable {server}`")]
    Disabled {
        /// The server's name.
        server: Box<str>,
    },
    /// The server is parked: it failed too often, or needs a human.
    #[error("{0}")]
    Parked(Box<ParkedRefusal>),
    /// The server did not become available within the caller's patience.
    #[error("server `{server}` is {state} and was not ready within {waited_ms} ms{}{}", cause_suffix(.cause), attempt_suffix(.next_attempt_in))]
    NotReady {
        /// The server's name.
        server: Box<str>,
        /// The state it was in when patience ran out.
        state: &'static str,
        /// How long the call waited.
        waited_ms: u64,
        /// The last failure, if there is one.
        cause: Option<Failure>,
        /// When the next attempt is due, if that is known.
        next_attempt_in: Option<Duration>,
    },
    /// The server's next attempt comes later than the caller would wait: there is no point in waiting (F18).
    #[error("server `{server}` is waiting before its next attempt, which comes in {}{}", in_words(*.next_attempt_in), cause_suffix(.cause))]
    TooSoon {
        /// The server's name.
        server: Box<str>,
        /// Why the last attempt failed.
        cause: Option<Failure>,
        /// When the next attempt is due.
        next_attempt_in: Duration,
    },
    /// Too many calls wait for the server already (F152).
    #[error(
        "{limit} calls already wait for server `{server}`, which is {state} (setting `waiting`)"
    )]
    TooManyWaiting {
        /// The server's name.
        server: Box<str>,
        /// The state it is in.
        state: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The tool is not what the caller saw any more, and the server's `onToolChange` is `refuse` (law 20).
    #[error(
        "the definition of tool `{tool}` of `{server}` has changed since the caller saw it; list the tools again and call what you find (setting `onToolChange`)"
    )]
    ToolChanged {
        /// The server's name.
        server: Box<str>,
        /// The tool's name.
        tool: Box<str>,
    },
    /// The tool is not what an operator approved (`tools.pin`), and nobody approved what it is now.
    #[error(
        "tool `{tool}` of `{server}` is held back: {why}; look at it with `mainstay tools diff {server}`, and approve it with `mainstay tools approve {server} {tool}`"
    )]
    ToolHeld {
        /// The server's name.
        server: Box<str>,
        /// The tool's name, as the caller knows it.
        tool: Box<str>,
        /// Why.
        why: &'static str,
    },
    /// The server's config entry leaves this tool out.
    #[error("tool `{tool}` of `{server}` is left out by `tools` in the server's config entry")]
    NotOffered {
        /// The server's name.
        server: Box<str>,
        /// The tool's name.
        tool: Box<str>,
    },
    /// Too many calls are in flight to this server.
    #[error("server `{server}` already has {limit} calls in flight (setting `concurrency`)")]
    TooManyInFlight {
        /// The server's name.
        server: Box<str>,
        /// The limit.
        limit: usize,
    },
    /// The server has as many connections beside the shared one as it may have, and each of them is in use.
    #[error(
        "server `{server}` has {limit} connections beside the shared one, and all of them are in use (setting `connections.max`)"
    )]
    TooManyConnections {
        /// The server's name.
        server: Box<str>,
        /// The limit.
        limit: usize,
    },
    /// The user that the call is made for has as many connections to the server as it may have, and each of them is in use.
    #[error(
        "this user has {limit} connections to server `{server}`, and all of them are in use (setting `connections.perUser`)"
    )]
    TooManyConnectionsOfUser {
        /// The server's name.
        server: Box<str>,
        /// The limit.
        limit: usize,
    },
    /// The call's deadline passed while it was still in our queue.
    #[error("the call to `{server}` was still in the queue after {waited_ms} ms")]
    DeadlineInQueue {
        /// The server's name.
        server: Box<str>,
        /// How long the call waited.
        waited_ms: u64,
    },
    /// The server's host asked to be left alone for longer than the call would wait (F103).
    #[error(
        "`{server}` asked to be left alone for another {wait_ms} ms, longer than this call waits"
    )]
    RateLimited {
        /// The server's name.
        server: Box<str>,
        /// How much longer.
        wait_ms: u64,
    },
    /// Mainstay is shutting down.
    #[error("Mainstay is shutting down")]
    ShuttingDown,
    /// The request cannot be sent as it is.
    #[error("the request cannot be sent: {0}")]
    BadRequest(Box<str>),
    /// There are no credentials that the server could be shown: somebody has to sign in (`NeedsLogin`), or none can be had for
    /// now (`SignInDelayed`).
    #[error("there are no credentials to call `{server}` with: {failure}")]
    NoCredentials {
        /// The server's name.
        server: Box<str>,
        /// Why.
        failure: Failure,
    },
    /// The connection broke before the request was written.
    #[error("the connection to `{server}` broke before the request was sent: {failure}")]
    Broken {
        /// The server's name.
        server: Box<str>,
        /// What broke it.
        failure: Failure,
    },
}

/// Everything a caller of a parked server can be told (law 11).
#[derive(Debug, Clone)]
pub struct ParkedRefusal {
    /// The server's name.
    pub server: Box<str>,
    /// What parked it.
    pub cause: Option<Failure>,
    /// How long it has been parked.
    pub since: Duration,
    /// When the next attempt is due, if one is planned.
    pub next_attempt_in: Option<Duration>,
    /// What a human can do.
    pub hint: Option<&'static str>,
}

impl fmt::Display for ParkedRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "server `{}` is parked since {}",
            self.server,
            in_words(self.since)
        )?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        match self.next_attempt_in {
            Some(wait) => write!(f, "; next attempt in {}", in_words(wait))?,
            None => f.write_str("; it is not tried again by itself")?,
        }
        // A cause may have brought its own remedy.
        match self.hint {
            Some(hint) if !self.cause.as_ref().is_some_and(has_remedy) => write!(f, "; {hint}"),
            Some(_) | None => Ok(()),
        }
    }
}

impl std::error::Error for ParkedRefusal {}

/// What happened to a request that was sent and not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Lost {
    /// The connection it was sent on ended.
    #[error("the connection to `{server}` ended: {failure}")]
    Ended {
        /// The server's name.
        server: Box<str>,
        /// How it ended.
        failure: Failure,
    },
    /// No answer and no progress within the idle limit.
    #[error(
        "`{server}` gave no answer and no progress for {idle_ms} ms (setting `timeouts.callIdleMs`)"
    )]
    Idle {
        /// The server's name.
        server: Box<str>,
        /// The limit.
        idle_ms: u64,
    },
    /// No answer within the absolute limit.
    #[error("`{server}` gave no answer within {total_ms} ms (setting `timeouts.callTotalMs`)")]
    Total {
        /// The server's name.
        server: Box<str>,
        /// The limit.
        total_ms: u64,
    },
    /// The server told us that it has given the call up (F189). How far it got is not known.
    #[error("`{server}` cancelled the call{}", reason_suffix(.reason))]
    Cancelled {
        /// The server's name.
        server: Box<str>,
        /// The server's reason; empty when it gave none.
        reason: Box<str>,
    },
    /// The answer exceeded a size or depth limit.
    #[error("the answer of `{server}` was refused: {why}")]
    AnswerRefused {
        /// The server's name.
        server: Box<str>,
        /// Which limit, in words.
        why: Box<str>,
    },
    /// The server answered the transport in a way that says nothing about the call.
    #[error("`{server}`: {failure}")]
    Transport {
        /// The server's name.
        server: Box<str>,
        /// What the transport said.
        failure: Failure,
    },
}

/// A duration for people: coarse, never "0 s".
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_millis() >= 500);
    match seconds {
        0..=1 => "1 s".to_owned(),
        2..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// Whether the text of a failure says what to do already, and better than the hint of its kind does.
fn has_remedy(failure: &Failure) -> bool {
    failure.detail.is_some()
        && matches!(
            failure.kind,
            FailureKind::SpawnNotFound
                | FailureKind::CwdMissing
                | FailureKind::SpawnDenied
                | FailureKind::SpawnFailed
                | FailureKind::BadConfig
                | FailureKind::SecretUnavailable
        )
}

fn attempt_suffix(next: &Option<Duration>) -> String {
    next.map(|wait| format!("; next attempt in {}", in_words(wait)))
        .unwrap_or_default()
}

fn reason_suffix(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    }
}

fn cause_suffix(cause: &Option<Failure>) -> String {
    cause
        .as_ref()
        .map(|failure| format!(": {failure}"))
        .unwrap_or_default()
}

/// Why an operator's order could not be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// Mainstay has shut down; nothing takes orders any more.
    #[error("Mainstay has shut down")]
    Ended,
}

/// Why a manager could not start. Nothing about single servers: those park and say why.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No randomness from the operating system.
    #[error("the operating system gave no random numbers: {0}")]
    Random(String),
    /// No threads from the operating system.
    #[error("the guardian of child processes could not be started")]
    Guardian(#[from] crate::process::GuardianError),
}
