//! How often clients were turned away, and why: counted for `/metrics`, told in the log now and then, never to the client.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Denied;

/// A line of the log for this long.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What is wrong with what says who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It is no token of ours, and of nobody whom we trust.
    Unknown,
    /// It was one.
    Expired,
    /// It was one, until somebody revoked it.
    Revoked,
    /// It is not one yet.
    NotYet,
    /// It has no end.
    Endless,
    /// It cannot be read.
    Malformed,
    /// It is longer than any.
    TooLong,
    /// It is signed in a way that proves nothing.
    Algorithm,
    /// It is no access token.
    Type,
    /// It is of an issuer whom we do not trust.
    Issuer,
    /// Its issuer has no such key.
    Key,
    /// Its issuer did not sign it.
    Signature,
    /// It is of nobody in particular.
    Subject,
    /// It is meant for somebody else.
    Audience,
    /// It is bound to something that its sender did not show.
    Bound,
    /// The TLS handshake failed.
    Handshake,
}

/// The words for reasons, as `/metrics` has them.
pub(crate) const REASONS: [&str; 20] = [
    "missing",
    "unknown",
    "expired",
    "revoked",
    "not-yet",
    "endless",
    "malformed",
    "too-long",
    "algorithm",
    "type",
    "issuer",
    "key",
    "signature",
    "subject",
    "audience",
    "bound",
    "handshake",
    "scope",
    "form",
    "unavailable",
];

impl Denied {
    /// Its place in [`REASONS`].
    fn index(self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Invalid(why) => match why {
                Why::Unknown => 1,
                Why::Expired => 2,
                Why::Revoked => 3,
                Why::NotYet => 4,
                Why::Endless => 5,
                Why::Malformed => 6,
                Why::TooLong => 7,
                Why::Algorithm => 8,
                Why::Type => 9,
                Why::Issuer => 10,
                Why::Key => 11,
                Why::Signature => 12,
                Why::Subject => 13,
                Why::Audience => 14,
                Why::Bound => 15,
                Why::Handshake => 16,
            },
            Self::Scope => 17,
            Self::Form(_) => 18,
            Self::Unavailable => 19,
        }
    }

    /// Its word.
    pub(crate) fn reason(self) -> &'static str {
        REASONS.get(self.index()).copied().unwrap_or("unknown")
    }
}

/// How often clients were turned away.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    by_reason: [AtomicU64; REASONS.len()],
    certificate_failures: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    /// Since then.
    untold: u64,
}

impl Counts {
    /// Counts a request that was turned away, and tells it if the last time is long ago.
    pub(crate) fn denied(&self, denied: Denied, from: Option<SocketAddr>) {
        if let Some(count) = self.by_reason.get(denied.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // How every sign-in begins.
        if denied == Denied::Missing {
            return;
        }
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= TELL_EVERY);
        if !is_due {
            told.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut told.untold);
        told.last = Some(now);
        drop(told);
        let from = from.map(|from| from.ip().to_string());
        tracing::warn!(
            reason = denied.reason(),
            from = from.as_deref().unwrap_or("unknown"),
            untold,
            "a client was turned away"
        );
    }

    /// Counts a new certificate of the port that could not be used.
    pub(crate) fn certificate_failed(&self) {
        self.certificate_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How often there was one.
    pub(crate) fn certificate_failures(&self) -> u64 {
        self.certificate_failures.load(Ordering::Relaxed)
    }

    /// By reason, in the order of [`REASONS`].
    pub(crate) fn read(&self) -> [u64; REASONS.len()] {
        std::array::from_fn(|at| {
            self.by_reason
                .get(at)
                .map_or(0, |count| count.load(Ordering::Relaxed))
        })
    }
}
