//! What the HTTP+SSE transport of 2024-11-05 needs of HTTP: one event stream that stays open, and messages that are taken or
//! refused at another address of the same origin. What the transport makes of it is `runtime::sse`'s.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Method, Response, Uri};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::envelope::{Kind, Message, Refused};
use mainstay_wire::id::Id;
use mainstay_wire::revision::Revision;
use mainstay_wire::splice::Parts;

use super::answer::{Framing, framing};
use super::body::{self, InBody, Payload};
use super::client::bounded;
use super::stream::{Events, Position, Said};
use super::verdict::{self, Asked, Verdict};
use super::{CallMark, DRAIN, HttpLink, Routing};
use crate::runtime::{Cut, Miss};

/// Why a GET opened no stream of this transport.
#[derive(Debug)]
pub(crate) enum NoStream {
    /// The address answered like one that has no such stream: it may speak another transport.
    NotOffered(Failure),
    /// It could not be reached, refused us, or broke off: no verdict on its transport.
    Failed(Failure),
}

/// What became of a message that was handed in.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for a moment, and the large one is rare"
)]
pub(crate) enum HandedIn {
    /// Taken; the answer comes on the stream.
    Accepted,
    /// The answer came right here, as some servers do.
    Answered(Message),
}

/// What the stream says next.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the ordinary one, and lives for a moment"
)]
pub(crate) enum Heard {
    /// A message.
    Message(Message),
    /// The address for messages, as the server wrote it.
    Endpoint(String),
    /// Something that should have been a message.
    Refused(Refused),
    /// A comment: life, and nothing else.
    Life,
    /// Something else, in words.
    Skipped(&'static str),
    /// The stream ended: cleanly, or with this failure.
    End(Option<Failure>),
}

/// The one event stream of an HTTP+SSE server.
#[derive(Debug)]
pub(crate) struct OldStream {
    events: Events,
    /// Never used to resume: this transport cannot.
    position: Position,
}

impl OldStream {
    /// What comes next. Cancel-safe: nothing is lost when it is dropped.
    pub(crate) async fn next(&mut self) -> Heard {
        match self.events.next(&mut self.position).await {
            Said::Message(message) => Heard::Message(message),
            Said::Refused(fault) | Said::Runaway(fault) => Heard::Refused(fault),
            Said::Life => Heard::Life,
            Said::Skipped(what) => match self.events.take_endpoint() {
                // Never mended: what is no text names no place, and a guess would send messages to another one.
                Some(address) => match String::from_utf8(address.to_vec()) {
                    Ok(address) => Heard::Endpoint(address),
                    Err(_not_text) => Heard::Skipped("an endpoint that is not UTF-8"),
                },
                None => Heard::Skipped(what),
            },
            Said::End(failure) => Heard::End(failure),
        }
    }
}

impl HttpLink {
    /// Whether the last greeting was refused in the way that the specification names for servers of 2024-11-05.
    pub(crate) fn may_be_old(&self) -> bool {
        self.unserved.load(Ordering::Relaxed)
    }

    /// The address, for messages: nothing in it is secret.
    pub(crate) fn place(&self) -> &str {
        self.target.place()
    }

    /// Where messages go, if the server may say so.
    pub(crate) fn endpoint(&self, reference: &str) -> Result<Uri, Failure> {
        self.target.within_origin(reference)
    }

    /// Opens the event stream. Cancel-safe: dropping it gives the request up.
    pub(crate) async fn open_old(&self) -> Result<OldStream, NoStream> {
        self.face.store(self.bare.clone().into());
        let headers = || self.bare.for_get(None);
        let response = self
            .send(&self.streams, Method::GET, headers, &Payload::Empty, None)
            .await
            .map_err(|failure| NoStream::Failed(self.told(failure)))?;
        if !response.status().is_success() || framing(response.headers()) != Framing::Events {
            return Err(self.no_stream(response).await);
        }
        Ok(OldStream {
            events: Events::shared(response.into_body(), self.limits),
            position: Position::default(),
        })
    }

    async fn no_stream(&self, response: Response<InBody>) -> NoStream {
        let (head, body) = response.into_parts();
        let place = self.target.place();
        if head.status.is_success() {
            self.drain(body);
            let detail = format!("GET {place} answers with no event stream");
            return NoStream::NotOffered(
                Failure::new(FailureKind::NotMcp).with_detail(bounded(&detail)),
            );
        }
        let said = body::collect_some(body).await;
        let asked = Asked {
            id: None,
            session: false,
            modern: false,
            limits: self.limits,
        };
        let failure = match verdict::judge(&self.target, head.status, &head.headers, said, &asked) {
            Verdict::Rejected(failure)
            | Verdict::Doubted(failure)
            | Verdict::Suspected(failure)
            | Verdict::Lost(failure) => failure,
            Verdict::Answer(error) => verdict::error_failure(&error),
        };
        match head.status.as_u16() {
            status @ (400 | 404 | 405 | 406 | 410 | 501) => {
                let detail =
                    format!("HTTP {status} to GET {place}: there is no event stream of HTTP+SSE");
                NoStream::NotOffered(
                    Failure::new(FailureKind::NotMcp).with_detail(bounded(&detail)),
                )
            }
            _ => NoStream::Failed(self.told(failure)),
        }
    }

