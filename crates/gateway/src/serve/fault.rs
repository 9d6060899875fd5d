//! Errors that this gateway answers with, and how failed calls are told to a client.
//!
//! A failed call is always a JSON-RPC error under HTTP 200: clients of the legacy era give up their whole session on
//! any 4xx or 5xx. Codes of our own stay outside the range that JSON-RPC and MCP reserve (-32768 .. -32000).

use std::time::Duration;

use mainstay::error::{Lost, ParkedRefusal};
use mainstay::{CallError, Refusal};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::{Id, Message, Parts, codes};
use serde_json::{Map, Value, json};

/// The request never left Mainstay. Safe to send again. `data` says why, and when it makes sense to.
pub const REFUSED: i64 = -31_001;
/// The server's door was reached and the server provably did not run the request. Safe to send again.
pub const REJECTED: i64 = -31_002;
/// The request was sent and no answer came: it may have run. Not safe to send again unless the tool is idempotent.
pub const OUTCOME_UNKNOWN: i64 = -31_003;
/// The server answered in a way that nothing in the client's era stands for (a task, an address without a name).
pub const NOT_BRIDGED: i64 = -31_004;
/// A limit of this gateway is reached (sessions, streams).
pub const LIMIT_REACHED: i64 = -31_005;

/// The server needs input that it did not get (declined, not to be asked for, too late). Nothing was completed.
pub const INPUT_MISSING: i64 = -31_006;
/// `data.state` of a refusal because Mainstay itself is going down: its successor can be asked.
pub const STOPPING: &str = "stopping";

/// One JSON-RPC error of ours.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// The error code.
    pub(crate) code: i64,
    /// One sentence: what is wrong and what helps.
    pub(crate) message: String,
    /// Structured details.
    pub(crate) data: Option<Value>,
}

impl Fault {
    /// An error without details.
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// Adds details.
    pub(crate) fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The parameters are wrong.
    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::new(codes::INVALID_PARAMS, message)
    }

    /// The method does not exist here.
    pub(crate) fn no_method(method: &str) -> Self {
        Self::new(
            codes::METHOD_NOT_FOUND,
            format!("Method not found: {}", shown(method)),
        )
        .with(Value::String(shown(method)))
    }

    /// The error as a message to the client.
    pub(crate) fn answer(&self, id: Option<&Id>) -> Parts {
        let data = self.data.as_ref().map(Value::to_string);
        Parts::from(Message::error_of(
            id,
            self.code,
            &self.message,
            data.as_deref(),
        ))
    }
}

/// A name that came from outside, cut to a length that an error message can bear.
pub(crate) fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 128;
    let mut text: String = name.chars().take(CHARS_MAX).collect();
    if text.len() < name.len() {
        text.push('…');
    }
    text
}

impl From<&CallError> for Fault {
    /// Every outcome class has its own code; `data` has `outcome`, `server`, `cause`, `hint`, and `retryAfterMs` when
    /// something is known about the next attempt.
    fn from(error: &CallError) -> Self {
        let mut data = Map::new();
        data.insert("outcome".into(), error.class().into());
        let code = match error {
            CallError::Refused(refusal) => {
                describe_refusal(refusal, &mut data);
                REFUSED
            }
            CallError::Rejected(lost) => {
                describe_lost(lost, &mut data);
                REJECTED
            }
            CallError::Unknown(lost) => {
                describe_lost(lost, &mut data);
                OUTCOME_UNKNOWN
            }
        };
        Self {
            code,
            message: error.to_string(),
            data: Some(Value::Object(data)),
        }
    }
}

