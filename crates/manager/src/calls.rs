//! What became of every call, as records: one per request that a caller made (law 16), kept in a bounded ring for those who
//! ask later and told to those who listen.
//!
//! Records are made on the data path, so making one never waits: a few words are copied, and one short lock that nobody
//! holds across an await is taken. A record never holds what was called with, nor what was answered (law 31), unless
//! `mainstay.journal.arguments` asks for the arguments.

mod origin;
mod tally;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use crate::error::{CallError, Lost, Refusal};
use crate::latency::Latency;
use crate::principal::Principal;

pub use self::origin::{Origin, TraceContext};
pub(crate) use self::tally::{Course, Tally};

/// Records of one server that its own ring keeps, so that a busy server pushes out no other's.
const OF_SERVER: usize = 20;

/// Changes of its state that a server keeps.
const STEPS_MAX: usize = 50;

/// Characters of a name that a record holds at most.
pub(crate) const NAME_CHARS_MAX: usize = 128;

/// Bytes of arguments that a record holds at most.
pub(crate) const ARGUMENTS_BYTES_MAX: usize = 4 * 1024;

/// How a call ended, in one word (law 16). The first three are all "answered" to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The server answered with a result.
    Answered,
    /// The server answered that the tool failed (`isError`).
    ToolError,
    /// The server answered with a JSON-RPC error.
    ServerError,
    /// Nothing was sent.
    Refused,
    /// It was sent, and the server provably did not run it.
    Rejected,
    /// It was sent, and no answer came.
    Unknown,
    /// Its caller left before the end.
    Cancelled,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Answered,
        Self::ToolError,
        Self::ServerError,
        Self::Refused,
        Self::Rejected,
        Self::Unknown,
        Self::Cancelled,
    ];

    /// The stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::ToolError => "toolError",
            Self::ServerError => "serverError",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
        }
    }

    /// The outcome of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

/// One call and what became of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    /// When it ended, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The server that was called.
    #[serde(serialize_with = "text")]
    #[schemars(with = "String")]
    pub server: Arc<str>,
    /// On which of its further connections; absent: the shared one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<u32>,
    /// The generation it was sent on last; 0 if it was never sent.
    pub generation: u64,
    /// The method, as `tools/call`; `connect` for a connection that was asked for without a request.
    pub method: Cow<'static, str>,
    /// The server's own name of the tool or prompt. At most 128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<Box<str>>,
    /// The name that the caller used, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed: Option<Box<str>>,
    /// Who called, as `name/version`, if it said so.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_text")]
    #[schemars(with = "Option<String>")]
    pub client: Option<Arc<str>>,
    /// On whose behalf; absent: nobody in particular.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "whose")]
    #[schemars(with = "Option<String>")]
    pub principal: Option<Principal>,
    /// Where the call came in: the path of the endpoint, `admin`, `library`, or `gateway` for what the gateway itself asks.
    #[serde(serialize_with = "text")]
    #[schemars(with = "String")]
    pub endpoint: Arc<str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, as one stable word, for everything but a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// Time in our queue, in milliseconds (law 19).
    pub queued_ms: u64,
    /// Time at the server over all attempts, in milliseconds.
    pub served_ms: u64,
    /// Time in our queue, in microseconds.
    pub queued_us: u64,
    /// Time at the server over all attempts, in microseconds.
    pub served_us: u64,
    /// The size of the request as the caller sent it.
    pub request_bytes: u64,
    /// The size of the answer; 0 without one.
    pub result_bytes: u64,
    /// How often it was sent.
    pub attempts: u32,
    /// The trace it belongs to, if its caller said so: 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Box<str>>,
    /// Where it came from, in full.
    #[serde(skip)]
    pub origin: Option<Arc<Origin>>,
    /// The arguments, only with `mainstay.journal.arguments`. Those that are too long are a text that says how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub arguments: Option<Box<RawValue>>,
}

fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

fn maybe_text<S: Serializer>(text: &Option<Arc<str>>, to: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(to)
}

fn whose<S: Serializer>(principal: &Option<Principal>, to: S) -> Result<S::Ok, S::Error> {
    principal.as_ref().map(Principal::name).serialize(to)
}

/// The records of all servers.
#[derive(Debug)]
pub(crate) struct Calls {
    live: broadcast::Sender<Arc<CallRecord>>,
    recent: Mutex<VecDeque<Arc<CallRecord>>>,
    made: AtomicU64,
    kept: usize,
}

impl Calls {
    /// An empty ring for so many records; a listener may be as far behind before it is told that it lagged.
    pub(crate) fn new(kept: usize) -> Self {
        Self {
            live: broadcast::Sender::new(kept.max(1)),
            recent: Mutex::default(),
            made: AtomicU64::new(0),
            kept: kept.max(1),
        }
    }

