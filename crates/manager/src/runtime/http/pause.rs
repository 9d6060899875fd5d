//! Hosts that asked to be left alone, and until when: shared by everything that goes there (F102).
//!
//! A pause belongs to an origin, not to a server or a connection: calls, reconnects, probes, push streams and all servers
//! behind the same origin keep it together. Keeping it is for those who send; this only remembers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

/// Origins that are remembered at most. Beyond that the pause that ends first is forgotten.
const HOSTS_MAX: usize = 1_024;

/// The first pause of a host that wants one and does not say how long, and the longest of those that double from there.
const UNSAID_MS: u64 = 1_000;
const UNSAID_MS_MAX: u64 = 60_000;

/// The least and the most that a `Retry-After` counts for, in milliseconds (settings `restart.retryAfterMinMs` and
/// `restart.retryAfterMaxMs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Default: 1 second.
    pub min_ms: u64,
    /// Default: 10 minutes.
    pub max_ms: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            min_ms: 1_000,
            max_ms: 600_000,
        }
    }
}

impl Window {
    /// Not `clamp`: a window configured upside down must not panic.
    fn clamp(self, ms: u64) -> u64 {
        ms.max(self.min_ms).min(self.max_ms)
    }
}

/// The pauses of all hosts. One per manager.
#[derive(Debug, Default)]
pub struct Pauses {
    hosts: Mutex<HashMap<Box<str>, Pause>>,
    /// How many are remembered: the data path looks at this alone while nobody is throttled.
    remembered: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Instant,
    /// Pauses in a row without a served request in between.
    streak: u32,
}

impl Pauses {
    /// When the pause of an origin ends, if it has one now.
    pub(crate) fn until(&self, origin: &str) -> Option<Instant> {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let until = self.lock().get(origin)?.until;
        (until > Instant::now()).then_some(until)
    }

