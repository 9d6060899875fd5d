//! Holds the channel that a legacy server speaks on unasked: the GET stream. What it shares with the listen stream of a
//! modern server is here too: the pace of attempts, and the watch over a stream that says nothing.
//!
//! Whatever happens to it, the server is not bothered more than once a second, and less and less while nothing comes of it
//! (F115, F116). It never gives up on a server that has such a channel (F117), and it is never a reason to call the
//! server dead. Resuming the answer to a request is another matter with a pace of its own, in `answer` (F119).

use std::time::Duration;

use http::{Method, Response, StatusCode};
use mainstay_core::failure::{Failure, FailureKind};
use tokio::time::Instant;

use super::answer::{Framing, framing};
use super::body::{self, InBody, Payload};
use super::stream::{Events, Position, Said};
use super::verdict::{self, Asked, Verdict};
use super::{HttpLink, PushEnd, PushStage, PushWatch};
use crate::runtime::{Inbound, Origin};

/// The bounds of the pause between two attempts. A server's own wish is clamped to them (F127).
const PAUSE_MS_MIN: u64 = 1_000;
const PAUSE_MS_MAX: u64 = 60_000;

/// The most that a `Retry-After` counts for: it is about load, and worth more patience than a stream's `retry:`.
const RETRY_AFTER_MS_MAX: u64 = 600_000;

/// A stream that lived this long was worth opening, even if nothing came: quiet streams are cut by proxies (F123).
const WORTH: Duration = Duration::from_secs(30);

/// Attempts in a row that brought nothing before the stream is called degraded.
const DEGRADED_AFTER: u32 = 2;

/// Attempts in a row answered with 401 or 403 before the stream is given up: what the entry itself names never changes within a
/// generation, and other credentials were renewed before it came to that.
const DENIALS_MAX: u32 = 3;

/// What the server asks for before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// The `retry:` field of the stream, in milliseconds.
    Retry(u64),
    /// The `Retry-After` header, in milliseconds.
    RetryAfter(u64),
}

impl Wish {
    pub(super) fn retry(ms: Option<u64>) -> Self {
        ms.map_or(Self::Nothing, Self::Retry)
    }

    pub(super) fn of(failure: &Failure) -> Self {
        failure
            .retry_after_ms
            .map_or(Self::Nothing, Self::RetryAfter)
    }
}

/// How long to wait before the next attempt. Pure.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Attempts in a row that brought nothing.
    fruitless: u32,
    /// Attempts in a row that were denied.
    denied: u32,
}

impl Pace {
    /// The pause after an attempt. `jitter` is anything; it lengthens the pause by up to a quarter, so that many clients
    /// of one server spread.
    fn after(&mut self, worth_it: bool, wish: Wish, jitter: u32) -> Duration {
        self.fruitless = if worth_it {
            0
        } else {
            self.fruitless.saturating_add(1)
        };
        let doublings = self.fruitless.saturating_sub(1).min(16);
        let backoff_ms = (PAUSE_MS_MIN << doublings).min(PAUSE_MS_MAX);
        let wish_ms = match wish {
            Wish::Nothing => PAUSE_MS_MIN,
            Wish::Retry(ms) => ms.clamp(PAUSE_MS_MIN, PAUSE_MS_MAX),
            Wish::RetryAfter(ms) => ms.clamp(PAUSE_MS_MIN, RETRY_AFTER_MS_MAX),
        };
        let pause_ms = backoff_ms.max(wish_ms);
        Duration::from_millis(pause_ms + pause_ms / 4 * u64::from(jitter % 1_024) / 1_024)
    }

    /// Whether recent attempts were in vain: the next one is believed only when it lasts.
    pub(super) fn is_doubtful(&self) -> bool {
        self.fruitless > 0
    }

    /// What comes after an attempt: the end, or the pause before the next attempt. Bounded by that pause; cancel-safe.
    pub(super) async fn next(
        &mut self,
        ended: Ended,
        watch: &dyn PushWatch,
    ) -> Result<(), PushEnd> {
        let (worth_it, wish) = match ended {
            Ended::Final(end) => return Err(end),
            Ended::Denied => {
                self.denied += 1;
                if self.denied >= DENIALS_MAX {
                    return Err(PushEnd::Refused);
                }
                (false, Wish::Nothing)
            }
            Ended::Again { worth_it, wish } => {
                self.denied = 0;
                (worth_it, wish)
            }
        };
        let pause = self.after(worth_it, wish, jitter());
        watch.stage(if self.fruitless >= DEGRADED_AFTER {
            PushStage::Degraded
        } else {
            PushStage::Reopening
        });
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn jitter() -> u32 {
    // Without randomness the pauses are merely equal.
    getrandom::u32().unwrap_or(0)
}

/// How one connection of a push stream ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// For good.
    Final(PushEnd),
    /// We were not let in. Once may be a hiccup of a gateway; several times in a row it is not.
    Denied,
    /// Try again.
    Again { worth_it: bool, wish: Wish },
}

impl Ended {
    pub(super) fn in_vain(wish: Wish) -> Self {
        Self::Again {
            worth_it: false,
            wish,
        }
    }
}

/// Watches over one connection of a stream: whether it was worth it, whether it is believed, whether it is still alive.
pub(super) struct Vigil {
    opened: Instant,
    last: Instant,
    idle: Duration,
    /// What to announce once the stream is believed.
    pending: Option<PushStage>,
    messages: u64,
}

impl Vigil {
    pub(super) fn new(idle: Duration) -> Self {
        let now = Instant::now();
        Self {
            opened: now,
            last: now,
            idle,
            pending: None,
            messages: 0,
        }
    }