    pub(crate) fn record(&self, record: &Arc<CallRecord>) {
        self.made.fetch_add(1, Ordering::Relaxed);
        push(&self.recent, record, self.kept);
        // No listener is fine, and costs a look at a counter.
        let _ = self.live.send(Arc::clone(record));
    }

    /// Listens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<CallRecord>> {
        self.live.subscribe()
    }

    /// The last records, oldest first.
    pub(crate) fn recent(&self) -> Vec<Arc<CallRecord>> {
        locked(&self.recent).iter().cloned().collect()
    }

    /// How many records were made since the start.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}

/// One change of a server's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The state before.
    pub from: &'static str,
    /// The state after.
    pub to: &'static str,
    /// Why, as one stable word, when there is a cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The records of one server, over all of its connections.
#[derive(Debug)]
pub(crate) struct Ledger {
    recent: Mutex<VecDeque<Arc<CallRecord>>>,
    /// How long calls take, lately.
    pub(crate) latency: Latency,
    /// Why calls failed. As many entries as there are cause words.
    causes: Mutex<BTreeMap<&'static str, u64>>,
    /// The last changes of the shared connection's state.
    steps: Mutex<VecDeque<Step>>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            recent: Mutex::default(),
            latency: Latency::default(),
            causes: Mutex::default(),
            steps: Mutex::default(),
        }
    }

    pub(crate) fn record(&self, record: &Arc<CallRecord>) {
        push(&self.recent, record, OF_SERVER);
        if let Some(cause) = record.cause {
            *locked(&self.causes).entry(cause).or_default() += 1;
        }
    }

    /// The last records, oldest first.
    pub(crate) fn recent(&self) -> Vec<Arc<CallRecord>> {
        locked(&self.recent).iter().cloned().collect()
    }

    /// The state of the shared connection changed.
    pub(crate) fn moved(&self, step: Step) {
        let mut steps = locked(&self.steps);
        if steps.len() >= STEPS_MAX {
            steps.pop_front();
        }
        steps.push_back(step);
    }

    /// The last changes, oldest first.
    pub(crate) fn steps(&self) -> Vec<Step> {
        locked(&self.steps).iter().cloned().collect()
    }

    /// How often calls failed, by cause.
    pub(crate) fn causes(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.causes).clone()
    }
}

/// Adds a record and forgets the oldest. What is forgotten is dropped outside of the lock.
fn push(ring: &Mutex<VecDeque<Arc<CallRecord>>>, record: &Arc<CallRecord>, kept: usize) {
    let mut ring = locked(ring);
    let forgotten = (ring.len() >= kept).then(|| ring.pop_front());
    ring.push_back(Arc::clone(record));
    drop(ring);
    drop(forgotten);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CallError {
    /// Why, as one stable word out of a bounded set.
    #[must_use]
    pub fn cause_word(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.cause_word(),
            Self::Rejected(lost) | Self::Unknown(lost) => lost.cause_word(),
        }
    }
}

impl Refusal {
    fn cause_word(&self) -> &'static str {
        match self {
            Self::NoSuchServer(_) => "no-such-server",
            Self::Removed { .. } => "removed",
            Self::Disabled { .. } => "disabled",
            Self::Parked(_) => "parked",
            Self::NotReady { .. } => "not-ready",
            Self::TooSoon { .. } => "too-soon",
            Self::TooManyWaiting { .. } => "too-many-waiting",
            Self::ToolChanged { .. } => "tool-changed",
            Self::ToolHeld { .. } => "tool-held",
            Self::NotOffered { .. } => "not-offered",
            Self::TooManyInFlight { .. } => "too-many-in-flight",
            Self::TooManyConnections { .. } => "too-many-connections",
            Self::TooManyConnectionsOfUser { .. } => "too-many-connections-of-user",
            Self::DeadlineInQueue { .. } => "deadline-in-queue",
            Self::RateLimited { .. } => "rate-limited",
            Self::ShuttingDown => "shutting-down",
            Self::BadRequest(_) => "bad-request",
            Self::NoCredentials { failure, .. } | Self::Broken { failure, .. } => {
                failure.kind.word()
            }
        }
    }
}

impl Lost {
    fn cause_word(&self) -> &'static str {
        match self {
            Self::Ended { failure, .. } | Self::Transport { failure, .. } => failure.kind.word(),
            Self::Idle { .. } => "idle-limit",
            Self::Total { .. } => "total-limit",
            Self::Cancelled { .. } => "cancelled-by-server",
            Self::AnswerRefused { .. } => "answer-refused",
        }
    }
}
