//! When a token is worth showing, when its successor is fetched, and what ends a grant.
//!
//! Expiry is a hint and never proof: clocks are wrong, and issuers say one thing and do another. What a hint may cause is a
//! refresh; only the server's refusal of a token proves that it is dead, and only the issuer's refusal of a refresh token
//! proves that the grant is (F207, F210). Times come in from outside, jitter from a seed.

use crate::backoff;
use crate::policy::BackoffPolicy;

/// The numbers. Parts are of the token's lifetime, in thousandths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenPolicy {
    /// The successor is fetched this much before the end at least: 100, and up to twice that by jitter (F208).
    pub early_part: u64,
    /// But not earlier than this (before jitter), in milliseconds: 10 min.
    pub early_ms_max: u64,
    /// A token this close to its end may expire on its way: 50.
    pub margin_part: u64,
    /// But no more than this, in milliseconds: 30 s.
    pub margin_ms_max: u64,
    /// Attempts to refresh after failures that mean nothing. Retry-After counts for 1 s to 10 min.
    pub backoff: BackoffPolicy,
}

impl Default for TokenPolicy {
    fn default() -> Self {
        Self {
            early_part: 100,
            early_ms_max: 600_000,
            margin_part: 50,
            margin_ms_max: 30_000,
            backoff: BackoffPolicy {
                base_ms: 1_000,
                cap_ms: 60_000,
                retry_after_ms_min: 1_000,
                retry_after_ms_max: 600_000,
            },
        }
    }
}

/// How old a token is, by two clocks of which neither is to be believed alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Age {
    /// Its age when this process first had it, as far as that could be told ([`age_when_read`]); `None`: it could not.
    pub when_read_ms: Option<u64>,
    /// How long this process has had it, on a clock that nobody can set.
    pub held_ms: u64,
    /// Its age on the wall clock now; `None`: it came from the future.
    pub wall_ms: Option<u64>,
}

/// What is to be done about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Freshness {
    /// Show it.
    Fresh,
    /// Show it, and fetch its successor meanwhile.
    Due,
    /// Fetch its successor first. If none can be had for now, it may be shown all the same: nobody has refused it yet.
    Stale,
}

/// The age of a token that was just read from somewhere, by the wall clock alone; `None`: it came from the future, so that
/// clock has been set back and says nothing.
#[must_use]
pub const fn age_when_read(received_unix_ms: u64, now_unix_ms: u64) -> Option<u64> {
    now_unix_ms.checked_sub(received_unix_ms)
}

/// Whether a token that is good for `lifetime_ms` (`None`: nobody knows) is still worth showing (F207).
///
/// A wall clock that was set forward makes it due and no more: it is still shown. One that was set back changes nothing:
/// the other clock goes on. `seed` spreads the successors of tokens that were given at the same time (F208).
#[must_use]
pub fn freshness(policy: &TokenPolicy, lifetime_ms: Option<u64>, age: Age, seed: u64) -> Freshness {
    let Some(lifetime_ms) = lifetime_ms else {
        return Freshness::Fresh;
    };
    let by = |age_ms: u64| by_age(policy, lifetime_ms, age_ms, seed);
    let steady = match age.when_read_ms {
        Some(read_ms) => by(read_ms.saturating_add(age.held_ms)),
        // How old it was then is not known; that it is older than this is.
        None => by(age.held_ms).max(Freshness::Due),
    };
    let wall = age.wall_ms.map_or(Freshness::Fresh, by);
    match (steady, wall) {
        (Freshness::Fresh, Freshness::Due | Freshness::Stale) => Freshness::Due,
        (steady, _) => steady,
    }
}

fn by_age(policy: &TokenPolicy, lifetime_ms: u64, age_ms: u64, seed: u64) -> Freshness {
    let part = |thousandths: u64| {
        lifetime_ms / 1_000 * thousandths + lifetime_ms % 1_000 * thousandths / 1_000
    };
    let margin_ms = part(policy.margin_part).min(policy.margin_ms_max);
    let early_ms = part(policy.early_part).min(policy.early_ms_max);
    let mut state = seed;
    let jitter_ms = backoff::draw(&mut state) % (early_ms + 1);
    let early_ms = early_ms.saturating_add(jitter_ms).max(margin_ms);
    if age_ms >= lifetime_ms.saturating_sub(margin_ms) {
        Freshness::Stale
    } else if age_ms >= lifetime_ms.saturating_sub(early_ms) {
        Freshness::Due
    } else {
        Freshness::Fresh
    }
}

/// How long to wait after the `failures`-th attempt in a row that failed for a reason that means nothing (F210): the
/// issuer's wish, if it has one, otherwise a jittered backoff that begins after half a second.
#[must_use]
pub fn retry_in_ms(
    policy: &TokenPolicy,
    failures: u32,
    retry_after_ms: Option<u64>,
    seed: &mut u64,
) -> u64 {
    if let Some(asked_ms) = retry_after_ms {
        return backoff::retry_after_ms(&policy.backoff, asked_ms);
    }
    let bound_ms = backoff::bound_ms(&policy.backoff, failures);
    // Half of it is certain: an issuer in trouble is not asked twice in the same moment by anybody.
    bound_ms / 2 + backoff::draw(seed) % (bound_ms / 2 + 1)
}

/// What a refused refresh token means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Somebody else has stored another one meanwhile: that one is the grant, and this refusal says nothing about it.
    Superseded,
    /// The grant is over.
    Over,
    /// It is not stored any more: somebody has signed out.
    Gone,
}