    /// Says from now on which revision was agreed on.
    pub(crate) fn agree_old(&self, revision: Revision) {
        let agreed = self.face.load().agreed(revision, None);
        self.face.store(agreed.into());
    }

    /// Hands in one message. `id` is ours if it is a request. Without any limit in time: deadlines are the caller's.
    pub(crate) async fn hand_in(
        &self,
        endpoint: Uri,
        message: Parts,
        id: Option<u64>,
        mark: &Arc<CallMark>,
    ) -> Result<HandedIn, Miss> {
        let handed = self.hand_over(endpoint, message, id, mark).await;
        handed.map_err(|miss| self.told_miss(miss))
    }

    async fn hand_over(
        &self,
        endpoint: Uri,
        message: Parts,
        id: Option<u64>,
        mark: &Arc<CallMark>,
    ) -> Result<HandedIn, Miss> {
        let face = self.face.load_full();
        let payload = Payload::of(message);
        // Nothing is routed by headers in this era.
        let routing = Routing {
            method: "",
            name: None,
            params: &[],
        };
        let headers = || face.for_post(routing);
        let response = self
            .send_to(
                &self.calls,
                endpoint,
                Method::POST,
                headers,
                &payload,
                Some(mark),
            )
            .await
            .map_err(|failure| mark.cut(Cut::Ended(failure)))?;
        let (head, mut body) = response.into_parts();
        if head.status.is_success() {
            if id.is_none() || framing(&head.headers) != Framing::Json {
                self.drain(body);
                return Ok(HandedIn::Accepted);
            }
            let collected = body::collect(&mut body, self.limits.message_bytes_max).await;
            let answer = collected
                .ok()
                .and_then(|text| Message::parse(text, &self.limits).ok())
                .filter(|message| is_answer(message, id));
            return Ok(answer.map_or(HandedIn::Accepted, HandedIn::Answered));
        }
        let said = body::collect_some(body).await;
        // The transport of the TypeScript SDK says 400 and speaks of the session where the specification would say 404.
        let of_session = head.status.as_u16() == 400
            && String::from_utf8_lossy(said.get(..1024).unwrap_or(&said))
                .to_ascii_lowercase()
                .contains("session");
        if of_session {
            let detail = format!("HTTP 400: {}", verdict::preview(&self.target, &said));
            return Err(Miss::Rejected(
                Failure::new(FailureKind::SessionLost).with_detail(bounded(&detail)),
            ));
        }
        let asked = Asked {
            id,
            session: true,
            modern: false,
            limits: self.limits,
        };
        match verdict::judge(&self.target, head.status, &head.headers, said, &asked) {
            Verdict::Answer(error) => Ok(HandedIn::Answered(error)),
            Verdict::Rejected(failure) => Err(Miss::Rejected(failure)),
            Verdict::Doubted(failure) => Err(Miss::Doubted(failure)),
            // There is no session to ask here but the stream itself, and that one tells its own end.
            Verdict::Suspected(failure) | Verdict::Lost(failure) => {
                Err(Miss::Lost(Cut::Ended(failure)))
            }
        }
    }

    /// Lets the rest of an exchange end in the background, bounded in time and by the end of the link: its answer has come
    /// another way, and its connection can be used again.
    pub(crate) fn see_off(&self, rest: impl Future<Output = ()> + Send + 'static) {
        if self.closing.is_cancelled() {
            return;
        }
        let closing = self.closing.clone();
        self.drains.spawn(async move {
            tokio::select! {
                // Cancel-safe: what is not read is thrown away with its connection.
                _ = tokio::time::timeout(DRAIN, rest) => {}
                // Cancel-safe: a token holds nothing.
                () = closing.cancelled() => {}
            }
        });
    }
}

fn is_answer(message: &Message, id: Option<u64>) -> bool {
    let own = message.id().and_then(Id::as_u64) == id;
    match message.kind() {
        Kind::Result => own,
        // An error without an id can only mean the request that it was sent in answer to (F34).
        Kind::Error => own || message.id().is_none_or(|id| id.as_u64().is_none()),
        Kind::Request | Kind::Notification => false,
    }
}
