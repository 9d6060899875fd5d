//! The links that calls hand out: each lets one principal sign in to one server, and nobody else in that name.
//!
//! A link alone is not enough to finish anything (whoever gets it might pass it on, or lead somebody else to it): its page is
//! shown to nobody but the principal that the call was made for, that browser is given a key, and only a browser with the key
//! may come back. Nothing is asked of any server before somebody opens the page.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay::Principal;
use tokio::time::Instant;

use super::desk::LoginBegun;

/// Links at the same time; the oldest makes room.
const VISITS_MAX: usize = 1_000;

/// Where the pages of links are; the link's own name follows.
pub(crate) const PREFIX: &str = "/oauth/signin/";

/// The cookie that holds the key of a visit is called so, with the first digits of its link.
const COOKIE: &str = "mainstay-signin-";
const COOKIE_DIGITS: usize = 8;

/// All links of a gateway.
#[derive(Debug)]
pub(crate) struct Visits {
    table: Mutex<HashMap<Box<str>, Visit>>,
    lasts: Duration,
}

/// One link.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) server: Box<str>,
    pub(crate) principal: Option<Principal>,
    /// What the visitor's browser keeps.
    key: Key,
    until: Instant,
    /// The sign-in that its visitor has begun.
    pub(crate) begun: Option<LoginBegun>,
}

#[derive(Clone)]
struct Key(Box<str>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Visits {
    /// No links yet; each is good for so long.
    pub(crate) fn new(lasts: Duration) -> Self {
        Self {
            table: Mutex::default(),
            lasts,
        }
    }

    /// The path of the link for a principal and a server: the one that there is, or a new one. `None`: the system gives no
    /// random numbers.
    pub(crate) fn path(&self, server: &str, principal: Option<&Principal>) -> Option<String> {
        self.path_at(server, principal, Instant::now())
    }

    fn path_at(&self, server: &str, principal: Option<&Principal>, now: Instant) -> Option<String> {
        let mut table = self.lock();
        table.retain(|_, visit| visit.until > now);
        let same =
            |visit: &Visit| *visit.server == *server && visit.principal.as_ref() == principal;
        // One that is about to end is of no use to somebody who has yet to read it.
        let lasting = |visit: &Visit| visit.until > now + self.lasts / 2;
        let known = table
            .iter()
            .find(|(_, visit)| same(visit) && lasting(visit));
        if let Some((name, _)) = known {
            return Some(format!("{PREFIX}{name}"));
        }
        if table.len() >= VISITS_MAX {
            let oldest = table.iter().min_by_key(|(_, visit)| visit.until);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| table.remove(&name));
        }
        let (name, key) = (random()?, random()?);
        let visit = Visit {
            server: server.into(),
            principal: principal.cloned(),
            key: Key(key.into()),
            until: now + self.lasts,
            begun: None,
        };
        let path = format!("{PREFIX}{name}");
        table.insert(name.into(), visit);
        Some(path)
    }

    /// The link of that name.
    pub(crate) fn find(&self, name: &str) -> Option<Visit> {
        self.find_at(name, Instant::now())
    }

    fn find_at(&self, name: &str, now: Instant) -> Option<Visit> {
        let table = self.lock();
        let visit = table.get(name)?;
        (visit.until > now).then(|| visit.clone())
    }

    /// Its visitor has begun to sign in.
    pub(crate) fn begun(&self, name: &str, begun: &LoginBegun) {
        if let Some(visit) = self.lock().get_mut(name) {
            visit.begun = Some(begun.clone());
        }
    }

    /// Whether a browser that brings these cookies has the key of a link.
    pub(crate) fn has_key(&self, name: &str, cookies: &[&str]) -> bool {
        let Some(visit) = self.find(name) else {
            return false;
        };
        let called = cookie_name(name);
        cookies
            .iter()
            .flat_map(|line| line.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(name, value)| name == called && same(value, &visit.key.0))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Visit>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// What gives a browser the key. It comes back with it from the authorization server's page, too, and shows it to no script.
    pub(crate) fn cookie(&self, name: &str, is_secure: bool) -> String {
        let left = self.until.saturating_duration_since(Instant::now());
        let secure = if is_secure { "; Secure" } else { "" };
        format!(
            "{}={}; Path=/oauth/; HttpOnly; SameSite=Lax; Max-Age={}{secure}",
            cookie_name(name),
            self.key.0,
            left.as_secs()
        )
    }
}

fn cookie_name(name: &str) -> String {
    let digits = name.get(..COOKIE_DIGITS).unwrap_or(name);
    format!("{COOKIE}{digits}")
}

/// Compares without telling by its time how much is alike.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
}

fn random() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> &str {
        path.strip_prefix(PREFIX).unwrap()
    }

    #[test]
    fn f206_a_link_belongs_to_one_server_and_one_principal() {
        let visits = Visits::new(Duration::from_secs(600));
        let ann = Principal::new("ann");
        let own = visits.path("a", None).unwrap();
        assert_eq!(visits.path("a", None).unwrap(), own, "one for all calls");
        let of_ann = visits.path("a", ann.as_ref()).unwrap();
        assert_ne!(of_ann, own);
        assert_ne!(visits.path("b", None).unwrap(), own);
        let visit = visits.find(name(&of_ann)).unwrap();
        assert_eq!(
            (&*visit.server, visit.principal.as_ref()),
            ("a", ann.as_ref())
        );
        let cookie = visit.cookie(name(&of_ann), false);
        for part in ["HttpOnly", "SameSite=Lax", "Path=/oauth/", "Max-Age=5"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let brought = cookie.split(';').next().unwrap();
        assert!(visits.has_key(name(&of_ann), &["x=1", brought]));
        assert!(
            !visits.has_key(name(&own), &[brought]),
            "another link's key"
        );
        assert!(!visits.has_key(name(&of_ann), &[&brought[..brought.len() - 1]]));
        assert!(!format!("{visit:?}").contains(brought.split_once('=').unwrap().1));
        let in_s = |s: u64| Instant::now() + Duration::from_secs(s);
        let later = visits.path_at("a", None, in_s(301)).unwrap();
        assert_ne!(later, own, "one that still lasts");
        assert!(
            visits.find_at(name(&own), in_s(590)).is_some(),
            "and the old one is good until its end"
        );
        assert!(visits.find_at(name(&own), in_s(601)).is_none());
    }

    #[test]
    fn links_are_bounded() {
        let visits = Visits::new(Duration::from_secs(600));
        for n in 0..VISITS_MAX + 50 {
            visits.path(&n.to_string(), None).unwrap();
        }
        assert_eq!(visits.lock().len(), VISITS_MAX);
    }
}
