//! What a caller proved itself with: the subject of a token exchange (RFC 8693).
//!
//! It is kept in memory alone, by the connections of its principal, and goes to the token endpoint of an exchange and
//! nowhere else: never to a server, the disk, a log or the API (law 31, law 32). Nothing here sends anything.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::grant::Secret;
use crate::secrets;

/// A verified token of a caller, and its times. Cheap to clone; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject(Arc<Parts>);

#[derive(PartialEq, Eq)]
struct Parts {
    token: Secret,
    issued_unix_ms: u64,
    until_unix_ms: u64,
}

impl Subject {
    /// A token that somebody has verified: when it was issued (0 where it does not say) and until when it holds, both in
    /// milliseconds since 1970.
    #[must_use]
    pub fn new(token: Secret, issued_unix_ms: u64, until_unix_ms: u64) -> Self {
        Self(Arc::new(Parts {
            token,
            issued_unix_ms,
            until_unix_ms,
        }))
    }

    /// The token itself, for the moment of the exchange.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.0.token
    }

    /// Whether it holds no longer. `now` is in milliseconds since 1970.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.0.until_unix_ms <= now
    }

    /// Whether it is the newer one of two: an order that is the same whichever comes first, so that two apps of one
    /// principal, each with a token of its own, do not replace each other's with every call.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        let rank = |it: &Self| (it.0.issued_unix_ms, it.0.until_unix_ms);
        (rank(self), self.0.token.expose()) > (rank(other), other.0.token.expose())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(…)")
    }
}

/// The newest subject of one principal at one server.
#[derive(Debug, Default)]
pub(crate) struct Newest(Mutex<Option<Subject>>);

impl Newest {
    /// The newest one replaces the former; one that holds replaces one that does not.
    pub(crate) fn bring(&self, subject: &Subject, now: u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let replaces = kept.as_ref().is_none_or(|kept| {
            kept != subject
                && !subject.is_over(now)
                && (kept.is_over(now) || subject.is_newer_than(kept))
        });
        if replaces {
            secrets::hide(subject.token().expose());
            *kept = Some(subject.clone());
        }
    }

    /// That one.
    pub(crate) fn get(&self) -> Option<Subject> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(token: &str, issued: u64, until: u64) -> Subject {
        Subject::new(Secret::new(token), issued, until)
    }

    #[test]
    fn law_31_a_subject_is_never_shown() {
        let shown = format!("{:?}", subject("a-token-of-ann", 0, 1));
        assert!(!shown.contains("ann"), "{shown}");
        let newest = Newest::default();
        newest.bring(&subject("a-token-of-ann-that-came", 0, 1), 0);
        let told = secrets::scrub_live("got a-token-of-ann-that-came").into_owned();
        assert!(!told.contains("ann"), "{told}");
    }

    #[test]
    fn the_newest_subject_replaces_the_former_and_never_the_other_way_round() {
        let newest = Newest::default();
        let (first, second) = (subject("first", 10, 900), subject("second", 20, 500));
        for brought in [&first, &second, &first, &second, &first] {
            newest.bring(brought, 100);
        }
        assert_eq!(newest.get(), Some(second.clone()));
        // One that is over is no better than an older one that holds.
        newest.bring(&first, 600);
        assert_eq!(newest.get(), Some(first.clone()));
        newest.bring(&second, 600);
        assert_eq!(newest.get(), Some(first));
    }
}
