//! The keys of an issuer over time: fetched when they are needed, kept while the issuer is away, renewed when a token names
//! one that is not known.
//!
//! Whoever sends us tokens can make us ask the issuer, so that is rationed: one question at a time, and a handful in a row.
//! A question is a task of its own; whoever waits for it may leave. Follows no redirect and believes no metadata of
//! another issuer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::header::ACCEPT;
use mainstay::config::Issuer as Settings;
use serde::Deserialize;
use tokio::sync::watch;

use super::jwks::Keys;
use super::jwt::Rules;

/// Keys that are older are asked for anew, while they go on being used.
const FRESH: Duration = Duration::from_secs(60 * 60);

/// So many questions may be asked in a row; then one every [`REFILL`].
const QUESTIONS_MAX: u32 = 4;
const REFILL: Duration = Duration::from_secs(15);

/// Between two questions while there are no keys at all.
const KEYLESS_PAUSE: Duration = Duration::from_secs(1);

/// How long a question may take in all, and how much an answer may hold.
const QUESTION: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(4);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// An outage is told this often.
const TELL_EVERY: Duration = Duration::from_secs(10 * 60);

/// The keys cannot be had, and there are none from before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoKeys;

/// One issuer, with its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) settings: Settings,
    keys: ArcSwapOption<Kept>,
    asking: Mutex<Asking>,
    /// How many questions have been answered, well or badly.
    answered: watch::Sender<u64>,
    pub(super) failures: AtomicU64,
}

/// Keys, with their age.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) keys: Keys,
    at: Instant,
}

/// What is remembered of questions.
#[derive(Debug)]
struct Asking {
    is_on: bool,
    last: Option<Instant>,
    left: u32,
    refilled: Instant,
    failing_since: Option<Instant>,
    told: Option<Instant>,
}

/// What an issuer says of itself, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            keys: ArcSwapOption::empty(),
            asking: Mutex::new(Asking {
                is_on: false,
                last: None,
                left: QUESTIONS_MAX,
                refilled: Instant::now(),
                failing_since: None,
                told: None,
            }),
            answered: watch::Sender::new(0),
            failures: AtomicU64::new(0),
        })
    }

    /// What is asked of its tokens.
    pub(super) fn rules(&self) -> Rules<'_> {
        Rules {
            issuer: &self.settings.issuer,
            leeway_ms: self.settings.leeway_ms,
            groups_claim: &self.settings.groups_claim,
        }
    }

    /// Whether these keys are still those of the issuer.
    pub(super) fn are_current(&self, keys: &Arc<Kept>) -> bool {
        let current = self.keys.load();
        current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, keys) || current.keys == keys.keys)
    }

    /// The keys: those that are kept if they will do, else newer ones if they can be had in time. What comes back need not
    /// do either. Dropping the future leaves the question on its way.
    pub(super) async fn keys(
        self: &Arc<Self>,
        will_do: impl Fn(&Keys) -> bool,
    ) -> Result<Arc<Kept>, NoKeys> {
        let kept = self.keys.load_full();
        if let Some(kept) = kept.filter(|kept| will_do(&kept.keys)) {
            if kept.at.elapsed() > FRESH {
                self.ask();
            }
            return Ok(kept);
        }
        let mut answered = self.answered.subscribe();
        if self.ask() {
            // The question itself ends earlier; a lost one is no reason to wait for ever.
            let waited =
                tokio::time::timeout(QUESTION + Duration::from_secs(1), answered.changed());
            let _answered_or_late = waited.await;
        }
        self.keys.load_full().ok_or(NoKeys)
    }

    /// Asks the issuer, unless somebody does or it was asked too often. Whether an answer is on its way.
    fn ask(self: &Arc<Self>) -> bool {
        let now = Instant::now();
        {
            let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
            if asking.is_on {
                return true;
            }
            if !asking.may(now, self.keys.load().is_none()) {
                return false;
            }
            asking.is_on = true;
            asking.last = Some(now);
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let fetched = match tokio::time::timeout(QUESTION, fetch(&this.settings)).await {
                Ok(fetched) => fetched,
                Err(_late) => Err(format!("no answer within {} s", QUESTION.as_secs())),
            };
            this.take(fetched);
        });
        true
    }

    fn take(&self, fetched: Result<Keys, String>) {
        let issuer = self.settings.issuer.as_str();
        let now = Instant::now();
        let had = self.keys.load().is_some();
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.is_on = false;
        match fetched {
            Ok(keys) => {
                if asking.failing_since.take().is_some() {
                    tracing::info!(issuer, "the keys of the issuer can be had again");
                }
                asking.told = None;
                self.keys.store(Some(Arc::new(Kept { keys, at: now })));
            }
            Err(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let since = *asking.failing_since.get_or_insert(now);
                if asking.told.is_none_or(|told| now - told > TELL_EVERY) {
                    asking.told = Some(now);
                    let for_s = (now - since).as_secs();
                    if had {
                        tracing::warn!(issuer, %why, for_s, "the keys of the issuer cannot be renewed; those known before stay in force");
                    } else {
                        tracing::error!(issuer, %why, for_s, "the keys of the issuer cannot be had, so none of its tokens can be checked; see mainstay.access.jwt");
                    }
                }
            }
        }
        drop(asking);
        self.answered.send_modify(|answered| *answered += 1);
    }
}

