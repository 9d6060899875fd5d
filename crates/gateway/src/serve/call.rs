//! One call on its way: what is said while it runs, its answer, and what happens when the client leaves.
//!
//! The plain path is one future and one JSON answer. The answer becomes an event stream only when there is something to
//! say before it (progress, log messages, requests of the server), or as a sign of life after a long silence. Once it is a
//! stream, its HTTP status can no longer tell anything. What is said, and how the eras are bridged, is `bridge`'s business.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use http::StatusCode;
use mainstay::{Answer, CallError, CallOptions, ClientFace, Origin};
use mainstay_wire::{Era, Id, Parts, codes};
use tokio::time::Instant;

use super::Shared;
use super::adapt::{Fitted, Recipient, fit};
use super::body::{self, Reply};
use super::bridge::voice::Voice;
use super::bridge::{self, legacy, modern};
use super::endpoint::Routed;
use super::endpoint::others::Issuer;
use super::events;
use super::fault::Fault;
use crate::policy::approvals::Wanted;
use crate::policy::gate::Pass;

/// Who calls.
pub(crate) struct Caller {
    /// The client's request id.
    pub(crate) id: Id,
    /// The method.
    pub(crate) method: Box<str>,
    /// The client's progress token as raw JSON, if it wants progress.
    pub(crate) progress_token: Option<Box<str>>,
    /// What the client declared about itself.
    pub(crate) face: ClientFace,
    /// Where the call comes from, for its record.
    pub(crate) origin: Arc<Origin>,
    /// The info object for results that must name their server.
    pub(crate) info: String,
    /// Where a task that comes of it is to be remembered.
    pub(crate) issuer: Option<Issuer>,
    /// Whose call it is.
    pub(crate) who: Arc<super::caller::Caller>,
    /// What let it in, where anything was looked at. It lasts as long as the call.
    pub(crate) pass: Option<Pass>,
}

impl Caller {
    /// The word of somebody that is needed before anything is sent.
    pub(crate) fn wanted(&self) -> Option<&Wanted> {
        self.pass.as_ref().and_then(Pass::wanted)
    }

    /// Notes how it ended.
    pub(crate) fn ends(&self, outcome: &str) {
        if let Some(pass) = &self.pass {
            pass.ends(outcome);
        }
    }
}

/// `None`: the client cancelled the call, nothing is to be sent.
pub(crate) type Outcome = Option<Fitted>;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A call that may outlive its connection: in the legacy era a disconnect is no cancellation, in the modern era it is.
struct Call {
    running: Option<Running>,
    survive: Option<Arc<Shared>>,
}

impl Call {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(running) = self.running.as_mut() else {
            return Poll::Ready(None);
        };
        let outcome = std::task::ready!(running.as_mut().poll(cx));
        self.running = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let (Some(running), Some(shared)) = (self.running.take(), self.survive.take())
            && tokio::runtime::Handle::try_current().is_ok()
        {
            // The answer finds nobody (resuming a broken answer comes with event ids); what matters is that the server
            // is not told to stop. The call ends by its own deadline, by `notifications/cancelled`, or at shutdown.
            shared.tasks.clone().spawn(async move {
                tokio::select! {
                    // Cancel-safe: nobody waits for either.
                    _ = running => {}
                    () = shared.hurry.cancelled() => {}
                }
            });
        }
    }
}

/// Makes a call of a modern client and answers it. Dropping this future is what a disconnect does: it cancels the call,
/// unless the call is parked between two requests of the client.
pub(crate) async fn of_modern(
    shared: &Arc<Shared>,
    routed: Routed,
    caller: Caller,
    asked: modern::Request,
) -> Reply {
    let server_era = bridge::era_of(shared, &routed.server);
    let says_nothing = caller.progress_token.is_none() && asked.log_level.is_none();
    let mut voice = None;
    // A modern server asks nothing while a call is on its way.
    let sent_at_once = !asked.is_ours && caller.wanted().is_none();
    let running: Running = if server_era == Some(Era::Modern) && says_nothing && sent_at_once {
        Box::pin(plain(Arc::clone(shared), routed, caller, asked))
    } else {
        let said = voice.insert(Voice::default()).clone();
        Box::pin(modern::run(Arc::clone(shared), routed, caller, asked, said))
    };
    let call = Call {
        running: Some(running),
        survive: None,
    };
    Exchange::new(shared, call, voice, Era::Modern)
        .reply()
        .await
}

/// Makes a call inside a session and answers it. A disconnect does not cancel it.
pub(crate) async fn of_session(
    shared: &Arc<Shared>,
    routed: Routed,
    caller: Caller,
    client: legacy::Client,
) -> Reply {
    let voice = Voice::default();
    let running = legacy::run(Arc::clone(shared), routed, caller, client, voice.clone());
    let call = Call {
        running: Some(Box::pin(running)),
        survive: Some(Arc::clone(shared)),
    };
    Exchange::new(shared, call, Some(voice), Era::Legacy)
        .reply()
        .await
}

