//! The HTTP+SSE transport of 2024-11-05 towards a server: a GET opens the event stream, its first event names the address
//! for messages, POSTs are accepted there, and every answer comes on the one stream.
//!
//! The stream is the session: when it ends, the generation has ended, and nothing of it can be resumed. This is a link, not
//! a policy: it never reconnects and never sends anything twice.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Uri;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::envelope::Message;
use mainstay_wire::revision::Revision;
use mainstay_wire::splice::Parts;
use tokio::sync::oneshot;

use super::http::{HandedIn, Heard, HttpLink, NoStream, OldStream};
use super::waiters::CallMark;
use super::{Cut, Inbound, Miss, Origin, Outgoing, Runtime};

/// How long a notification or an answer to the server may take.
const NOTIFY: Duration = Duration::from_secs(10);

/// The way into an HTTP+SSE server, for one generation.
pub(crate) struct SseLink {
    http: Arc<HttpLink>,
    /// Where messages go: known once the stream is open, and the same until it ends.
    endpoint: OnceLock<Uri>,
}

impl fmt::Debug for SseLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The endpoint holds the session's secret (law 31).
        f.debug_struct("SseLink")
            .field("place", &self.http.place())
            .finish_non_exhaustive()
    }
}

impl SseLink {
    /// A link that is not open yet.
    pub(crate) fn new(http: Arc<HttpLink>) -> Self {
        Self {
            http,
            endpoint: OnceLock::new(),
        }
    }

    /// What moves its bytes.
    pub(crate) fn http(&self) -> &HttpLink {
        &self.http
    }

    /// Opens the stream and waits for the `endpoint` event. Without any limit in time; cancel-safe: dropping it closes the
    /// stream.
    ///
    /// # Errors
    /// [`NoStream`]: whether the address may speak another transport. An endpoint at another origin is refused (law 31).
    pub(crate) async fn open(&self) -> Result<OldStream, NoStream> {
        let mut stream = self.http.open_old().await?;
        loop {
            match stream.next().await {
                Heard::Endpoint(reference) => {
                    let uri = self.http.endpoint(&reference).map_err(NoStream::Failed)?;
                    // The first one counts: a link is opened once.
                    let _ = self.endpoint.set(uri);
                    return Ok(stream);
                }
                Heard::Message(_) | Heard::Refused(_) | Heard::Life | Heard::Skipped(_) => {}
                Heard::End(failure) => {
                    let failure = failure.unwrap_or_else(|| {
                        Failure::new(FailureKind::StreamClosed)
                            .with_detail("the event stream ended before its `endpoint` event")
                    });
                    return Err(NoStream::Failed(failure));
                }
            }
        }
    }

    /// Says from now on which revision was agreed on.
    pub(crate) fn agree(&self, revision: Revision) {
        self.http.agree_old(revision);
    }

    /// Sends one request and waits for its answer from the stream, without any limit in time: deadlines are the caller's
    /// (law 17). `None`: the connection ended first. Dropping it closes the connection of the POST, if that is still under
    /// way; the server is not told.
    pub(crate) async fn exchange(
        &self,
        outgoing: Outgoing,
        mut answer: oneshot::Receiver<Result<Message, String>>,
    ) -> Option<Result<Message, Miss>> {
        let Some(endpoint) = self.endpoint.get().cloned() else {
            return Some(Err(Miss::NotSent(Cut::Ended(not_open()))));
        };
        let http = Arc::clone(&self.http);
        let Outgoing {
            id, parts, mark, ..
        } = outgoing;
        let mut handing =
            Box::pin(async move { http.hand_in(endpoint, parts, Some(id), &mark).await });
        tokio::select! {
            biased;
            // Cancel-safe: the receiver keeps an answer that has come.
            answered = &mut answer => {
                // The answer was faster than the receipt.
                self.http.see_off(async move { let _ = handing.await; });
                return read(answered.ok());
            }
            // Not dropped by the other arm: it ends in the background.
            handed = &mut handing => match handed {
                Ok(HandedIn::Accepted) => {}
                Ok(HandedIn::Answered(message)) => return Some(Ok(message)),
                Err(miss) => return Some(Err(miss)),
            },
        }
        read(answer.await.ok())
    }

    /// Sends a notification, or our answer to a request of the server. Bounded by 10 seconds.
    ///
    /// # Errors
    /// The failure to deliver it.
    pub(crate) async fn notify(&self, message: Message) -> Result<(), Failure> {
        let endpoint = self.endpoint.get().cloned().ok_or_else(not_open)?;
        let mark = Arc::new(CallMark::default());
        let telling = self
            .http
            .hand_in(endpoint, Parts::from(message), None, &mark);
        match tokio::time::timeout(NOTIFY, telling).await {
            Ok(Ok(HandedIn::Accepted | HandedIn::Answered(_))) => Ok(()),
            Ok(Err(
                Miss::NotSent(Cut::Ended(failure))
                | Miss::Rejected(failure)
                | Miss::Doubted(failure)
                | Miss::Lost(Cut::Ended(failure)),
            )) => Err(failure),
            Ok(Err(Miss::NotSent(cut) | Miss::Lost(cut))) => {
                Err(Failure::new(FailureKind::StreamClosed).with_detail(format!("{cut:?}")))
            }
            Err(_elapsed) => Err(Failure::new(FailureKind::StreamClosed).with_detail(format!(
                "the message was not accepted within {} ms",
                NOTIFY.as_millis()
            ))),
        }
    }
}

fn not_open() -> Failure {
    Failure::new(FailureKind::StreamClosed).with_detail("the event stream is not open")
}

fn read(answered: Option<Result<Message, String>>) -> Option<Result<Message, Miss>> {
    answered.map(|answer| answer.map_err(|why| Miss::Lost(Cut::AnswerRefused(why.into()))))
}

/// Reads the stream until it ends, and says how it ended. Never waits for anything but the stream.
pub(crate) async fn listen(mut stream: OldStream, runtime: &Runtime) -> Failure {
    loop {
        match stream.next().await {
            Heard::Message(message) => runtime.receive(message, Origin::Push),
            Heard::Refused(refused) => {
                let why = refused.to_string();
                if !runtime.refuse_answer(refused.id.as_ref(), why.clone()) {
                    runtime.skipped("refused message", &why);
                }
            }
            Heard::Life => runtime.life(),
            // A second address would change where headers go in the middle of a session: the first one stays.
            Heard::Endpoint(_) => runtime.skipped("repeated endpoint event", ""),
            Heard::Skipped(what) => runtime.skipped(what, ""),
            Heard::End(failure) => {
                return failure.unwrap_or_else(|| {
                    Failure::new(FailureKind::StreamClosed)
                        .with_detail("the server ended its event stream")
                });
            }
        }
    }
}