impl Asking {
    /// Whether one more question may be asked.
    fn may(&mut self, now: Instant, is_keyless: bool) -> bool {
        let since = now.saturating_duration_since(self.refilled);
        let more = u32::try_from(since.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(QUESTIONS_MAX);
            self.refilled = now;
        }
        if is_keyless {
            return self
                .last
                .is_none_or(|last| now.saturating_duration_since(last) >= KEYLESS_PAUSE);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// The keys, as the issuer has them now. What is wrong is said in words that hold no secret.
async fn fetch(settings: &Settings) -> Result<Keys, String> {
    let client = client()?;
    let url = match &settings.jwks_url {
        Some(url) => url.clone(),
        None => jwks_url(&client, &settings.issuer).await?,
    };
    let text = get(&client, &url).await?;
    Keys::read(&text).map_err(|why| format!("what {url} says is no list of keys: {why}"))
}

/// Where the issuer's metadata says that its keys are.
async fn jwks_url(client: &reqwest::Client, issuer: &str) -> Result<String, String> {
    let mut wrong = Vec::new();
    for url in metadata_urls(issuer)? {
        let text = match get(client, &url).await {
            Ok(text) => text,
            Err(why) => {
                wrong.push(why);
                continue;
            }
        };
        let metadata: Metadata = match serde_json::from_slice(&text) {
            Ok(metadata) => metadata,
            Err(error) => {
                wrong.push(format!("what {url} says is no metadata: {error}"));
                continue;
            }
        };
        // Somebody else's metadata would lead us to somebody else's keys.
        if metadata.issuer != issuer {
            let its = crate::serve::fault::shown(&metadata.issuer);
            return Err(format!("{url} is of another issuer, `{its}`"));
        }
        let is_plain = metadata.jwks_uri.starts_with("http:") && issuer.starts_with("https:");
        if is_plain || !metadata.jwks_uri.starts_with("http") {
            return Err(format!("{url} names keys at an address that is not https"));
        }
        return Ok(metadata.jwks_uri);
    }
    Err(wrong.join("; "))
}

/// Where metadata may be: of OAuth before the path, of OpenID after it, and OpenID's before it.
fn metadata_urls(issuer: &str) -> Result<Vec<String>, String> {
    let url =
        url::Url::parse(issuer).map_err(|error| format!("the issuer is no address: {error}"))?;
    let origin = url.origin().ascii_serialization();
    let path = url.path().trim_end_matches('/');
    let mut urls = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}{path}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    // Without a path the last two are one.
    urls.dedup();
    Ok(urls)
}

fn client() -> Result<reqwest::Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race means that somebody else installed one: just as good.
        let _: Result<(), Arc<_>> = rustls::crypto::ring::default_provider().install_default();
    }
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .timeout(QUESTION)
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| format!("no client for https: {}", chain(&error)))
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, String> {
    let unreachable = |error: reqwest::Error| format!("{url}: {}", chain(&error.without_url()));
    let mut answer = client
        .get(url)
        .header(ACCEPT, "application/json")
        .send()
        .await
        .map_err(unreachable)?;
    let status = answer.status();
    if status != http::StatusCode::OK {
        return Err(format!("{url} answers {status}"));
    }
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if text.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("{url} says more than {ANSWER_BYTES_MAX} bytes"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_32_a_flood_of_unknown_keys_asks_a_handful_of_questions() {
        let begin = Instant::now();
        let mut asking = Asking {
            is_on: false,
            last: None,
            left: QUESTIONS_MAX,
            refilled: begin,
            failing_since: None,
            told: None,
        };
        let mut asked = |at: Duration| (0..1_000).filter(|_| asking.may(begin + at, false)).count();
        assert_eq!(asked(Duration::ZERO), 4);
        assert_eq!(asked(Duration::from_secs(14)), 0);
        assert_eq!(asked(Duration::from_secs(15)), 1);
        assert_eq!(asked(Duration::from_secs(3_600)), 4);
    }

    #[test]
    fn metadata_is_looked_for_where_the_protocols_say() {
        let urls = metadata_urls("https://id.example/realms/one").unwrap();
        assert_eq!(
            urls,
            [
                "https://id.example/.well-known/oauth-authorization-server/realms/one",
                "https://id.example/realms/one/.well-known/openid-configuration",
                "https://id.example/.well-known/openid-configuration/realms/one",
            ]
        );
        assert_eq!(metadata_urls("https://id.example/").unwrap().len(), 2);
        assert!(metadata_urls("no address").is_err());
    }
}
