//! Holds the channel that a server speaks on unasked: the GET stream (legacy) or a listen stream (modern).
//!
//! Whatever happens to it, the server is not bothered more than once a second, and less and less while nothing comes of it
//! (F115, F116). It never gives up on a server that has such a channel (F117), and it is never a reason to call the
//! server dead.

use std::time::Duration;

use http::{Method, Response, StatusCode};
use mainstay_core::failure::{Failure, FailureKind};
use mainstay_wire::codes;
use mainstay_wire::envelope::{Kind, Message};
use mainstay_wire::id::Id;
use mainstay_wire::method;
use mainstay_wire::splice::{Parts, json_string};
use mainstay_wire::views::ListenFilter;
use tokio::time::Instant;

use super::answer::{Framing, framing};
use super::body::{self, InBody, Payload};
use super::stream::{Events, Position, Said};
use super::verdict::{self, Asked, Verdict};
use super::{HttpLink, PushEnd, Routing};
use crate::runtime::greeting::Greeting;
use crate::runtime::{Inbound, Origin};

/// The bounds of the pause between two attempts. A server's own wish is clamped to them (F127).
const PAUSE_MS_MIN: u64 = 1_000;
const PAUSE_MS_MAX: u64 = 60_000;

/// A stream that lived this long was worth opening, even if nothing came: quiet streams are cut by proxies (F123).
const WORTH: Duration = Duration::from_secs(30);

/// The id of our listen request. A string, so that it never equals the number of a call in flight.
const LISTEN_ID: &str = "mainstay-listen";

/// How long to wait before the next attempt. Pure.
#[derive(Debug, Default)]
struct Pace {
    /// Attempts in a row that brought nothing.
    fruitless: u32,
}

impl Pace {
    /// The pause after an attempt. `jitter` is anything; it lengthens the pause by up to a quarter, so that many clients
    /// of one server spread.
    fn after(&mut self, worth_it: bool, wish_ms: Option<u64>, jitter: u32) -> Duration {
        self.fruitless = if worth_it {
            0
        } else {
            self.fruitless.saturating_add(1)
        };
        let doublings = self.fruitless.saturating_sub(1).min(16);
        let backoff_ms = (PAUSE_MS_MIN << doublings).min(PAUSE_MS_MAX);
        let wish_ms = wish_ms.unwrap_or(0).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        let pause_ms = backoff_ms.max(wish_ms);
        Duration::from_millis(pause_ms + pause_ms / 4 * u64::from(jitter % 1_024) / 1_024)
    }
}

fn jitter() -> u32 {
    // Without randomness the pauses are merely equal.
    getrandom::u32().unwrap_or(0)
}

/// How one connection of a push stream ended.
enum Ended {
    /// For good.
    Final(PushEnd),
    /// Try again; the server wishes this pause.
    Again {
        worth_it: bool,
        wish_ms: Option<u64>,
    },
}

impl Ended {
    fn in_vain(wish_ms: Option<u64>) -> Self {
        Self::Again {
            worth_it: false,
            wish_ms,
        }
    }
}

/// The GET stream of a legacy server, for ever or until the server has none.
pub(super) async fn get(
    link: &HttpLink,
    inbound: &dyn Inbound,
    on_gap: &(dyn Fn() + Send + Sync),
) -> PushEnd {
    let mut pace = Pace::default();
    let mut position = Position::default();
    let mut connected_before = false;
    loop {
        let resuming = position.last_id.clone();
        let ended = match open(link, resuming.as_deref()).await {
            Ok(body) => {
                // A server that numbers its events repeats what was missed; any other has a gap (F123).
                if connected_before && resuming.is_none() {
                    on_gap();
                }
                connected_before = true;
                hold(link, body, &mut position, inbound).await
            }
            Err(ended) => ended,
        };
        match ended {
            Ended::Final(end) => return end,
            Ended::Again { worth_it, wish_ms } => {
                position.reconnected();
                tokio::time::sleep(pace.after(worth_it, wish_ms, jitter())).await;
            }
        }
    }
}

async fn open(link: &HttpLink, resuming: Option<&str>) -> Result<InBody, Ended> {
    let face = link.face.load_full();
    let headers = || face.for_get(resuming);
    let response = match link
        .send(&link.streams, Method::GET, headers, &Payload::Empty, None)
        .await
    {
        Ok(response) => response,
        Err(failure) => {
            tracing::debug!(place = link.target.place(), %failure, "push stream not reached");
            return Err(Ended::in_vain(None));
        }
    };
    if response.status() == StatusCode::OK && framing(response.headers()) == Framing::Events {
        return Ok(response.into_body());
    }
    Err(refused(link, &face, response).await)
}