    /// Waits until the origin has no pause. Cancel-safe.
    pub(crate) async fn over(&self, origin: &str) {
        while let Some(until) = self.until(origin) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// A response of the origin came: begins or prolongs its pause if it asks for one, and forgets earlier ones if not.
    pub(crate) fn note(
        &self,
        origin: &str,
        status: StatusCode,
        headers: &HeaderMap,
        window: Window,
    ) {
        if is_throttling(status, headers) {
            let asked_ms = asked_ms(headers, SystemTime::now());
            self.begin(origin, asked_ms, window);
        } else if self.remembered.load(Ordering::Relaxed) > 0 {
            self.served(origin);
        }
    }

    fn begin(&self, origin: &str, asked_ms: Option<u64>, window: Window) {
        let now = Instant::now();
        let mut hosts = self.lock();
        let before = hosts.get(origin).copied();
        // Answers to requests that were on their way together are one refusal, not many.
        let is_running = before.is_some_and(|pause| pause.until > now);
        let streak = before.map_or(0, |pause| pause.streak);
        let unsaid_ms = (UNSAID_MS << streak.min(16)).min(UNSAID_MS_MAX);
        let wait_ms = window.clamp(asked_ms.unwrap_or(unsaid_ms));
        let until = now + Duration::from_millis(wait_ms);
        let pause = match before {
            Some(before) if is_running => Pause {
                until: match asked_ms {
                    Some(_) => before.until.max(until),
                    None => before.until,
                },
                ..before
            },
            Some(_) | None => Pause {
                until,
                streak: streak.saturating_add(1),
            },
        };
        if !is_running {
            tracing::info!(origin, wait_ms, "the host asked to be left alone");
        }
        if before.is_none() && hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, pause| pause.until > now);
            let first = hosts
                .iter()
                .min_by_key(|(_, pause)| pause.until)
                .map(|(origin, _)| origin.clone());
            if let Some(first) = first.filter(|_| hosts.len() >= HOSTS_MAX) {
                hosts.remove(&first);
            }
        }
        hosts.insert(origin.into(), pause);
        self.remembered.store(hosts.len(), Ordering::Relaxed);
    }

    /// The origin served something. A pause that still runs stays: the answer was on its way before.
    fn served(&self, origin: &str) {
        let mut hosts = self.lock();
        if hosts
            .get(origin)
            .is_some_and(|pause| pause.until <= Instant::now())
        {
            hosts.remove(origin);
            self.remembered.store(hosts.len(), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Pause>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a response asks to be left alone: 429 always, 503 if it says for how long.
pub(super) fn is_throttling(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::SERVICE_UNAVAILABLE && headers.contains_key(RETRY_AFTER))
}

/// What `Retry-After` says, in milliseconds: seconds, or a date. Absurdly large numbers are just large; what is neither
/// (negative numbers, fractions, words) says nothing. A date is compared with the server's own clock where it tells it.
pub(super) fn asked_ms(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = value.parse::<u64>().unwrap_or(u64::MAX);
        return Some(seconds.saturating_mul(1_000));
    }
    let date = |value: &HeaderValue| httpdate::parse_http_date(value.to_str().ok()?.trim()).ok();
    let at = httpdate::parse_http_date(value).ok()?;
    let now = headers.get(DATE).and_then(date).unwrap_or(now);
    Some(at.duration_since(now).map_or(0, |wait| {
        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "http://here:1";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().expect("good"));
        }
        headers
    }

    fn note(pauses: &Pauses, status: u16, pairs: &[(&'static str, &str)]) {
        let status = StatusCode::from_u16(status).expect("good");
        pauses.note(HERE, status, &headers(pairs), Window::default());
    }

    fn left_ms(pauses: &Pauses) -> Option<u128> {
        let until = pauses.until(HERE)?;
        Some(until.duration_since(Instant::now()).as_millis())
    }

    #[test]
    fn f102_retry_after_is_read_as_seconds_and_as_a_date_by_the_servers_own_clock() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("good");
        let asked = |pairs: &[(&'static str, &str)]| asked_ms(&headers(pairs), now);
        let date = "Sun, 06 Nov 1994 08:49:47 GMT";
        assert_eq!(asked(&[("retry-after", "7")]), Some(7_000));
        assert_eq!(asked(&[("retry-after", date)]), Some(10_000));
        let clock = ("date", "Sun, 06 Nov 1994 08:49:44 GMT");
        assert_eq!(asked(&[("retry-after", date), clock]), Some(3_000));
        let past = "Sat, 06 Nov 1993 08:49:37 GMT";
        assert_eq!(asked(&[("retry-after", past)]), Some(0));
        let huge = "99999999999999999999999";
        assert_eq!(asked(&[("retry-after", huge)]), Some(u64::MAX));
        for garbage in ["-5", "1.5", "soon", "", "7 s", "0x10"] {
            assert_eq!(asked(&[("retry-after", garbage)]), None, "{garbage:?}");
        }
        assert_eq!(asked(&[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn f102_f103_absurd_values_are_clamped_to_the_window() {
        for (said, expected_ms) in [
            ("0", 1_000),
            ("3", 3_000),
            ("3600", 600_000),
            ("99999999999999999999999", 600_000),
            ("-5", 1_000),
            ("soon", 1_000),
        ] {
            let pauses = Pauses::default();
            note(&pauses, 429, &[("retry-after", said)]);
            assert_eq!(left_ms(&pauses), Some(expected_ms), "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f102_a_host_that_does_not_say_how_long_is_asked_less_and_less() {
        let pauses = Pauses::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            // Three refusals of requests that left together are one.
            for _ in 0..3 {
                note(&pauses, 429, &[]);
            }
            waits.extend(left_ms(&pauses));
            pauses.over(HERE).await;
        }
        assert_eq!(
            waits,
            [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
        );
        note(&pauses, 200, &[]);
        note(&pauses, 429, &[]);
        assert_eq!(left_ms(&pauses), Some(1_000), "a served request ends it");
    }

    #[tokio::test(start_paused = true)]
    async fn f102_a_longer_wish_prolongs_a_pause_and_no_answer_on_its_way_shortens_it() {
        let pauses = Pauses::default();
        note(&pauses, 503, &[]);
        assert_eq!(left_ms(&pauses), None, "a plain 503 asks for nothing");
        note(&pauses, 503, &[("retry-after", "5")]);
        note(&pauses, 429, &[("retry-after", "9")]);
        note(&pauses, 429, &[("retry-after", "2")]);
        note(&pauses, 200, &[]);
        assert_eq!(left_ms(&pauses), Some(9_000));
        assert_eq!(pauses.until("http://there:1"), None, "others are free");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(left_ms(&pauses), None);
    }

    #[tokio::test(start_paused = true)]
    async fn law_30_the_pauses_of_many_hosts_stay_bounded_and_the_longest_stay() {
        let pauses = Pauses::default();
        for host in 0..3 * HOSTS_MAX {
            pauses.begin(
                &format!("http://{host}"),
                Some(1_000 + host as u64),
                Window::default(),
            );
        }
        assert_eq!(pauses.lock().len(), HOSTS_MAX);
        assert!(
            pauses
                .until(&format!("http://{}", 3 * HOSTS_MAX - 1))
                .is_some()
        );
        assert!(pauses.until("http://0").is_none());
    }
}
