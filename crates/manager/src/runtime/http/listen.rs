//! Holds the listen stream of a modern server: one per generation, for all who want to hear (F134).
//!
//! It is opened again at the pace that `push` sets. Nothing is ever replayed on it, so every new one leaves a gap that is
//! listed (F130); what the server does not take on is left to polling (F132).

use http::{Method, Response};
use mainstay_core::failure::FailureKind;
use mainstay_wire::codes;
use mainstay_wire::envelope::{Kind, Message};
use mainstay_wire::id::Id;
use mainstay_wire::method;
use mainstay_wire::splice::{Parts, json_string};
use mainstay_wire::views::ListenFilter;

use super::body::{self, InBody, Payload};
use super::push::{Ended, Pace, Vigil, Wish, log_end, log_idle, opens_stream};
use super::stream::{Events, Position, Said};
use super::verdict::{self, Asked, Verdict};
use super::{HttpLink, PushEnd, PushStage, PushWatch, Routing};
use crate::runtime::greeting::Greeting;
use crate::runtime::{Inbound, Origin};

/// The id of our listen request. A string, so that it never equals the number of a call in flight.
const LISTEN_ID: &str = "mainstay-listen";

/// The listen stream of a modern server, for ever or until the server has none.
pub(super) async fn listen(
    link: &HttpLink,
    greeting: &Greeting,
    inbound: &dyn Inbound,
    watch: &dyn PushWatch,
) -> PushEnd {
    let filter = ListenFilter {
        tools: greeting.tells_changes("tools"),
        prompts: greeting.tells_changes("prompts"),
        resources: greeting.tells_changes("resources"),
        ..ListenFilter::default()
    };
    if filter.is_empty() {
        return PushEnd::Unsupported;
    }
    let mut pace = Pace::default();
    let mut heard_before = false;
    loop {
        let ended = match open_listen(link, greeting, &filter).await {
            Ok(body) => {
                let listening = Listening {
                    link,
                    inbound,
                    watch,
                    doubtful: pace.is_doubtful(),
                };
                listening.hold(body, &mut heard_before).await
            }
            Err(ended) => ended,
        };
        if let Err(end) = pace.next(ended, watch).await {
            return end;
        }
    }
}

/// One listen stream.
struct Listening<'a> {
    link: &'a HttpLink,
    inbound: &'a dyn Inbound,
    watch: &'a dyn PushWatch,
    doubtful: bool,
}

impl Listening<'_> {
    /// Hands on what comes until the stream ends.
    async fn hold(&self, body: InBody, heard_before: &mut bool) -> Ended {
        let mut vigil = Vigil::new(self.link.push_idle);
        let mut position = Position::default();
        let mut events = Events::new(body, self.link.limits);
        loop {
            let next = vigil.next(&mut events, &mut position, self.watch);
            let Some(said) = next.await else {
                log_idle(self.link);
                return again(&vigil);
            };
            match said {
                Said::Message(message) => {
                    if let Some(ended) = self.message(message, &mut vigil, heard_before) {
                        return ended;
                    }
                }
                Said::Life => self.inbound.life(),
                Said::Skipped(what) => self.inbound.skipped(what, ""),
                Said::Refused(fault) => self.inbound.skipped("refused message", &fault.to_string()),
                Said::Runaway(fault) => {
                    self.inbound.skipped("refused message", &fault.to_string());
                    return Ended::in_vain(Wish::Nothing);
                }
                Said::End(failure) => {
                    log_end(self.link, failure);
                    return again(&vigil);
                }
            }
        }
    }

    fn message(
        &self,
        message: Message,
        vigil: &mut Vigil,
        heard_before: &mut bool,
    ) -> Option<Ended> {
        match (message.kind(), message.method()) {
            (Kind::Notification, Some(method::SUBSCRIPTIONS_ACKNOWLEDGED)) => {
                let granted = ListenFilter::of(&message).unwrap_or_default();
                let stage = PushStage::Open {
                    tools: granted.tools,
                    prompts: granted.prompts,
                    resources: granted.resources,
                };
                vigil.open(stage, self.doubtful, self.watch);
                // Nothing is replayed: whatever changed in between went unsaid (F130).
                if std::mem::replace(heard_before, true) {
                    self.watch.gap();
                }
                None
            }
            // The server ends the stream politely.
            (Kind::Result, _) => Some(again(vigil)),
            (Kind::Error, _) => Some(judge_listen_error(
                self.link,
                &message,
                vigil.was_worth_it(),
            )),
            (Kind::Notification | Kind::Request, _) => {
                vigil.told(self.watch);
                self.inbound.receive(message, Origin::Push);
                None
            }
        }
    }
}

