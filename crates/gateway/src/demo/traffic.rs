//! Keeps calling one server's tools through the gateway, and remembers how every call ended.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;

use super::client::{Client, Era, NoAnswer};
use super::outcome::{Failed, Outcome};
use crate::exit::Stop;

/// The pause between two calls: an eager agent.
const PACE: Duration = Duration::from_millis(50);
/// How long the client waits for one answer: longer than any break lasts.
const CALL_MAX: Duration = Duration::from_secs(30);
/// Failed calls are shown a few times a second; more between two looks are only counted.
const NEWS_MAX: usize = 20;
/// Every call is remembered in one byte; more than this is not a demo any more.
const CALLS_MAX: usize = 10_000_000;

/// What one client of one server has seen so far. Shared by the traffic, the breaks and the board.
#[derive(Debug, Default)]
pub(super) struct Tally {
    inner: Mutex<Seen>,
    /// Told after every call.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    /// How call number n ended.
    outcomes: Vec<Outcome>,
    answered: u64,
    failed: Failed,
    /// A break that no answered call has followed yet.
    waiting: Option<Break>,
    recovered: Option<Duration>,
    /// Failed calls that nobody has looked at yet, in words.
    news: Vec<String>,
}

/// Since when a server is broken.
#[derive(Debug, Clone, Copy)]
struct Break {
    /// When it was broken: the recovery is measured from here.
    at: Instant,
    /// Only the answer of a call that began after this proves that it is back.
    proof_after: Instant,
}

/// The counts of one server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Calls that were answered.
    pub(super) answered: u64,
    /// Calls that were not, by class.
    pub(super) failed: Failed,
}

impl Tally {
    /// The counts so far.
    pub(super) fn counts(&self) -> Counts {
        let seen = self.lock();
        Counts {
            answered: seen.answered,
            failed: seen.failed,
        }
    }

    /// The calls that failed since the last look, in words.
    pub(super) fn news(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().news)
    }

    /// How each call ended, by its number.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.lock().outcomes.clone()
    }

    /// Notes that the server was broken at `at`; a call that began after now and is answered ends the break.
    pub(super) fn broken(&self, at: Instant) {
        let mut seen = self.lock();
        seen.waiting = Some(Break {
            at,
            proof_after: Instant::now(),
        });
        seen.recovered = None;
    }

    /// Waits until a call is answered again: how long that took since the break. Level-triggered and cancel-safe.
    pub(super) async fn recovered(&self) -> Duration {
        loop {
            let ended = self.ended.notified();
            if let Some(took) = self.lock().recovered {
                return took;
            }
            ended.await;
        }
    }

    /// Waits for the first answered call. Level-triggered and cancel-safe.
    pub(super) async fn first_answer(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().answered > 0 {
                return;
            }
            ended.await;
        }
    }

    fn ended(&self, outcome: Outcome, words: String, began: Instant) {
        let mut seen = self.lock();
        seen.outcomes.push(outcome);
        seen.failed.count(outcome);
        if outcome == Outcome::Answered {
            seen.answered += 1;
            if let Some(broken) = seen.waiting.take_if(|broken| began >= broken.proof_after) {
                seen.recovered = Some(broken.at.elapsed());
            }
        } else if seen.news.len() < NEWS_MAX {
            seen.news.push(outcome.told(&words));
        }
        drop(seen);
        self.ended.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The marker of call number `n`: what the server writes to its ledger when it executes the call.
pub(super) fn marker(server: &str, n: usize) -> String {
    format!("{server}-{n}")
}

/// The number of the call with this marker.
pub(super) fn number(server: &str, marker: &str) -> Option<usize> {
    marker.strip_prefix(server)?.strip_prefix('-')?.parse().ok()
}

/// Calls the server's tools one after another, for ever. Dropping it abandons the call in flight, so let `until`
/// end it between two calls.
///
/// # Errors
/// When the gateway does not even greet.
pub(super) async fn run(
    gateway: SocketAddr,
    server: &str,
    era: Era,
    tally: &Tally,
    until: &tokio_util::sync::CancellationToken,
) -> Result<(), Stop> {
    let mut client = match tokio::time::timeout(CALL_MAX, prepare(gateway, server, era)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => {
            return Err(Stop::unexpected(
                "the demo's client cannot use the gateway",
                error,
            ));
        }
        Err(_late) => {
            return Err(Stop::unexpected(
                "the demo's client cannot use the gateway",
                "no answer in time",
            ));
        }
    };
    for n in 0..CALLS_MAX {
        if until.is_cancelled() {
            break;
        }
        let marker = marker(server, n);
        let (tool, arguments) = match n % 3 {
            0 => ("add", json!({ "a": n, "b": 1, "marker": marker })),
            1 => ("echo", json!({ "text": "still here", "marker": marker })),
            _ => ("time", json!({ "marker": marker })),
        };
        let began = Instant::now();
        let exposed = format!("{server}__{tool}");
        let call = client.call(&exposed, arguments);
        let (outcome, words) = tokio::time::timeout(CALL_MAX, call)
            .await
            .unwrap_or((Outcome::NoAnswer, "no answer in time".to_owned()));
        tally.ended(outcome, words, began);
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}

/// Greets, and lists until the server's tools are there: a call by a name that was never listed is a mistake.
async fn prepare(gateway: SocketAddr, server: &str, era: Era) -> Result<Client, NoAnswer> {
    let mut client = Client::connect(gateway, era).await?;
    let last = format!("{server}__time");
    while !client.tools().await?.contains(&last) {
        tokio::time::sleep(PACE).await;
    }
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_name_their_call() {
        assert_eq!(number("stdio", &marker("stdio", 17)), Some(17));
        assert_eq!(number("stdio", "sessions-17"), None);
        assert_eq!(number("stdio", "stdio-x"), None);
    }

    #[tokio::test]
    async fn only_a_call_that_began_after_the_break_proves_recovery() {
        let tally = Tally::default();
        let before = Instant::now();
        tally.broken(before);
        tally.ended(Outcome::Answered, String::new(), before);
        assert!(
            tally.lock().recovered.is_none(),
            "that call was sent before the break"
        );
        tally.ended(Outcome::Unknown, String::new(), Instant::now());
        assert!(
            tally.lock().recovered.is_none(),
            "a failed call proves nothing"
        );
        tally.ended(Outcome::Answered, String::new(), Instant::now());
        assert!(tally.recovered().await <= before.elapsed());
        assert_eq!(
            (tally.counts().answered, tally.counts().failed.unknown),
            (2, 1)
        );
    }
}
