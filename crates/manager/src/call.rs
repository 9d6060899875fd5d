//! The path of a call: admission, a lease on a generation, one exchange, and the decision whether to send again.
//!
//! The path never goes through the driver. It asks the lifecycle for nothing but "wanted", and it may be dropped at any
//! await point without changing anything for anyone else (law 1).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mainstay_core::catalog::Digest;
use mainstay_core::failure::FailureKind;
use mainstay_core::ids::Generation;
use mainstay_core::lifecycle::input::Input;
use mainstay_core::lifecycle::status::StateWord;
use mainstay_wire::envelope::Message;
use mainstay_wire::revision::Era;
use mainstay_wire::views::{InputRequired, ResultType, ToolHints};
use mainstay_wire::{codes, method, raw};
use tokio::time::Instant;

use crate::admission::{Admission, Permit};
use crate::calls::{Course, Tally};
use crate::config::{OnToolChange, Replay, ToolRetry};
use crate::content;
use crate::error::{CallError, Lost, ParkedRefusal, Refusal};
use crate::events::EventKind;
use crate::limits::Limit;
use crate::request::{Answer, CallOptions, Request};
use crate::runtime::leases::Lease;
use crate::runtime::report::Reports;
use crate::runtime::{Cut, Limits, Miss, Runtime};
use crate::shape;
use crate::shape::call::ToolCall;
use crate::slot::Slot;
use crate::suspicious;

/// How often one call is sent at most. Each attempt needs a new generation or a refused session, so this only bounds
/// pathological servers; the deadline bounds everything else.
const ATTEMPTS_MAX: u32 = 6;

/// The pause before a request is sent again to a server that is still there; it doubles with every attempt.
const RESEND: Duration = Duration::from_millis(250);

/// Calls one server through its slot.
pub(crate) struct Caller<'a> {
    slot: &'a Arc<Slot>,
    reports: &'a Reports,
    request: &'a Request,
    options: &'a CallOptions,
    started: Instant,
    deadline: Instant,
    patience_until: Instant,
    idle: Duration,
    total: Duration,
    /// The definition of the tool that the caller decided by, as far as that matters (law 20).
    seen: Option<Digest>,
    /// The call as the server is to get it, where the config says something of it, or why it gets none.
    tool: Result<Option<Box<ToolCall>>, Box<Refusal>>,
}

