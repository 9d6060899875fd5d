//! One call being watched to its end: makes its record, counts it, measures it.
//!
//! A call whose caller leaves is a future that is dropped, so its record is made while dropping. That is best effort, like
//! the counts of calls in flight: it runs wherever the future is dropped, so it must neither wait nor fail, and a process
//! that is killed makes none.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::ids::Generation;
use mainstay_wire::{codes, method};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::origin::shown;
use super::{ARGUMENTS_BYTES_MAX, CallRecord, Outcome};
use crate::catalog::unix_ms;
use crate::error::CallError;
use crate::latency::Sample;
use crate::request::{Answer, CallOptions, Request};
use crate::secrets::Hidden;
use crate::slot::Slot;

/// Watches one call.
#[derive(Debug)]
pub(crate) struct Tally<'a> {
    slot: &'a Slot,
    request: Option<&'a Request>,
    options: &'a CallOptions,
    started: Instant,
    course: Course,
    /// The server's own name of what is called, where callers know it by another.
    own: Option<&'a str>,
    is_told: bool,
}

/// What has become of a call so far.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// The generation it was sent on last.
    generation: u64,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// Time at the server, over all attempts that are over.
    pub(crate) served: Duration,
    /// When the attempt began that is not over.
    sent: Option<Instant>,
}

impl Course {
    /// It is sent, on that generation.
    pub(crate) fn begins(&mut self, generation: Generation) {
        self.generation = generation.0;
        self.attempts += 1;
        self.sent = Some(Instant::now());
    }

    /// The attempt is over.
    pub(crate) fn ends(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.served += sent.elapsed();
        }
    }
}

/// How a call ended.
struct End {
    outcome: Outcome,
    cause: Option<&'static str>,
    result_bytes: usize,
}

impl<'a> Tally<'a> {
    /// Watches a call that began at `started`. Without a request it is about a connection that was asked for.
    pub(crate) fn new(
        slot: &'a Slot,
        request: Option<&'a Request>,
        options: &'a CallOptions,
        started: Instant,
    ) -> Self {
        Self {
            slot,
            request,
            options,
            started,
            course: Course::default(),
            own: None,
            is_told: false,
        }
    }

    /// What is to be noted on the way.
    pub(crate) fn course(&mut self) -> &mut Course {
        &mut self.course
    }

    /// The call goes on elsewhere, where somebody else watches it.
    pub(crate) fn hand_over(mut self) {
        self.is_told = true;
    }

    /// The call has ended.
    pub(crate) fn end(mut self, outcome: &Result<Answer, CallError>) {
        let end = match outcome {
            Ok(answer) => answered(answer),
            Err(error) => failed(error),
        };
        self.tell(&end);
    }

    /// The server has a name of its own for what is called.
    pub(crate) fn is_of(&mut self, own: &'a str) {
        self.own = Some(own);
    }

    /// It failed before it got anywhere.
    pub(crate) fn fail(mut self, error: &CallError) {
        self.tell(&failed(error));
    }