/// What a GET that opens no stream means.
async fn refused(link: &HttpLink, face: &super::Face, response: Response<InBody>) -> Ended {
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        // A greeting page, or an empty "all right": no stream (F97).
        return Ended::Final(PushEnd::Unsupported);
    }
    let said = body::collect_some(body).await;
    let asked = Asked {
        id: None,
        session: face.session().is_some(),
        limits: link.limits,
    };
    let failure = match verdict::judge(&link.target, head.status, &head.headers, said, &asked) {
        Verdict::Rejected(failure) | Verdict::Lost(failure) => failure,
        Verdict::Answer(error) => verdict::error_failure(&error),
    };
    tracing::debug!(place = link.target.place(), %failure, "push stream refused");
    match (failure.kind, head.status) {
        (FailureKind::SessionLost, _) => Ended::Final(PushEnd::SessionLost),
        (FailureKind::RateLimited, _) => Ended::in_vain(failure.retry_after_ms),
        (_, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::CONFLICT) => {
            Ended::in_vain(None)
        }
        (_, StatusCode::NOT_IMPLEMENTED) => Ended::Final(PushEnd::Unsupported),
        (_, status) if status.is_server_error() => Ended::in_vain(failure.retry_after_ms),
        // 405 says it plainly (F96); what else is refused by its kind will be refused again.
        (_, _) => Ended::Final(PushEnd::Unsupported),
    }
}

/// Hands on what comes until the stream ends.
async fn hold(
    link: &HttpLink,
    body: InBody,
    position: &mut Position,
    inbound: &dyn Inbound,
) -> Ended {
    let opened = Instant::now();
    let mut events = Events::new(body, link.limits);
    let mut messages = 0_u64;
    loop {
        match events.next(position).await {
            Said::Message(message) => {
                messages += 1;
                inbound.receive(message, Origin::Push);
            }
            Said::Life => inbound.life(),
            Said::Skipped(what) => inbound.skipped(what, ""),
            Said::Refused(fault) => inbound.skipped("refused message", &fault.to_string()),
            Said::Runaway(fault) => {
                inbound.skipped("refused message", &fault.to_string());
                return Ended::in_vain(position.retry_ms);
            }
            Said::End(failure) => {
                log_end(link, failure);
                let worth_it = messages > 0 || opened.elapsed() >= WORTH;
                return Ended::Again {
                    worth_it,
                    wish_ms: position.retry_ms,
                };
            }
        }
    }
}

fn log_end(link: &HttpLink, failure: Option<Failure>) {
    match failure {
        Some(failure) => {
            tracing::debug!(place = link.target.place(), %failure, "push stream broke")
        }
        None => tracing::debug!(place = link.target.place(), "push stream ended"),
    }
}

/// The listen stream of a modern server, for ever or until the server has none.
pub(super) async fn listen(
    link: &HttpLink,
    greeting: &Greeting,
    inbound: &dyn Inbound,
    on_gap: &(dyn Fn() + Send + Sync),
) -> PushEnd {
    let filter = ListenFilter {
        tools: greeting.tells_changes("tools"),
        prompts: greeting.tells_changes("prompts"),
        resources: greeting.tells_changes("resources"),
        ..ListenFilter::default()
    };
    if !(filter.tools || filter.prompts || filter.resources) {
        return PushEnd::Unsupported;
    }
    let mut pace = Pace::default();
    let mut acknowledged_before = false;
    loop {
        match listen_once(
            link,
            greeting,
            &filter,
            &mut acknowledged_before,
            inbound,
            on_gap,
        )
        .await
        {
            Ended::Final(end) => return end,
            Ended::Again { worth_it, wish_ms } => {
                tokio::time::sleep(pace.after(worth_it, wish_ms, jitter())).await
            }
        }
    }
}