/// A call during which nothing can be said.
async fn plain(
    shared: Arc<Shared>,
    routed: Routed,
    caller: Caller,
    asked: modern::Request,
) -> Outcome {
    let options = CallOptions {
        client: Some(caller.face.clone()),
        origin: Some(Arc::clone(&caller.origin)),
        ..CallOptions::default()
    };
    let again = routed.clone();
    match routed.server.request(routed.request, options).await {
        // In a box of its own: what few calls need must not make the state of every call larger.
        Err(error) => Box::pin(modern::stopped(shared, again, caller, asked, error)).await,
        answered => Some(fitted(answered, Era::Modern, &caller)),
    }
}

/// What a client reads of a call's outcome.
pub(crate) fn fitted(answered: Result<Answer, CallError>, era: Era, caller: &Caller) -> Fitted {
    match answered {
        Ok(answer) => {
            if let Some(issuer) = &caller.issuer {
                issuer.note(&answer.message);
            }
            caller.ends(outcome_of(&answer));
            let to = Recipient {
                era,
                id: &caller.id,
                method: &caller.method,
                info: &caller.info,
            };
            fit(&answer, to)
        }
        Err(error) => {
            caller.ends(error.class());
            refit(&Fault::from(&error), caller)
        }
    }
}

/// An answer in a word of the outcomes of calls.
fn outcome_of(answer: &Answer) -> &'static str {
    if answer.message.error().is_some() {
        return "serverError";
    }
    match answer.message.member(&["result", "isError"]) {
        Some("true") => "toolError",
        Some(_) | None => "answered",
    }
}

/// What a client reads of an error of ours.
pub(crate) fn failed(fault: &Fault, caller: &Caller) -> Fitted {
    let outcome = fault
        .data
        .as_ref()
        .and_then(|data| data["outcome"].as_str());
    caller.ends(outcome.unwrap_or("refused"));
    refit(fault, caller)
}

fn refit(fault: &Fault, caller: &Caller) -> Fitted {
    Fitted {
        parts: fault.answer(Some(&caller.id)),
        code: Some(fault.code),
    }
}

/// The HTTP status of an answer that is still free to have one.
pub(crate) fn status(era: Era, code: Option<i64>) -> StatusCode {
    match (era, code) {
        (Era::Modern, Some(code)) => {
            StatusCode::from_u16(codes::modern_http_status(code)).unwrap_or(StatusCode::OK)
        }
        (Era::Modern, None) | (Era::Legacy, _) => StatusCode::OK,
    }
}

struct Exchange {
    call: Call,
    voice: Option<Voice>,
    era: Era,
    /// The outcome, while something that was said before it is still to be heard.
    outcome: Option<Outcome>,
    keep_alive: Duration,
    over: bool,
}

enum Next {
    Say(Parts),
    Answer(Outcome),
}

impl Exchange {
    fn new(shared: &Shared, call: Call, voice: Option<Voice>, era: Era) -> Self {
        Self {
            call,
            voice,
            era,
            outcome: None,
            keep_alive: Duration::from_millis(shared.settings.keep_alive_ms),
            over: false,
        }
    }

    async fn reply(mut self) -> Reply {
        match self.next().await {
            // Before anything else was said, the answer is plain JSON and its status is still free.
            Next::Answer(Some(fitted)) => body::json(status(self.era, fitted.code), fitted.parts),
            Next::Answer(None) => body::events(stream::empty().boxed()),
            Next::Say(first) => {
                let first = stream::once(std::future::ready(first));
                body::events(first.chain(self.into_stream()).boxed())
            }
        }
    }

    /// What comes next. What was said before the answer is always heard before it.
    async fn next(&mut self) -> Next {
        let silent_until = Instant::now() + self.keep_alive;
        tokio::select! {
            biased;
            // Cancel-safe: the call and what was said stay where they are.
            next = std::future::poll_fn(|cx| self.poll(cx)) => next,
            // Cancel-safe: a sleep holds nothing.
            () = tokio::time::sleep_until(silent_until) => Next::Say(events::comment()),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.outcome.is_none()
            && let Poll::Ready(outcome) = self.call.poll(cx)
        {
            self.outcome = Some(outcome);
        }
        if let Some(said) = self.voice.as_ref().and_then(Voice::next) {
            return Poll::Ready(Next::Say(events::frame(said)));
        }
        match self.outcome.take() {
            Some(outcome) => Poll::Ready(Next::Answer(outcome)),
            None => Poll::Pending,
        }
    }

    /// The rest of an answer that has become a stream; the answer itself is its last event.
    fn into_stream(self) -> impl futures_util::Stream<Item = Parts> + Send {
        stream::unfold(self, |mut exchange| async move {
            if exchange.over {
                return None;
            }
            match exchange.next().await {
                Next::Say(text) => Some((text, exchange)),
                Next::Answer(Some(fitted)) => {
                    exchange.over = true;
                    Some((events::frame(fitted.parts), exchange))
                }
                Next::Answer(None) => None,
            }
        })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(voice) = &self.voice {
            voice.falls_silent();
        }
    }
}