    fn tell(&mut self, end: &End) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        let slot = self.slot;
        slot.counters.call(end.outcome);
        let served = self.course.served
            + self
                .course
                .sent
                .map_or(Duration::ZERO, |sent| sent.elapsed());
        let queued = self.started.elapsed().saturating_sub(served);
        let record = self.record(end, queued, served);
        let is_answered = matches!(
            end.outcome,
            Outcome::Answered | Outcome::ToolError | Outcome::ServerError
        );
        let sample = Sample {
            queued,
            served: is_answered.then_some(served),
            bytes_in: record.request_bytes,
            bytes_out: record.result_bytes,
        };
        slot.ledger.latency.record(slot.clock.now().0, sample);
        slot.events.call(&slot.ledger, Arc::new(record));
    }

    fn record(&self, end: &End, queued: Duration, served: Duration) -> CallRecord {
        let origin = self.options.origin.as_deref();
        let trace = origin.and_then(super::Origin::told);
        let names = self
            .request
            .map(|request| Names::of(request, self.own))
            .unwrap_or_default();
        CallRecord {
            at_unix_ms: unix_ms(),
            server: Arc::clone(&self.slot.name),
            connection: self.slot.beside.as_ref().map(|beside| beside.number),
            generation: self.course.generation,
            method: self.request.map_or(Cow::Borrowed("connect"), method_of),
            tool: names.own,
            exposed: names.exposed,
            client: origin.and_then(|origin| origin.client.clone()),
            principal: self.options.on_behalf_of().cloned(),
            endpoint: origin.map_or_else(
                || self.slot.events.library(),
                |origin| Arc::clone(&origin.endpoint),
            ),
            outcome: end.outcome,
            cause: end.cause,
            queued_ms: whole(queued.as_millis()),
            served_ms: whole(served.as_millis()),
            queued_us: whole(queued.as_micros()),
            served_us: whole(served.as_micros()),
            request_bytes: self
                .request
                .map_or(0, |request| whole(request.message.text().len() as u128)),
            result_bytes: whole(end.result_bytes as u128),
            attempts: self.course.attempts,
            trace_id: trace.map(|trace| trace.trace_id().into()),
            origin: self.options.origin.clone(),
            arguments: self
                .request
                .filter(|_| self.slot.events.keeps_arguments())
                .and_then(|request| arguments(request, self.slot.events.hidden())),
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.tell(&End {
            outcome: Outcome::Cancelled,
            cause: None,
            result_bytes: 0,
        });
    }
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn answered(answer: &Answer) -> End {
    let message = &answer.message;
    let (outcome, cause) = if message.error().is_some() {
        let code = message.member(&["error", "code"]);
        let code = code.and_then(|raw| raw.parse::<i64>().ok());
        (Outcome::ServerError, Some(code_word(code)))
    } else if message.member(&["result", "isError"]) == Some("true") {
        // A member of the result itself: the envelope knows where it is, whatever the size.
        (Outcome::ToolError, Some("tool-error"))
    } else {
        (Outcome::Answered, None)
    };
    End {
        outcome,
        cause,
        result_bytes: message.text().len(),
    }
}

fn failed(error: &CallError) -> End {
    let outcome = match error {
        CallError::Refused(_) => Outcome::Refused,
        CallError::Rejected(_) => Outcome::Rejected,
        CallError::Unknown(_) => Outcome::Unknown,
    };
    End {
        outcome,
        cause: Some(error.cause_word()),
        result_bytes: 0,
    }
}

/// A JSON-RPC error as one word; the words are few, whatever codes servers make up.
fn code_word(code: Option<i64>) -> &'static str {
    match code {
        Some(codes::PARSE_ERROR) => "parse-error",
        Some(codes::INVALID_REQUEST) => "invalid-request",
        Some(codes::METHOD_NOT_FOUND) => "method-not-found",
        Some(codes::INVALID_PARAMS) => "invalid-params",
        Some(codes::INTERNAL_ERROR) => "internal-error",
        Some(codes::RESOURCE_NOT_FOUND) => "resource-not-found",
        Some(_) | None => "other-error",
    }
}

/// The method without a copy, for those that are called often.
fn method_of(request: &Request) -> Cow<'static, str> {
    const KNOWN: [&str; 9] = [
        method::TOOLS_CALL,
        method::PROMPTS_GET,
        method::RESOURCES_READ,
        method::COMPLETE,
        method::TOOLS_LIST,
        method::PROMPTS_LIST,
        method::RESOURCES_LIST,
        method::TEMPLATES_LIST,
        method::PING,
    ];
    let method = request.method();
    match KNOWN.into_iter().find(|known| *known == method) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(shown(method)),
    }
}

/// What is called, in the server's own words and in the caller's.
#[derive(Default)]
struct Names {
    own: Option<Box<str>>,
    exposed: Option<Box<str>>,
}

impl Names {
    fn of(request: &Request, own: Option<&str>) -> Self {
        const PATH: [&str; 2] = ["params", "name"];
        if !matches!(request.method(), method::TOOLS_CALL | method::PROMPTS_GET) {
            return Self::default();
        }
        let plain =
            |raw: &str| mainstay_wire::raw::string(raw).map(|name| shown(&name).into_boxed_str());
        let named = request.effective_member(&PATH).and_then(plain);
        let own = own.map(|own| shown(own).into_boxed_str()).or(named);
        let came = request.message.member(&PATH).and_then(plain);
        Self {
            exposed: came.filter(|came| Some(came) != own.as_ref()),
            own,
        }
    }
}

fn arguments(request: &Request, hidden: &Hidden) -> Option<Box<RawValue>> {
    let raw = request.effective_member(&["params", "arguments"])?;
    let kept = if raw.len() <= ARGUMENTS_BYTES_MAX {
        hidden.scrub(raw)
    } else {
        format!("\"{} bytes\"", raw.len())
    };
    RawValue::from_string(kept).ok()
}
