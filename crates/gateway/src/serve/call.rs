//! One call on its way: progress while it runs, its answer, and what happens when the client leaves.
//!
//! The plain path is one future and one JSON answer. The answer becomes an event stream only when there is something to
//! say before it: progress that the client asked for, or a sign of life after a long silence. Once it is a stream, its
//! HTTP status can no longer tell anything.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use http::StatusCode;
use mainstay::{CallOptions, ClientFace, Said};
use mainstay_wire::{Era, Id, Message, Parts, codes};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::adapt::{Fitted, Recipient, fit};
use super::body::{self, Reply};
use super::endpoint::Routed;
use super::events;
use super::fault::Fault;
use super::sessions::CallInFlight;

/// Progress that waits for a slow client; what comes beyond it is dropped by its sender, the call is not.
const PROGRESS_WAITING_MAX: usize = 64;

/// Who calls, and what is to become of the call without its client.
pub(crate) struct Caller {
    /// The era that the client speaks.
    pub(crate) era: Era,
    /// The client's request id.
    pub(crate) id: Id,
    /// The method.
    pub(crate) method: Box<str>,
    /// The client's progress token as raw JSON, if it wants progress.
    pub(crate) progress_token: Option<Box<str>>,
    /// What to tell servers of the modern era about the client.
    pub(crate) face: Option<ClientFace>,
    /// The info object for results that must name their server.
    pub(crate) info: String,
    /// Legacy only: the entry by which the client can cancel the call. Such a call also survives its connection.
    pub(crate) in_flight: Option<CallInFlight>,
}

/// `None`: the client cancelled the call, nothing is to be sent.
type Outcome = Option<Fitted>;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A call that may outlive its connection: in the legacy era a disconnect is no cancellation, in the modern era it is.
struct Call {
    running: Option<Running>,
    survive: Option<Arc<Shared>>,
}

impl Future for Call {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
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

/// Makes the call and answers it. Dropping this future is what a disconnect does.
pub(crate) async fn answer(shared: &Arc<Shared>, routed: Routed, caller: Caller) -> Reply {
    let era = caller.era;
    let token = caller.progress_token.clone();
    let (sender, progress) = match &token {
        Some(_) => {
            let (sender, receiver) = mpsc::channel(PROGRESS_WAITING_MAX);
            (Some(sender), Some(receiver))
        }
        None => (None, None),
    };
    let survive = caller.in_flight.is_some().then(|| Arc::clone(shared));
    let mut exchange = Exchange {
        call: Call {
            running: Some(Box::pin(run(routed, caller, sender))),
            survive,
        },
        progress,
        token: token.unwrap_or_default(),
        keep_alive: Duration::from_millis(shared.settings.keep_alive_ms),
        over: false,
    };
    match exchange.next().await {
        // Before anything else was said, the answer is plain JSON and its status is still free.
        Next::Answer(Some(fitted)) => body::json(status(era, fitted.code), fitted.parts),
        Next::Answer(None) => body::events(stream::empty().boxed()),
        Next::Say(first) => {
            let first = stream::once(std::future::ready(first));
            body::events(first.chain(exchange.into_stream()).boxed())
        }
    }
}

/// The call itself, up to the bytes of its answer.
async fn run(routed: Routed, caller: Caller, hear: Option<mpsc::Sender<Said>>) -> Outcome {
    let options = CallOptions {
        progress: caller.progress_token.is_some(),
        hear,
        client: caller.face,
        ..CallOptions::default()
    };
    let requested = routed.server.request(routed.request, options);
    let answered = match &caller.in_flight {
        None => requested.await,
        Some(in_flight) => tokio::select! {
            biased;
            // Cancel-safe: if the other arm wins, dropping the request is what cancels it at the server (law 18).
            answered = requested => answered,
            // Cancel-safe: the call is over when this resolves.
            () = in_flight.cancelled() => return None,
        },
    };
    let to = Recipient {
        era: caller.era,
        id: &caller.id,
        method: &caller.method,
        info: &caller.info,
    };
    Some(match answered {
        Ok(answer) => fit(&answer, to),
        Err(error) => {
            let fault = Fault::from(&error);
            Fitted {
                parts: fault.answer(Some(&caller.id)),
                code: Some(fault.code),
            }
        }
    })
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
    progress: Option<mpsc::Receiver<Said>>,
    token: Box<str>,
    keep_alive: Duration,
    over: bool,
}

enum Next {
    Say(Parts),
    Answer(Outcome),
}

impl Exchange {
    /// What comes next. Progress that came before the answer is always said before it.
    async fn next(&mut self) -> Next {
        let silent_until = Instant::now() + self.keep_alive;
        let Some(progress) = self.progress.as_mut() else {
            return tokio::select! {
                biased;
                // Cancel-safe: the call stays where it is and is polled again.
                outcome = &mut self.call => Next::Answer(outcome),
                // Cancel-safe: a sleep holds nothing.
                () = tokio::time::sleep_until(silent_until) => Next::Say(events::comment()),
            };
        };
        tokio::select! {
            biased;
            // Cancel-safe: a channel keeps what was not received. First, because progress precedes the answer.
            said = progress.recv() => match said {
                Some(said) => Next::Say(heard(said, &self.token)),
                None => {
                    self.progress = None;
                    Next::Answer((&mut self.call).await)
                }
            },
            // Cancel-safe: the call stays where it is and is polled again.
            outcome = &mut self.call => match progress.try_recv() {
                Ok(said) => {
                    let said = heard(said, &self.token);
                    self.call = Call { running: Some(Box::pin(std::future::ready(outcome))), survive: None };
                    Next::Say(said)
                }
                Err(_nothing_left) => Next::Answer(outcome),
            },
            // Cancel-safe: a sleep holds nothing.
            () = tokio::time::sleep_until(silent_until) => Next::Say(events::comment()),
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

/// What a server says during the call, as the client reads it. Only progress is carried so far: a question that is
/// dropped is refused to the server.
fn heard(said: Said, token: &str) -> Parts {
    match said {
        Said::Progress(message) => events::frame(progress_of(&message, token)),
        Said::Notice(_) | Said::Ask(_) => events::comment(),
    }
}

/// A progress notification under the client's own token, as it gave it.
fn progress_of(message: &Message, token: &str) -> Parts {
    let restored = message
        .edit()
        .set(&["params", "progressToken"], token)
        .finish();
    // The manager passes on only notifications that carry our token, so there is one to replace.
    restored.unwrap_or_else(|_| Parts::from(message))
}