fn describe_refusal(refusal: &Refusal, data: &mut Map<String, Value>) {
    match refusal {
        Refusal::NoSuchServer(server)
        | Refusal::Removed { server }
        | Refusal::Disabled { server } => name(server, data),
        Refusal::Parked(parked) => describe_parked(parked, data),
        Refusal::NotReady {
            server,
            state,
            waited_ms,
            cause: failure,
            next_attempt_in,
        } => {
            name(server, data);
            data.insert("waitedMs".into(), json!(waited_ms));
            away(state, failure.as_ref(), *next_attempt_in, data);
        }
        Refusal::TooSoon {
            server,
            cause: failure,
            next_attempt_in,
        } => {
            name(server, data);
            away("backoff", failure.as_ref(), Some(*next_attempt_in), data);
        }
        Refusal::TooManyWaiting {
            server,
            state,
            limit,
        } => {
            name(server, data);
            data.insert("state".into(), (*state).into());
            data.insert("limit".into(), json!(limit));
        }
        Refusal::TooManyInFlight { server, limit }
        | Refusal::TooManyConnections { server, limit }
        | Refusal::TooManyConnectionsOfUser { server, limit } => {
            name(server, data);
            data.insert("limit".into(), json!(limit));
        }
        Refusal::NotOffered { server, tool }
        | Refusal::ToolChanged { server, tool }
        | Refusal::ToolHeld { server, tool, .. } => {
            name(server, data);
            data.insert("tool".into(), (**tool).into());
        }
        Refusal::DeadlineInQueue { server, waited_ms } => {
            name(server, data);
            data.insert("waitedMs".into(), json!(waited_ms));
        }
        Refusal::RateLimited { server, wait_ms } => {
            name(server, data);
            cause(&FailureKind::RateLimited.into(), data);
            data.insert("retryAfterMs".into(), json!(wait_ms));
        }
        Refusal::ShuttingDown => {
            data.insert("state".into(), STOPPING.into());
        }
        Refusal::BadRequest(_) => {}
        Refusal::NoCredentials { server, failure } | Refusal::Broken { server, failure } => {
            name(server, data);
            cause(failure, data);
        }
    }
}

fn describe_parked(parked: &ParkedRefusal, data: &mut Map<String, Value>) {
    name(&parked.server, data);
    data.insert("sinceMs".into(), millis(parked.since));
    let (cause, next) = (parked.cause.as_ref(), parked.next_attempt_in);
    away("parked", cause, next, data);
    if let Some(hint) = parked.hint {
        data.insert("hint".into(), hint.into());
    }
}

/// What is known about a server that cannot be called now.
fn away(
    state: &str,
    failure: Option<&Failure>,
    next_attempt_in: Option<Duration>,
    data: &mut Map<String, Value>,
) {
    data.insert("state".into(), state.into());
    // Our own clock knows better than the server's wish when the next attempt is.
    if let Some(wait) = next_attempt_in {
        data.insert("retryAfterMs".into(), millis(wait));
    }
    if let Some(failure) = failure {
        cause(failure, data);
    }
}

fn describe_lost(lost: &Lost, data: &mut Map<String, Value>) {
    match lost {
        Lost::Ended { server, failure } | Lost::Transport { server, failure } => {
            name(server, data);
            cause(failure, data);
        }
        Lost::Idle { server, idle_ms } => {
            name(server, data);
            data.insert("idleMs".into(), json!(idle_ms));
        }
        Lost::Total { server, total_ms } => {
            name(server, data);
            data.insert("totalMs".into(), json!(total_ms));
        }
        Lost::Cancelled { server, reason } => {
            name(server, data);
            data.insert(
                "cause".into(),
                json!({ "kind": "cancelled-by-server", "detail": reason }),
            );
        }
        Lost::AnswerRefused { server, why } => {
            name(server, data);
            data.insert(
                "cause".into(),
                json!({ "kind": "answer-refused", "detail": why }),
            );
        }
    }
}

fn name(server: &str, data: &mut Map<String, Value>) {
    data.insert("server".into(), server.into());
}

fn cause(failure: &Failure, data: &mut Map<String, Value>) {
    let kind = failure.kind;
    data.insert(
        "cause".into(),
        json!({ "kind": kind.word(), "detail": failure.to_string() }),
    );
    data.entry("hint").or_insert_with(|| kind.hint().into());
    if let Some(wait_ms) = failure.retry_after_ms {
        data.entry("retryAfterMs").or_insert_with(|| json!(wait_ms));
    }
}

fn millis(duration: Duration) -> Value {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_16_every_outcome_class_has_its_own_code_outside_the_reserved_range() {
        let lost = || Lost::Idle {
            server: "slow".into(),
            idle_ms: 5,
        };
        let errors = [
            CallError::Refused(Refusal::ShuttingDown),
            CallError::Rejected(lost()),
            CallError::Unknown(lost()),
        ];
        let faults: Vec<Fault> = errors.iter().map(Fault::from).collect();
        assert_eq!(
            faults.iter().map(|fault| fault.code).collect::<Vec<_>>(),
            [REFUSED, REJECTED, OUTCOME_UNKNOWN]
        );
        for (fault, error) in faults.iter().zip(&errors) {
            assert!(!(-32_768..=-32_000).contains(&fault.code));
            assert_eq!(fault.data.as_ref().unwrap()["outcome"], error.class());
        }
        assert_eq!(faults[2].data.as_ref().unwrap()["server"], "slow");
    }

    #[test]
    fn names_from_outside_are_cut() {
        assert!(shown(&"ä".repeat(500)).chars().count() <= 129);
        assert_eq!(shown("short"), "short");
    }
}