/// What it means that the issuer refused this refresh token, when that one is stored now (F199).
#[must_use]
pub fn refused(refresh: &str, stored: Option<&str>) -> Refused {
    match stored {
        None => Refused::Gone,
        Some(stored) if stored == refresh => Refused::Over,
        Some(_) => Refused::Superseded,
    }
}

/// Whether the stored pair answers the need for another token than the rejected one, without any request (F197, F198).
/// `rejected`: the access token that the server refused; `None`: the need is one of age.
#[must_use]
pub fn answers(rejected: Option<&str>, stored: &str, freshness: Freshness) -> bool {
    match rejected {
        Some(rejected) => rejected != stored,
        None => freshness == Freshness::Fresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn at(age_ms: u64, wall_ms: Option<u64>) -> Freshness {
        let age = Age {
            when_read_ms: Some(0),
            held_ms: age_ms,
            wall_ms,
        };
        freshness(&TokenPolicy::default(), Some(HOUR_MS), age, 7)
    }

    #[test]
    fn f208_successors_are_fetched_early_and_not_all_at_once() {
        let policy = TokenPolicy::default();
        let due = |lifetime_ms: u64, seed: u64| {
            (0..=100_u64)
                .map(|percent| lifetime_ms * percent / 100)
                .find(|age_ms| by_age(&policy, lifetime_ms, *age_ms, seed) != Freshness::Fresh)
                .expect("it is due some time")
        };
        for lifetime_ms in [2_000, 60_000, 300_000, HOUR_MS] {
            let when: std::collections::BTreeSet<u64> =
                (0..64).map(|seed| due(lifetime_ms, seed)).collect();
            assert!(when.len() > 5, "spread: {when:?}");
            assert!(
                when.iter().all(|at| *at >= lifetime_ms * 79 / 100),
                "{when:?}"
            );
            assert!(
                when.iter().all(|at| *at <= lifetime_ms * 91 / 100),
                "{when:?}"
            );
        }
        // A day's token is not given up hours before its end.
        assert_eq!(
            by_age(&policy, 24 * HOUR_MS, 23 * HOUR_MS, 3),
            Freshness::Fresh
        );
    }

    #[test]
    fn f207_a_clock_that_was_set_neither_keeps_a_token_for_ever_nor_throws_a_good_one_away() {
        assert_eq!(at(0, Some(0)), Freshness::Fresh);
        assert_eq!(at(HOUR_MS / 2, Some(HOUR_MS / 2)), Freshness::Fresh);
        // Set forward by an hour: it is shown, and its successor is fetched.
        assert_eq!(at(HOUR_MS / 2, Some(HOUR_MS * 3 / 2)), Freshness::Due);
        // Set back by an hour: it ends when it ends.
        assert_eq!(at(HOUR_MS / 2, None), Freshness::Fresh);
        assert_eq!(at(HOUR_MS, None), Freshness::Stale);
        assert_eq!(at(HOUR_MS, Some(0)), Freshness::Stale);
    }

    #[test]
    fn f207_a_token_from_the_future_is_shown_and_replaced() {
        assert_eq!(age_when_read(5, 3), None);
        let age = Age {
            when_read_ms: None,
            held_ms: 0,
            wall_ms: None,
        };
        let policy = TokenPolicy::default();
        assert_eq!(freshness(&policy, Some(HOUR_MS), age, 0), Freshness::Due);
        let later = Age {
            held_ms: HOUR_MS,
            ..age
        };
        assert_eq!(
            freshness(&policy, Some(HOUR_MS), later, 0),
            Freshness::Stale
        );
        assert_eq!(
            freshness(&policy, None, later, 0),
            Freshness::Fresh,
            "unknown expiry"
        );
    }

    #[test]
    fn f207_every_lifetime_has_an_end_and_no_arithmetic_overflows() {
        let policy = TokenPolicy::default();
        for lifetime_ms in [0, 1, 19, 999, u64::MAX] {
            for seed in [0, u64::MAX] {
                assert_eq!(
                    by_age(&policy, lifetime_ms, u64::MAX, seed),
                    Freshness::Stale
                );
                let young = by_age(&policy, lifetime_ms, 0, seed);
                assert!(
                    lifetime_ms < 2 || young == Freshness::Fresh,
                    "{lifetime_ms}"
                );
            }
        }
    }

    #[test]
    fn f210_failures_that_mean_nothing_are_retried_ever_more_rarely_and_wishes_are_kept() {
        let policy = TokenPolicy::default();
        let mut seed = 1;
        for (failures, bound_ms) in [(1, 1_000), (2, 2_000), (4, 8_000), (40, 60_000)] {
            for _ in 0..100 {
                let wait_ms = retry_in_ms(&policy, failures, None, &mut seed);
                assert!((bound_ms / 2..=bound_ms).contains(&wait_ms), "{wait_ms}");
            }
        }
        assert_eq!(retry_in_ms(&policy, 1, Some(5_000), &mut seed), 5_000);
        assert_eq!(retry_in_ms(&policy, 1, Some(u64::MAX), &mut seed), 600_000);
    }

    #[test]
    fn f199_only_the_refusal_of_the_stored_token_ends_a_grant() {
        assert_eq!(refused("r1", Some("r1")), Refused::Over);
        assert_eq!(refused("r1", Some("r2")), Refused::Superseded);
        assert_eq!(refused("r1", None), Refused::Gone);
    }

    #[test]
    fn f197_f198_another_pair_than_the_rejected_one_needs_no_request() {
        assert!(answers(Some("a1"), "a2", Freshness::Stale));
        assert!(!answers(Some("a1"), "a1", Freshness::Fresh));
        assert!(answers(None, "a1", Freshness::Fresh));
        assert!(!answers(None, "a1", Freshness::Due));
    }
}