async fn listen_once(
    link: &HttpLink,
    greeting: &Greeting,
    filter: &ListenFilter,
    acknowledged_before: &mut bool,
    inbound: &dyn Inbound,
    on_gap: &(dyn Fn() + Send + Sync),
) -> Ended {
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
    let headers = || {
        face.for_post(Routing {
            method: method::LISTEN,
            name: None,
        })
    };
    let response = match link
        .send(&link.streams, Method::POST, headers, &payload, None)
        .await
    {
        Ok(response) => response,
        Err(failure) => {
            tracing::debug!(place = link.target.place(), %failure, "listen stream not reached");
            return Ended::in_vain(None);
        }
    };
    if response.status() != StatusCode::OK || framing(response.headers()) != Framing::Events {
        return listen_refused(link, response).await;
    }
    let opened = Instant::now();
    let mut position = Position::default();
    let mut events = Events::new(response.into_body(), link.limits);
    let mut told = 0_u64;
    let worth_it = |told| told > 0 || opened.elapsed() >= WORTH;
    loop {
        match events.next(&mut position).await {
            Said::Message(message) => match (message.kind(), message.method()) {
                (Kind::Notification, Some(method::SUBSCRIPTIONS_ACKNOWLEDGED)) => {
                    note_acknowledged(link, filter, &message);
                    // Nothing is replayed: whatever changed in between went unsaid (F130).
                    if std::mem::replace(acknowledged_before, true) {
                        on_gap();
                    }
                }
                // The server ends the stream politely.
                (Kind::Result, _) => {
                    return Ended::Again {
                        worth_it: worth_it(told),
                        wish_ms: None,
                    };
                }
                (Kind::Error, _) => return judge_listen_error(link, &message, worth_it(told)),
                (Kind::Notification | Kind::Request, _) => {
                    told += 1;
                    inbound.receive(message, Origin::Push);
                }
            },
            Said::Life => inbound.life(),
            Said::Skipped(what) => inbound.skipped(what, ""),
            Said::Refused(fault) => inbound.skipped("refused message", &fault.to_string()),
            Said::Runaway(fault) => {
                inbound.skipped("refused message", &fault.to_string());
                return Ended::in_vain(None);
            }
            Said::End(failure) => {
                log_end(link, failure);
                return Ended::Again {
                    worth_it: worth_it(told),
                    wish_ms: None,
                };
            }
        }
    }
}

/// Kinds that the server does not take on are found by the time to live of the listing (F132).
fn note_acknowledged(link: &HttpLink, asked: &ListenFilter, message: &Message) {
    let Ok(honoured) = ListenFilter::of(message) else {
        return;
    };
    let all = (!asked.tools || honoured.tools)
        && (!asked.prompts || honoured.prompts)
        && (!asked.resources || honoured.resources);
    if !all {
        tracing::debug!(
            place = link.target.place(),
            ?honoured,
            "the server does not tell all changes that it declared"
        );
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
        session: false,
        limits: link.limits,
    };
    match verdict::judge(&link.target, head.status, &head.headers, said, &asked) {
        Verdict::Answer(error) => judge_listen_error(link, &error, false),
        Verdict::Lost(failure) => Ended::in_vain(failure.retry_after_ms),
        Verdict::Rejected(failure) if failure.kind == FailureKind::RateLimited => {
            Ended::in_vain(failure.retry_after_ms)
        }
        Verdict::Rejected(failure) => {
            tracing::debug!(place = link.target.place(), %failure, "listen stream refused");
            Ended::Final(PushEnd::Unsupported)
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
        _other => Ended::Again {
            worth_it,
            wish_ms: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f115_f116_f118_fruitless_attempts_get_rarer_up_to_a_cap() {
        let mut pace = Pace::default();
        let pauses: Vec<u64> = (0..9)
            .map(|_| {
                pace.after(false, None, 0)
                    .as_millis()
                    .try_into()
                    .expect("small")
            })
            .collect();
        assert_eq!(
            pauses,
            [
                1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000
            ]
        );
        assert_eq!(
            pace.after(true, None, 0),
            Duration::from_secs(1),
            "a stream that was worth it starts anew"
        );
        assert_eq!(pace.after(false, None, 0), Duration::from_secs(1));
        for _ in 0..100 {
            assert!(pace.after(false, None, u32::MAX) <= Duration::from_secs(75));
        }
    }

    #[test]
    fn f127_the_wish_of_the_server_is_clamped() {
        let mut pace = Pace::default();
        assert_eq!(pace.after(true, Some(0), 0), Duration::from_secs(1));
        assert_eq!(pace.after(true, Some(5_000), 0), Duration::from_secs(5));
        assert_eq!(pace.after(true, Some(u64::MAX), 0), Duration::from_secs(60));
    }
}
