//! Cookies for affinity (F107): load balancers keep a session at its server by them.
//!
//! One jar per link, that is per generation: a renewed session starts without cookies, so a balancer is free to choose a
//! living server. The jar knows no domains and paths, because its cookies only ever go back to the one origin that set them.
//! It is bounded, and what is in it is never shown (law 31).

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// How many cookies are kept; the oldest goes first.
const COOKIES_MAX: usize = 16;

/// How long one cookie may be, name and value together. Longer ones are ignored.
const COOKIE_BYTES_MAX: usize = 4 * 1024;

/// The cookies of one link. Reading costs one atomic load; no `Debug` of its content.
#[derive(Default)]
pub(super) struct Jar(ArcSwapOption<Held>);

struct Held {
    pairs: Vec<(String, String)>,
    /// All of them as one header.
    header: HeaderValue,
}

impl Jar {
    /// Takes the cookies of a response.
    pub(super) fn absorb(&self, response: &HeaderMap) {
        if !response.contains_key(SET_COOKIE) {
            return;
        }
        let now = SystemTime::now();
        let told: Vec<Told<'_>> = response
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|cookie| read(cookie.to_str().ok()?, now))
            .collect();
        self.0.rcu(|held| {
            let mut pairs = held
                .as_ref()
                .map(|held| held.pairs.clone())
                .unwrap_or_default();
            for told in &told {
                pairs.retain(|(name, _)| name != told.name);
                if !told.expired {
                    pairs.push((told.name.to_owned(), told.value.to_owned()));
                }
            }
            let surplus = pairs.len().saturating_sub(COOKIES_MAX);
            pairs.drain(..surplus);
            Held::of(pairs).map(Arc::new)
        });
    }

    /// Adds the cookies to a request, unless the config sends some of its own.
    pub(super) fn give(&self, request: &mut HeaderMap) {
        if let Some(held) = &*self.0.load()
            && !request.contains_key(COOKIE)
        {
            request.insert(COOKIE, held.header.clone());
        }
    }
}

impl Held {
    fn of(pairs: Vec<(String, String)>) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let words: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut header = HeaderValue::from_str(&words.join("; ")).ok()?;
        header.set_sensitive(true);
        Some(Self { pairs, header })
    }
}

/// One `Set-Cookie`.
struct Told<'a> {
    name: &'a str,
    value: &'a str,
    /// It takes a cookie back.
    expired: bool,
}

fn read(cookie: &str, now: SystemTime) -> Option<Told<'_>> {
    let mut parts = cookie.split(';').map(str::trim);
    let pair = parts.next()?;
    let (name, value) = pair.split_once('=')?;
    if name.is_empty() || pair.len() > COOKIE_BYTES_MAX {
        return None;
    }
    let mut expired = None;
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        if key.eq_ignore_ascii_case("max-age") {
            // It wins over a date, wherever it stands.
            expired = value.trim().parse::<i64>().ok().map(|seconds| seconds <= 0);
        } else if key.eq_ignore_ascii_case("expires") && expired.is_none() {
            expired = httpdate::parse_http_date(value.trim())
                .ok()
                .map(|at| at <= now);
        }
    }
    Some(Told {
        name: name.trim(),
        value: value.trim(),
        expired: expired.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cookies: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(SET_COOKIE, cookie.parse().expect("good"));
        }
        headers
    }

    fn given(jar: &Jar) -> Option<HeaderValue> {
        let mut request = HeaderMap::new();
        jar.give(&mut request);
        request.get(COOKIE).cloned()
    }

    #[test]
    fn f107_cookies_are_kept_renewed_taken_back_and_never_shown() {
        let jar = Jar::default();
        assert_eq!(given(&jar), None);
        jar.absorb(&told(&["lb=a1; Path=/; HttpOnly", "nonsense", "route=b"]));
        assert_eq!(given(&jar).expect("two"), "lb=a1; route=b");
        assert!(!format!("{:?}", given(&jar)).contains("a1"), "law 31");
        jar.absorb(&HeaderMap::new());
        jar.absorb(&told(&["lb=a2; Max-Age=60"]));
        assert_eq!(given(&jar).expect("two"), "route=b; lb=a2");
        jar.absorb(&told(&["route=; Max-Age=0"]));
        jar.absorb(&told(&["lb=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]));
        assert_eq!(given(&jar), None);
        jar.absorb(&told(&["lb=a3"]));
        let mut own = HeaderMap::new();
        own.insert(COOKIE, HeaderValue::from_static("mine=1"));
        jar.give(&mut own);
        assert_eq!(own[COOKIE], "mine=1", "the config's own cookies win");
    }

    #[test]
    fn f107_the_jar_is_bounded() {
        let jar = Jar::default();
        for number in 0..100 {
            jar.absorb(&told(&[&format!("c{number}=x")]));
        }
        jar.absorb(&told(&[&format!("long={}", "x".repeat(COOKIE_BYTES_MAX))]));
        let header = given(&jar).expect("some");
        let text = header.to_str().expect("plain");
        assert_eq!(text.split("; ").count(), COOKIES_MAX);
        assert!(text.ends_with("c99=x"), "the newest stay: {text}");
    }
}