/// A call that waits for its server; counted, so that an outage cannot pile up calls without limit (F152).
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<'a> Caller<'a> {
    /// Prepares a call; its deadline starts now and covers everything (law 16).
    pub(crate) fn new(
        slot: &'a Arc<Slot>,
        reports: &'a Reports,
        request: &'a Request,
        options: &'a CallOptions,
    ) -> Self {
        let config = slot.config.load();
        let started = Instant::now();
        let total = options
            .total
            .unwrap_or(Duration::from_millis(config.timeouts.call_total_ms));
        let idle = options
            .idle
            .unwrap_or(Duration::from_millis(config.timeouts.call_idle_ms));
        let patience = options.patience;
        let patience = patience.unwrap_or_else(|| Duration::from_millis(slot.edge_patience_ms()));
        let deadline = started + total;
        let mut caller = Self {
            slot,
            reports,
            request,
            options,
            started,
            deadline,
            patience_until: deadline.min(started + patience),
            idle,
            total,
            seen: None,
            tool: shape::call::tool_call(&config, request)
                .map(|call| call.map(Box::new))
                .map_err(Box::new),
        };
        if request.method() == method::TOOLS_CALL && config.on_tool_change != OnToolChange::Allow {
            caller.seen = options.expected.or_else(|| caller.definition());
        }
        caller
    }

    /// The definition of the tool that is called, as the server last listed it.
    fn definition(&self) -> Option<Digest> {
        let name = self.tool_name()?;
        self.slot.catalog.load().as_ref()?.tool_digest(&name)
    }

    /// The call began earlier: it has already waited for its connection, and its deadlines count from there.
    pub(crate) fn since(mut self, started: Instant) -> Self {
        let earlier = self.started.saturating_duration_since(started);
        self.started = started;
        self.deadline -= earlier;
        self.patience_until = self.deadline.min(self.patience_until - earlier);
        self
    }

    /// Waits for a connection as a call does, and says which era it speaks; sends nothing.
    pub(crate) async fn era(self) -> Result<Era, CallError> {
        let lease = self.lease().await.map_err(CallError::Refused)?;
        Ok(lease.runtime().era())
    }

    /// Runs the call to its one outcome, counts it and records it; also if it is dropped on the way.
    pub(crate) async fn run(self) -> Result<Answer, CallError> {
        let mut tally = Tally::new(self.slot, Some(self.request), self.options, self.started);
        if let Ok(Some(call)) = &self.tool {
            tally.is_of(&call.own);
        }
        let outcome = self.attempts(tally.course()).await;
        tally.end(&outcome);
        outcome
    }

    async fn attempts(&self, course: &mut Course) -> Result<Answer, CallError> {
        let sent = match &self.tool {
            Ok(call) => call.as_ref().and_then(|call| call.request.as_ref()),
            Err(refusal) => return Err(CallError::Refused(Refusal::clone(refusal))),
        };
        let request = sent.unwrap_or(self.request);
        // Before it waits for anything, and again when it is known what serves.
        self.check_held().map_err(CallError::Refused)?;
        // Law 19: the limit is per server, and waiting for it is our time, not the server's.
        let _permit = self.admit().await?;
        let mut listed_anew = false;
        loop {
            let lease = self.lease().await.map_err(CallError::Refused)?;
            if let Some(until) = lease.runtime().paused_until() {
                // Not held meanwhile: the generation may be replaced, and the pause is the host's.
                drop(lease);
                self.keep_pause(until).await.map_err(CallError::Refused)?;
                continue;
            }
            self.check_held().map_err(CallError::Refused)?;
            self.check_definition(lease.runtime().generation)
                .map_err(CallError::Refused)?;
            course.begins(lease.runtime().generation);
            let limits = Limits {
                deadline: self.deadline,
                idle: self.idle,
            };
            let runtime = lease.runtime();
            let answered = runtime.exchange(request, self.options, limits).await;
            course.ends();
            let miss = match answered {
                Ok(message) => {
                    // F136: refused before it ran, because our listing is old. Once; a second refusal is the answer.
                    if !listed_anew
                        && self.retry() != Some(ToolRetry::Never)
                        && runtime.wants_other_headers(self.request.method(), &message)
                    {
                        listed_anew = true;
                        if runtime.list_anew(self.deadline).await {
                            self.slot.counters.resent();
                            continue;
                        }
                    }
                    return self.answer(message, runtime, course);
                }
                Err(miss) => miss,
            };
            if course.attempts >= ATTEMPTS_MAX
                || Instant::now() >= self.deadline
                || !self.may_send_again(&miss)
            {
                return Err(self.error(miss));
            }
            self.slot.counters.resent();
            if is_throttled(&miss) {
                // The generation is as good as before: what is waited for is its host (F102).
                let until = runtime.paused_until();
                if until.is_some_and(|until| until > self.patience_until) {
                    return Err(self.error(miss));
                }
                continue;
            }
            if runtime.survives(&miss) {
                // Nothing will replace it: a pause that grows with every attempt is all there is to wait for (F99).
                let pause = RESEND * 2_u32.saturating_pow(course.attempts - 1);
                tokio::time::sleep_until(self.patience_until.min(Instant::now() + pause)).await;
                continue;
            }
            // The broken generation must not be leased again: wait until the driver has taken it away.
            let broken = runtime.generation;
            drop(lease);
            self.until_replaced(broken).await;
        }
    }

    /// What becomes of an answer.
    fn answer(
        &self,
        message: Message,
        runtime: &Runtime,
        course: &Course,
    ) -> Result<Answer, CallError> {
        self.check_size(&message, runtime.generation)?;
        self.check_types(&message, runtime.generation)?;
        self.check_asks(&message, runtime)?;
        if self.is_unknown_tool(&message) {
            // What clients see may be out of date: one listing tells (F172).
            runtime.dirty.doubt();
        }
        Ok(Answer {
            message,
            generation: runtime.generation,
            era: runtime.era(),
            queued: self.started.elapsed().saturating_sub(course.served),
            served: course.served,
            attempts: course.attempts,
        })
    }

    /// A tool that is not as it was approved is not called (F250).
    fn check_held(&self) -> Result<(), Refusal> {
        let Ok(Some(call)) = &self.tool else {
            return Ok(());
        };
        if !self.slot.config.load().tools.pin {
            return Ok(());
        }
        let shown = self.tool_name().unwrap_or_default();
        let refusal = self
            .slot
            .pins
            .refuses(&call.own, &shown, &self.slot.held.load());
        refusal.map_or(Ok(()), Err)
    }

    /// What the operator says of sending this call again.
    fn retry(&self) -> Option<ToolRetry> {
        self.tool.as_ref().ok()?.as_ref()?.retry
    }

    /// Law 20: a tool that changed between the caller's view and now is what the policy says it is.
    fn check_definition(&self, generation: Generation) -> Result<(), Refusal> {
        let Some(seen) = self.seen else { return Ok(()) };
        if self.definition() == Some(seen) {
            return Ok(());
        }
        let tool = self.tool_name().unwrap_or_default();
        self.slot.counters.tool_change();
        let policy = self.slot.config.load().on_tool_change;
        let kind = EventKind::CallMetToolChange {
            tool: tool.clone(),
            refused: policy == OnToolChange::Refuse,
        };
        self.slot.events.emit(&self.slot.name, generation.0, kind);
        match policy {
            OnToolChange::Allow | OnToolChange::Warn => Ok(()),
            OnToolChange::Refuse => Err(Refusal::ToolChanged {
                server: self.name(),
                tool: tool.into(),
            }),
        }
    }

    /// Withholds an answer that is larger than the server's setting allows (F195). It did run.
    fn check_size(&self, message: &Message, generation: Generation) -> Result<(), CallError> {
        let max = self.slot.config.load().result_bytes;
        let bytes = message.text().len();
        if bytes <= max {
            return Ok(());
        }
        let why =
            format!("it has {bytes} bytes, more than the {max} allowed (setting `resultBytes`)");
        self.exceeded("resultBytes", generation, &why);
        Err(CallError::Unknown(Lost::AnswerRefused {
            server: self.name(),
            why: why.into(),
        }))
    }

    /// Withholds an answer with content of a type that the server's setting does not allow. It did run.
    fn check_types(&self, message: &Message, generation: Generation) -> Result<(), CallError> {
        let config = self.slot.config.load();
        let allowed = config.guard.content_types.as_deref();
        let Some(found) = allowed.and_then(|allowed| content::refused_type(message, allowed))
        else {
            return Ok(());
        };
        let found = suspicious::hidden::escaped(&found);
        let why = format!(
            "it has content of the type `{found}`, which is not allowed (setting `contentTypes`)"
        );
        self.exceeded("contentTypes", generation, &why);
        Err(CallError::Unknown(Lost::AnswerRefused {
            server: self.name(),
            why: why.into(),
        }))
    }

    /// A modern server asks by its answer: one that asks for more than it may is withheld (`asks`).
    fn check_asks(&self, message: &Message, runtime: &Runtime) -> Result<(), CallError> {
        if ResultType::of(message) != ResultType::InputRequired {
            return Ok(());
        }
        let Ok(asked) = InputRequired::of(message) else {
            return Ok(());
        };
        for (_, request) in asked.requests {
            let method = raw::string_member(request, &["method"]).unwrap_or_default();
            // Nobody holds the connection meanwhile, so what is asked at once is what is in one answer.
            if let Err(why) = self.slot.gates.admit(&method, self.slot.clock.now().0) {
                self.slot
                    .counters
                    .exceeded(Limit::Asks, runtime.generation.0, &why);
                return Err(CallError::Unknown(Lost::AnswerRefused {
                    server: self.name(),
                    why: why.into(),
                }));
            }
        }
        Ok(())
    }

    /// Whether the server says that it has no such tool, as a JSON-RPC error or as the error of a tool. A guess from words,
    /// which is good enough: it leads to nothing but a listing.
    fn is_unknown_tool(&self, message: &Message) -> bool {
        const LOOKED_AT_MAX: usize = 4 * 1024;
        if self.request.method() != method::TOOLS_CALL {
            return false;
        }
        let words = match (message.error(), message.result()) {
            (Some(error), _) => {
                let code = message
                    .member(&["error", "code"])
                    .and_then(|raw| raw.parse::<i64>().ok());
                let fits = matches!(code, Some(codes::INVALID_PARAMS | codes::METHOD_NOT_FOUND));
                if !fits {
                    return false;
                }
                error
            }
            (None, Some(result)) if result.len() <= LOOKED_AT_MAX && result.contains("isError") => {
                if message.member(&["result", "isError"]) != Some("true") {
                    return false;
                }
                result
            }
            (None, _) => return false,
        };
        let words = words.to_ascii_lowercase();
        words.contains("tool")
            && ["unknown", "not found", "no such", "not exist"]
                .iter()
                .any(|phrase| words.contains(phrase))
    }

    /// Counts an exceeded limit and makes it known.
    fn exceeded(&self, limit: &'static str, generation: Generation, detail: &str) {
        self.slot.counters.limit_exceeded();
        self.slot
            .events
            .exceeded(&self.slot.name, generation.0, limit, detail);
    }

    /// A place among the calls that wait for this server.
    fn wait(&self) -> Result<Waiting<'a>, Refusal> {
        let limit = self.slot.config.load().waiting;
        let before = self.slot.waiting.fetch_add(1, Ordering::AcqRel);
        // Made at once, so that a refusal gives the place back as well.
        let place = Waiting(&self.slot.waiting);
        if before < limit {
            return Ok(place);
        }
        let state = self.slot.view.borrow().status.state.word();
        self.exceeded(
            "waiting",
            Generation::default(),
            &format!("{limit} calls wait already"),
        );
        Err(Refusal::TooManyWaiting {
            server: self.name(),
            state,
            limit,
        })
    }

    /// The tool that is called, as the caller names it.
    fn tool_name(&self) -> Option<String> {
        shape::call::shown_name(self.request)
    }

    /// Gets in: where the connection is a principal's, first within its own share and then among all.
    async fn admit(&self) -> Result<(Option<Permit<'a>>, Permit<'a>), CallError> {
        let slot = self.slot;
        let own = match &slot.account {
            None => None,
            Some(account) => {
                let config = slot.config.load_full();
                let share = config.connections.calls_of_one(config.concurrency);
                Some(self.admit_to(&account.admission, share).await?)
            }
        };
        let limit = || slot.config.load().concurrency;
        match slot.admission.try_acquire() {
            Some(permit) => Ok((own, permit)),
            None => Ok((own, self.admit_to(&slot.admission, limit()).await?)),
        }
    }

    async fn admit_to(
        &self,
        admission: &'a Admission,
        limit: usize,
    ) -> Result<Permit<'a>, CallError> {
        if let Some(permit) = admission.try_acquire() {
            return Ok(permit);
        }
        let _waiting = self.wait().map_err(CallError::Refused)?;
        let too_many = || Refusal::TooManyInFlight {
            server: self.name(),
            limit,
        };
        match tokio::time::timeout_at(self.patience_until, admission.acquire()).await {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => Err(CallError::Refused(self.gone())),
            Err(_elapsed) => {
                let detail = format!("{limit} calls are in flight already");
                self.exceeded("concurrency", Generation::default(), &detail);
                Err(CallError::Refused(too_many()))
            }
        }
    }

    /// Leases the current generation, waiting at the edge while one is on its way. Level-triggered, cancel-safe.
    async fn lease(&self) -> Result<Lease, Refusal> {
        if let Some(lease) = self.try_lease() {
            return Ok(lease);
        }
        let mut view = self.slot.view.subscribe();
        let mut asked = false;
        let mut waiting = None;
        loop {
            // Look at the level first and at the generation second: a change in between only wakes us once too often.
            let seen = view.borrow_and_update().clone();
            if let Some(lease) = self.try_lease() {
                return Ok(lease);
            }
            if seen.shutting_down || self.slot.is_removed() {
                return Err(self.gone());
            }
            match seen.status.state {
                StateWord::Disabled => {
                    return Err(Refusal::Disabled {
                        server: self.name(),
                    });
                }
                StateWord::Parked => {
                    // Revived by a call at most every few seconds; the call itself does not wait for that (law 11).
                    let _ = self.reports.try_send(Input::Wanted);
                    return Err(Refusal::Parked(Box::new(self.parked(&seen.status))));
                }
                StateWord::Backoff if self.is_too_soon(&seen.status).is_some() => {
                    return Err(Refusal::TooSoon {
                        server: self.name(),
                        cause: seen.last_failure.map(|(failure, _)| failure),
                        next_attempt_in: self.is_too_soon(&seen.status).unwrap_or_default(),
                    });
                }
                StateWord::Idle if !asked => asked = self.reports.try_send(Input::Wanted),
                StateWord::Idle
                | StateWord::Connecting
                | StateWord::Connected
                | StateWord::Draining
                | StateWord::Backoff => {}
            }
            if waiting.is_none() {
                waiting = Some(self.wait()?);
            }
            match tokio::time::timeout_at(self.patience_until, view.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Err(self.gone()),
                Err(_elapsed) => {
                    return Err(Refusal::NotReady {
                        server: self.name(),
                        state: seen.status.state.word(),
                        waited_ms: ms(self.started.elapsed()),
                        cause: seen.last_failure.map(|(failure, _)| failure),
                        next_attempt_in: seen
                            .status
                            .next_attempt
                            .map(|at| self.slot.clock.ahead(at)),
                    });
                }
            }
        }
    }

    /// Why nothing becomes available any more.
    fn gone(&self) -> Refusal {
        gone(self.slot)
    }

    /// F18: how long until the next attempt, if that is longer than the call would wait.
    fn is_too_soon(&self, status: &mainstay_core::lifecycle::status::Status) -> Option<Duration> {
        let ahead = self.slot.clock.ahead(status.next_attempt?);
        (Instant::now() + ahead > self.patience_until).then_some(ahead)
    }

    /// Waits out the pause that the server's host asked for, if it ends within the patience of the call (F103). That is our
    /// time, not the server's (law 19). Cancel-safe.
    async fn keep_pause(&self, until: Instant) -> Result<(), Refusal> {
        if until > self.patience_until {
            return Err(Refusal::RateLimited {
                server: self.name(),
                wait_ms: ms(until.saturating_duration_since(Instant::now())),
            });
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    fn try_lease(&self) -> Option<Lease> {
        let current = self.slot.current.load();
        Lease::take(current.as_ref()?)
    }

    /// Waits until the given generation takes no more leases (it is broken, and the driver is being told). Bounded by the
    /// patience of the call; cancel-safe.
    async fn until_replaced(&self, broken: Generation) {
        let mut view = self.slot.view.subscribe();
        loop {
            view.borrow_and_update();
            let current = self
                .slot
                .current
                .load()
                .as_ref()
                .map(|runtime| runtime.generation);
            if current != Some(broken) {
                return;
            }
            if !matches!(
                tokio::time::timeout_at(self.patience_until, view.changed()).await,
                Ok(Ok(()))
            ) {
                return;
            }
        }
    }

    /// Law 16: refused and rejected requests may be sent again; a lost one only if the tool is read-only or idempotent on
    /// a server whose annotations are trusted, or by the operator's own word (`tools.retry`). Never guessed from names (F178).
    fn may_send_again(&self, miss: &Miss) -> bool {
        match miss {
            // Whether there are credentials has just been waited for, and is the same for the next attempt.
            Miss::NotSent(Cut::Ended(failure))
                if matches!(
                    failure.kind,
                    FailureKind::NeedsLogin | FailureKind::SignInDelayed
                ) =>
            {
                false
            }
            Miss::NotSent(Cut::Ended(_)) => true,
            // The operator's word is stricter than what is provable.
            Miss::Rejected(_) | Miss::Doubted(_) | Miss::Lost(_)
                if self.retry() == Some(ToolRetry::Never) =>
            {
                false
            }
            // F106: what the server itself refused for its session was not run; what only somebody refused may have been.
            Miss::Rejected(failure) if failure.kind == FailureKind::SessionLost => {
                self.replay() != Replay::Never
            }
            Miss::Rejected(failure) => failure.kind == FailureKind::RateLimited,
            Miss::Doubted(_) => match self.replay() {
                Replay::Never => false,
                Replay::Safe => self.safe_to_repeat(),
                Replay::Always => true,
            },
            // Somebody else was first: that would be so again (F100).
            Miss::Lost(Cut::Ended(failure)) if failure.kind == FailureKind::HttpStatus(409) => {
                false
            }
            Miss::Lost(Cut::Ended(_)) => self.safe_to_repeat(),
            // The answer came and was too large, or time is up: sending again would not help.
            // A server that gave a call up does not want it again.
            Miss::NotSent(Cut::Idle | Cut::Total | Cut::AnswerRefused(_) | Cut::Cancelled(_))
            | Miss::Lost(Cut::Idle | Cut::Total | Cut::AnswerRefused(_) | Cut::Cancelled(_)) => {
                false
            }
        }
    }

    fn replay(&self) -> Replay {
        self.slot.config.load().replay_after_session_loss
    }

    fn safe_to_repeat(&self) -> bool {
        match self.request.method() {
            method::TOOLS_CALL => {
                match self.retry() {
                    Some(ToolRetry::Never) => return false,
                    // The operator knows it, whatever the server says.
                    Some(ToolRetry::ReadOnly | ToolRetry::Idempotent) => return true,
                    None => {}
                }
                let config = self.slot.config.load();
                if !config.trust_annotations {
                    return false;
                }
                let Some(name) = self.tool_name() else {
                    return false;
                };
                let catalog = self.slot.catalog.load();
                let tool = catalog
                    .as_ref()
                    .and_then(|catalog| catalog.tools.find(&name));
                tool.is_some_and(|tool| ToolHints::of_tool(tool.as_str()).may_repeat())
            }
            // Reading changes nothing by the protocol's own definition.
            method => method::is_read_only(method),
        }
    }

    fn error(&self, miss: Miss) -> CallError {
        let server = self.name();
        match miss {
            Miss::NotSent(Cut::Ended(failure)) if failure.kind == FailureKind::RateLimited => {
                CallError::Refused(Refusal::RateLimited {
                    server,
                    wait_ms: failure.retry_after_ms.unwrap_or_default(),
                })
            }
            Miss::NotSent(Cut::Ended(failure))
                if matches!(
                    failure.kind,
                    FailureKind::NeedsLogin | FailureKind::SignInDelayed
                ) =>
            {
                CallError::Refused(Refusal::NoCredentials { server, failure })
            }
            Miss::NotSent(Cut::Ended(failure)) => {
                CallError::Refused(Refusal::Broken { server, failure })
            }
            Miss::NotSent(Cut::Idle | Cut::Total | Cut::AnswerRefused(_) | Cut::Cancelled(_)) => {
                CallError::Refused(Refusal::DeadlineInQueue {
                    server,
                    waited_ms: ms(self.started.elapsed()),
                })
            }
            Miss::Rejected(failure) => CallError::Rejected(Lost::Transport { server, failure }),
            Miss::Doubted(failure) | Miss::Lost(Cut::Ended(failure)) => {
                CallError::Unknown(Lost::Ended { server, failure })
            }
            Miss::Lost(Cut::Idle) => CallError::Unknown(Lost::Idle {
                server,
                idle_ms: ms(self.idle),
            }),
            Miss::Lost(Cut::Total) => CallError::Unknown(Lost::Total {
                server,
                total_ms: ms(self.total),
            }),
            Miss::Lost(Cut::Cancelled(reason)) => {
                CallError::Unknown(Lost::Cancelled { server, reason })
            }
            Miss::Lost(Cut::AnswerRefused(why)) => {
                CallError::Unknown(Lost::AnswerRefused { server, why })
            }
        }
    }

    fn parked(&self, status: &mainstay_core::lifecycle::status::Status) -> ParkedRefusal {
        ParkedRefusal {
            server: self.name(),
            cause: status.cause.clone(),
            since: self.slot.clock.ago(status.since),
            next_attempt_in: status.next_attempt.map(|at| self.slot.clock.ahead(at)),
            // Where there is nobody to log in, the cause says what to bring.
            hint: status
                .hint
                .filter(|_| !self.slot.config.load().auth.exchanges_callers()),
        }
    }

    fn name(&self) -> Box<str> {
        (&*self.slot.name).into()
    }
}

/// Why nothing of a server becomes available any more: it was taken out of the config, or everything ends.
pub(crate) fn gone(slot: &Slot) -> Refusal {
    if slot.is_removed() {
        return Refusal::Removed {
            server: (&*slot.name).into(),
        };
    }
    Refusal::ShuttingDown
}

/// Whether the server's host asked to be left alone instead of answering.
fn is_throttled(miss: &Miss) -> bool {
    match miss {
        Miss::Rejected(failure)
        | Miss::Doubted(failure)
        | Miss::NotSent(Cut::Ended(failure))
        | Miss::Lost(Cut::Ended(failure)) => failure.kind == FailureKind::RateLimited,
        Miss::NotSent(Cut::Idle | Cut::Total | Cut::AnswerRefused(_) | Cut::Cancelled(_))
        | Miss::Lost(Cut::Idle | Cut::Total | Cut::AnswerRefused(_) | Cut::Cancelled(_)) => false,
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
