//! Headers whose values are kept elsewhere (a file, the keyring, a password manager): what is there now, when the server has
//! refused what was there before.
//!
//! A 401 proves that the request was not run (F93), so it is sent once more with the new value, whatever it asks for. Nothing
//! is written down here, and a value that has not changed is not asked for again for a while: the command of a password
//! manager may bother somebody.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use mainstay_core::failure::Failure;

use super::face;

/// The headers of an entry, with their names.
type Headers = Vec<(String, String)>;

/// For so long nobody looks again after a look that brought nothing new.
const QUIET: Duration = Duration::from_secs(10);

/// The longest that a request waits for a new value.
const WAIT: Duration = Duration::from_secs(15);

/// Looks up what the headers of an entry are now.
#[derive(Clone)]
pub struct Reread(Arc<dyn Fn() -> BoxFuture<'static, Option<Headers>> + Send + Sync>);

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

impl Reread {
    /// From what looks all headers of the entry up; `None` of it: they cannot be had now.
    pub fn new<F>(look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Headers>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(look())))
    }
}

/// What stands in place of the headers that a link was made with.
pub(super) struct Renewal {
    reread: Option<Reread>,
    /// What the server was shown last.
    known: Mutex<Headers>,
    renewed: ArcSwapOption<HeaderMap>,
    version: AtomicU64,
    quiet_until: Mutex<Option<Instant>>,
}

/// Which headers a request showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version(u64);

impl Renewal {
    pub(super) fn new(reread: Option<Reread>, headers: &[(String, String)]) -> Self {
        Self {
            known: Mutex::new(if reread.is_some() {
                headers.to_vec()
            } else {
                Headers::new()
            }),
            reread,
            renewed: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            quiet_until: Mutex::new(None),
        }
    }

    /// Puts the newest values into a request.
    pub(super) fn show(&self, headers: &mut HeaderMap) -> Version {
        // Before the values, so that what is stored in between is not taken for seen.
        let version = Version(self.version.load(Ordering::Acquire));
        if let Some(renewed) = &*self.renewed.load() {
            for name in renewed.keys() {
                headers.remove(name);
            }
            headers.extend(
                renewed
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
        version
    }

    /// The server refused a request that showed this version: whether there are others by now. Cancel-safe; bounded.
    pub(super) async fn refused(&self, shown: Version) -> Result<bool, Failure> {
        let Some(reread) = &self.reread else {
            return Ok(false);
        };
        if self.version.load(Ordering::Acquire) != shown.0 {
            return Ok(true);
        }
        let is_quiet = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        if is_quiet(
            &self
                .quiet_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        ) {
            return Ok(false);
        }
        let found = tokio::time::timeout(WAIT, (reread.0)())
            .await
            .ok()
            .flatten();
        let Some(found) = found.filter(|found| self.is_news(found)) else {
            let mut quiet = self
                .quiet_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *quiet = Some(Instant::now() + QUIET);
            return Ok(self.version.load(Ordering::Acquire) != shown.0);
        };
        let headers = face::of_config(&found)?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = found;
        self.renewed.store(Some(Arc::new(headers)));
        self.version.fetch_add(1, Ordering::Release);
        Ok(true)
    }

    fn is_news(&self, found: &Headers) -> bool {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) != *found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Headers {
        vec![("X-Key".to_owned(), value.to_owned())]
    }

    #[tokio::test]
    async fn f93_a_refused_value_is_looked_up_once_and_shown_from_then_on() {
        let asked = Arc::new(AtomicU64::new(0));
        let reread = Reread::new({
            let asked = Arc::clone(&asked);
            move || {
                asked.fetch_add(1, Ordering::Relaxed);
                std::future::ready(Some(of("second")))
            }
        });
        let renewal = Renewal::new(Some(reread), &of("first"));
        let mut headers = HeaderMap::new();
        headers.insert("x-key", http::HeaderValue::from_static("first"));
        let shown = renewal.show(&mut headers);
        assert_eq!(headers["x-key"], "first");
        assert!(renewal.refused(shown).await.expect("a header"));
        assert!(
            renewal.refused(shown).await.expect("a header"),
            "another one was shown"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let shown = renewal.show(&mut headers);
        assert_eq!(headers["x-key"], "second");
        assert!(
            !renewal.refused(shown).await.expect("a header"),
            "nothing new"
        );
        assert!(
            !renewal.refused(shown).await.expect("a header"),
            "and nobody is asked again"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