    /// The stream is open. It is announced at once, or, if earlier ones ended in vain, when it has lasted.
    pub(super) fn open(&mut self, stage: PushStage, doubtful: bool, watch: &dyn PushWatch) {
        self.pending = Some(stage);
        if !doubtful {
            self.announce(watch);
        }
    }

    fn announce(&mut self, watch: &dyn PushWatch) {
        if let Some(stage) = self.pending.take() {
            watch.stage(stage);
        }
    }

    /// A message came that the stream is held for.
    pub(super) fn told(&mut self, watch: &dyn PushWatch) {
        self.messages += 1;
        self.announce(watch);
    }

    pub(super) fn was_worth_it(&self) -> bool {
        self.messages > 0 || self.opened.elapsed() >= WORTH
    }

    /// What the stream says next; `None`: nothing came for so long that it may be dead without our knowing (F124).
    /// Cancel-safe.
    pub(super) async fn next(
        &mut self,
        events: &mut Events,
        position: &mut Position,
        watch: &dyn PushWatch,
    ) -> Option<Said> {
        loop {
            let idle_at = self.last + self.idle;
            let worth_at = self.opened + WORTH;
            let until = match self.pending {
                Some(_) => idle_at.min(worth_at),
                None => idle_at,
            };
            match tokio::time::timeout_at(until, events.next(position)).await {
                Ok(said) => {
                    self.last = Instant::now();
                    return Some(said);
                }
                Err(_elapsed) if Instant::now() >= idle_at => return None,
                Err(_elapsed) => self.announce(watch),
            }
        }
    }
}

/// The GET stream of a legacy server, for ever or until the server has none.
pub(super) async fn get(link: &HttpLink, inbound: &dyn Inbound, watch: &dyn PushWatch) -> PushEnd {
    let mut pace = Pace::default();
    let mut position = Position::default();
    let mut connected_before = false;
    loop {
        let resuming = position.last_id.clone();
        let ended = match open(link, resuming.as_deref()).await {
            Ok(body) => {
                // A server that numbers its events repeats what was missed; any other has a gap (F123).
                if connected_before && resuming.is_none() {
                    watch.gap();
                }
                connected_before = true;
                let mut vigil = Vigil::new(link.push_idle);
                let all = PushStage::Open {
                    tools: true,
                    prompts: true,
                    resources: true,
                };
                vigil.open(all, pace.is_doubtful(), watch);
                hold(link, body, &mut position, vigil, inbound, watch).await
            }
            Err(ended) => ended,
        };
        position.reconnected();
        if let Err(end) = pace.next(ended, watch).await {
            return end;
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
            return Err(Ended::in_vain(Wish::of(&failure)));
        }
    };
    if opens_stream(&response) {
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
        ..link.asked(face, 0)
    };
    let failure = match verdict::judge(&link.target, head.status, &head.headers, said, &asked) {
        Verdict::Rejected(failure)
        | Verdict::Doubted(failure)
        | Verdict::Suspected(failure)
        | Verdict::Lost(failure) => failure,
        Verdict::Answer(error) => verdict::error_failure(&error),
    };
    let failure = link.told(failure);
    tracing::debug!(place = link.target.place(), %failure, "push stream refused");
    match (failure.kind, head.status) {
        // F111, unless the session says that it lives: then this server just has no GET, or is in trouble (F90).
        (FailureKind::SessionLost, _) if link.session_is_gone(face).await => {
            Ended::Final(PushEnd::SessionLost)
        }
        (FailureKind::NeedsLogin | FailureKind::Forbidden, _) => Ended::Denied,
        (FailureKind::RateLimited | FailureKind::SignInDelayed, _) => {
            Ended::in_vain(Wish::of(&failure))
        }
        (_, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::CONFLICT) => {
            Ended::in_vain(Wish::Nothing)
        }
        (_, StatusCode::NOT_IMPLEMENTED) => Ended::Final(PushEnd::Unsupported),
        (_, status) if status.is_server_error() => Ended::in_vain(Wish::of(&failure)),
        // 405 says it plainly (F96); what else is refused by its kind will be refused again.
        (_, _) => Ended::Final(PushEnd::Unsupported),
    }
}

/// Hands on what comes until the stream ends.
async fn hold(
    link: &HttpLink,
    body: InBody,
    position: &mut Position,
    mut vigil: Vigil,
    inbound: &dyn Inbound,
    watch: &dyn PushWatch,
) -> Ended {
    let mut events = Events::new(body, link.limits);
    loop {
        let Some(said) = vigil.next(&mut events, position, watch).await else {
            log_idle(link);
            return Ended::Again {
                worth_it: vigil.was_worth_it(),
                wish: Wish::retry(position.retry_ms),
            };
        };
        match said {
            Said::Message(message) => {
                vigil.told(watch);
                inbound.receive(message, Origin::Push);
            }
            Said::Life => inbound.life(),
            Said::Skipped(what) => inbound.skipped(what, ""),
            Said::Refused(fault) => inbound.skipped("refused message", &fault.to_string()),
            Said::Runaway(fault) => {
                inbound.skipped("refused message", &fault.to_string());
                let wish = Wish::retry(position.retry_ms);
                // Resumed, the stream would begin with the same event: a new one it is, with a gap (F126).
                *position = Position::default();
                return Ended::in_vain(wish);
            }
            Said::End(failure) => {
                log_end(link, failure);
                return Ended::Again {
                    worth_it: vigil.was_worth_it(),
                    wish: Wish::retry(position.retry_ms),
                };
            }
        }
    }
}

pub(super) fn log_idle(link: &HttpLink) {
    tracing::debug!(
        place = link.target.place(),
        idle_ms = link.push_idle.as_millis(),
        "push stream silent for too long; it is opened anew"
    );
}

pub(super) fn log_end(link: &HttpLink, failure: Option<Failure>) {
    match failure {
        Some(failure) => {
            tracing::debug!(place = link.target.place(), %failure, "push stream broke")
        }
        None => tracing::debug!(place = link.target.place(), "push stream ended"),
    }
}

pub(super) fn opens_stream(response: &Response<InBody>) -> bool {
    response.status() == StatusCode::OK && framing(response.headers()) == Framing::Events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f115_f116_f118_fruitless_attempts_get_rarer_up_to_a_cap() {
        let mut pace = Pace::default();
        let pauses: Vec<u64> = (0..9)
            .map(|_| {
                pace.after(false, Wish::Nothing, 0)
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
            pace.after(true, Wish::Nothing, 0),
            Duration::from_secs(1),
            "a stream that was worth it starts anew"
        );
        assert_eq!(pace.after(false, Wish::Nothing, 0), Duration::from_secs(1));
        for _ in 0..100 {
            assert!(pace.after(false, Wish::Nothing, u32::MAX) <= Duration::from_secs(75));
        }
    }

    #[test]
    fn f127_the_wish_of_the_server_is_clamped() {
        let mut pace = Pace::default();
        assert_eq!(pace.after(true, Wish::Retry(0), 0), Duration::from_secs(1));
        assert_eq!(
            pace.after(true, Wish::Retry(5_000), 0),
            Duration::from_secs(5)
        );
        assert_eq!(
            pace.after(true, Wish::Retry(u64::MAX), 0),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn f115_f116_a_stream_that_never_lasts_costs_some_1400_attempts_a_day_and_no_more() {
        for (worth_it, most) in [(false, 1_450), (true, 86_400)] {
            let mut pace = Pace::default();
            let (mut passed, mut attempts) = (Duration::ZERO, 0);
            while passed < Duration::from_secs(24 * 60 * 60) {
                passed += pace.after(worth_it, Wish::Retry(0), 0);
                attempts += 1;
            }
            assert!(attempts <= most, "{attempts} attempts");
            assert!(attempts >= 1_400, "it never gives up: {attempts}");
        }
    }

    #[test]
    fn f102_f127_a_retry_after_counts_for_more_than_a_retry_field() {
        let mut pace = Pace::default();
        let hour = 3_600_000;
        assert_eq!(
            pace.after(true, Wish::Retry(hour), 0),
            Duration::from_secs(60)
        );
        assert_eq!(
            pace.after(true, Wish::RetryAfter(hour), 0),
            Duration::from_secs(600)
        );
    }

    #[derive(Default)]
    struct Stages(std::sync::Mutex<Vec<PushStage>>);

    impl PushWatch for Stages {
        fn gap(&self) {}
        fn stage(&self, stage: PushStage) {
            self.0.lock().expect("whole").push(stage);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f117_it_is_degraded_after_two_fruitless_attempts_and_denied_thrice_it_ends() {
        let (mut pace, stages) = (Pace::default(), Stages::default());
        for _ in 0..3 {
            let ended = Ended::in_vain(Wish::Nothing);
            assert_eq!(pace.next(ended, &stages).await, Ok(()));
        }
        use PushStage::{Degraded, Reopening};
        assert_eq!(
            *stages.0.lock().expect("whole"),
            [Reopening, Degraded, Degraded]
        );
        let mut pace = Pace::default();
        assert_eq!(pace.next(Ended::Denied, &stages).await, Ok(()));
        assert_eq!(pace.next(Ended::Denied, &stages).await, Ok(()));
        assert_eq!(
            pace.next(Ended::Denied, &stages).await,
            Err(PushEnd::Refused)
        );
    }
}
