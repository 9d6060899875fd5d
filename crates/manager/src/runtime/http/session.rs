//! Whether what was agreed on with the server still stands: its session, and the revision that both sides speak.

use std::time::Duration;

use http::StatusCode;
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::codes;
use mainstay_wire::envelope::{Kind, Message};
use mainstay_wire::id::Id;
use mainstay_wire::method;
use mainstay_wire::splice::Parts;

use super::answer::{Framing, framing};
use super::body::{self, InBody, Payload};
use super::client::bounded;
use super::face::Face;
use super::stream::{Events, Position, Said};
use super::verdict::{self, Asked, Verdict};
use super::{HttpLink, Routing};
use crate::runtime::Miss;

/// How long a session may take to say that it lives. A session that says nothing is not gone: the answer at hand stands.
const CHECK: Duration = Duration::from_secs(5);

/// The id of our question. A string, so that it never equals the number of a call in flight.
const CHECK_ID: &str = "mainstay-session-check";

impl HttpLink {
    /// Asks the session itself whether it is gone, by a ping that changes nothing. For answers whose words may mean a lost
    /// session or something of the tool's own (F90, F91). However many calls ask at once, one question is in flight, and
    /// a session found gone is never asked again. Bounded by 5 seconds; cancel-safe.
    pub(super) async fn session_is_gone(&self, face: &Face) -> bool {
        // Boxed: it is rare, and would otherwise be part of the state of every call.
        let asking = Box::pin(self.gone.get_or_try_init(|| async {
            match tokio::time::timeout(CHECK, self.refuses_session(face)).await {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(()),
            }
        }));
        asking.await.is_ok()
    }

    async fn refuses_session(&self, face: &Face) -> bool {
        let ping = Message::request(&Id::string(CHECK_ID), method::PING, None);
        let payload = Payload::of(Parts::from(ping));
        let routing = Routing {
            method: method::PING,
            name: None,
            params: &[],
        };
        let Ok(response) = self.post(face, routing, &payload, None).await else {
            return false;
        };
        let asked = Asked {
            id: None,
            ..self.asked(face, 0)
        };
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            let said = match framing(&head.headers) {
                Framing::Json if head.status == StatusCode::OK => {
                    Message::parse(body::collect_some(body).await, &asked.limits).ok()
                }
                Framing::Events => self.first_message(body).await,
                Framing::Json | Framing::Other(_) => None,
            };
            return said.is_some_and(|message| {
                message.kind() == Kind::Error && verdict::may_be_lost_session(&message, &asked)
            });
        }
        let said = body::collect_some(body).await;
        match verdict::judge(&self.target, head.status, &head.headers, said, &asked) {
            Verdict::Rejected(failure)
            | Verdict::Doubted(failure)
            | Verdict::Suspected(failure) => failure.kind == FailureKind::SessionLost,
            Verdict::Answer(_) | Verdict::Lost(_) => false,
        }
    }

    async fn first_message(&self, body: InBody) -> Option<Message> {
        let mut position = Position::default();
        let mut events = Events::new(body, self.limits);
        loop {
            match events.next(&mut position).await {
                Said::Message(message) => return Some(message),
                Said::Life | Said::Skipped(_) => {}
                Said::Refused(_) | Said::Runaway(_) | Said::End(_) => return None,
            }
        }
    }
}

/// An answer, unless it says that the server no longer speaks the revision that was agreed on (F138, F139). Such a
/// request was refused before it ran, and what was agreed on is gone like a session: everybody has to be greeted anew.
pub(super) fn still_agreed(answer: Message) -> Result<Message, Miss> {
    if answer.kind() != Kind::Error
        || verdict::error_code(&answer) != Some(codes::UNSUPPORTED_PROTOCOL_VERSION)
    {
        return Ok(answer);
    }
    let detail = format!(
        "the server no longer speaks the agreed revision; it offers {:?}",
        verdict::supported_versions(&answer)
    );
    Err(Miss::Rejected(
        Failure::new(FailureKind::SessionLost).with_detail(bounded(&detail)),
    ))
}