fn again(vigil: &Vigil) -> Ended {
    Ended::Again {
        worth_it: vigil.was_worth_it(),
        wish: Wish::Nothing,
    }
}

async fn open_listen(
    link: &HttpLink,
    greeting: &Greeting,
    filter: &ListenFilter,
) -> Result<InBody, Ended> {
    let face = link.face.load_full();
    let stamp: Vec<String> = greeting
        .stamp(None)
        .iter()
        .map(|(key, value)| format!("{}:{value}", json_string(key)))
        .collect();
    let params = format!(
        "{{\"notifications\":{},\"_meta\":{{{}}}}}",
        filter.render(),
        stamp.join(",")
    );
    let message = Message::request(&Id::string(LISTEN_ID), method::LISTEN, Some(&params));
    let payload = Payload::of(Parts::from(message));
    let routing = Routing {
        method: method::LISTEN,
        name: None,
        params: &[],
    };
    let headers = || face.for_post(routing);
    match link
        .send(&link.streams, Method::POST, headers, &payload, None)
        .await
    {
        Ok(response) if opens_stream(&response) => Ok(response.into_body()),
        Ok(response) => Err(listen_refused(link, response).await),
        Err(failure) => {
            tracing::debug!(place = link.target.place(), %failure, "listen stream not reached");
            Err(Ended::in_vain(Wish::of(&failure)))
        }
    }
}

async fn listen_refused(link: &HttpLink, response: Response<InBody>) -> Ended {
    let (head, body) = response.into_parts();
    let said = body::collect_some(body).await;
    if head.status.is_success() {
        // One JSON object instead of a stream: an error says why, anything else is no listen stream.
        return match Message::parse(said, &link.limits) {
            Ok(message) if message.kind() == Kind::Error => {
                judge_listen_error(link, &message, false)
            }
            Ok(_) | Err(_) => Ended::Final(PushEnd::Unsupported),
        };
    }
    let asked = Asked {
        id: None,
        ..link.asked(&link.face.load(), 0)
    };
    match verdict::judge(&link.target, head.status, &head.headers, said, &asked) {
        Verdict::Answer(error) => judge_listen_error(link, &error, false),
        Verdict::Lost(failure) | Verdict::Doubted(failure) | Verdict::Suspected(failure) => {
            Ended::in_vain(Wish::of(&failure))
        }
        Verdict::Rejected(failure) => {
            let failure = link.told(failure);
            tracing::debug!(place = link.target.place(), %failure, "listen stream refused");
            let is = |kind| failure.kind == kind;
            if is(FailureKind::RateLimited) || is(FailureKind::SignInDelayed) {
                Ended::in_vain(Wish::of(&failure))
            } else if is(FailureKind::SessionLost) {
                Ended::Final(PushEnd::SessionLost)
            } else if is(FailureKind::NeedsLogin) || is(FailureKind::Forbidden) {
                Ended::Denied
            } else {
                Ended::Final(PushEnd::Unsupported)
            }
        }
    }
}

/// "No such method" is for good (F131); an overload or a defect may pass.
fn judge_listen_error(link: &HttpLink, error: &Message, worth_it: bool) -> Ended {
    tracing::debug!(
        place = link.target.place(),
        error = verdict::error_words(error),
        "listen stream refused"
    );
    match verdict::error_code(error) {
        Some(codes::METHOD_NOT_FOUND | codes::INVALID_PARAMS | codes::INVALID_REQUEST) => {
            Ended::Final(PushEnd::Unsupported)
        }
        // What was agreed on is gone, as a session would be (F138).
        Some(codes::UNSUPPORTED_PROTOCOL_VERSION) => Ended::Final(PushEnd::SessionLost),
        _other => Ended::Again {
            worth_it,
            wish: Wish::Nothing,
        },
    }
}
