//! How long to wait after a failure: exponential, capped, fully jittered, honouring the server's wish (law 10).

use crate::policy::BackoffPolicy;

/// The delay before the next attempt after the `charges`-th failure in a row without proof of health: a random number
/// between zero and `min(cap, base * 2^(charges - 1))`. `draw` is any 64-bit number; equal draws give equal delays.
#[must_use]
pub fn delay_ms(policy: &BackoffPolicy, charges: u32, draw: u64) -> u64 {
    let bound = bound_ms(policy, charges);
    // The bias of the remainder is below 2^-40 for every bound that makes sense here.
    if bound == u64::MAX {
        draw
    } else {
        draw % (bound + 1)
    }
}

/// The largest delay that [`delay_ms`] can give. Zero charges wait like one.
#[must_use]
pub fn bound_ms(policy: &BackoffPolicy, charges: u32) -> u64 {
    let doublings = charges.saturating_sub(1);
    let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
    policy.base_ms.saturating_mul(factor).min(policy.cap_ms)
}

/// The server's Retry-After, clamped to our window (F102, F103).
#[must_use]
pub fn retry_after_ms(policy: &BackoffPolicy, asked_ms: u64) -> u64 {
    // Not `clamp`: a window configured upside down must not panic.
    asked_ms
        .max(policy.retry_after_ms_min)
        .min(policy.retry_after_ms_max)
}

/// The generator behind the jitter: SplitMix64. Advances `state` and returns 64 well-mixed bits.
pub(crate) fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn law_10_delays_double_up_to_the_cap_and_are_fully_jittered() {
        let policy = Policy::default().backoff;
        let bounds: Vec<u64> = (0..=9).map(|charges| bound_ms(&policy, charges)).collect();
        assert_eq!(
            bounds,
            [
                250, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000
            ]
        );
        assert_eq!(
            bound_ms(&policy, u32::MAX),
            30_000,
            "no overflow after hours (F118)"
        );

        let mut seed = 7;
        let delays: Vec<u64> = (0..2_000)
            .map(|_| delay_ms(&policy, 3, draw(&mut seed)))
            .collect();
        assert!(delays.iter().all(|delay| *delay <= 1_000));
        assert!(
            delays.iter().any(|delay| *delay < 100) && delays.iter().any(|delay| *delay > 900),
            "full jitter"
        );
    }

    #[test]
    fn equal_seeds_replay() {
        let sequence = |mut seed: u64| -> Vec<u64> { (0..8).map(|_| draw(&mut seed)).collect() };
        assert_eq!(sequence(42), sequence(42));
        assert_ne!(sequence(42), sequence(43));
    }

    #[test]
    fn retry_after_is_clamped_f103() {
        let policy = Policy::default().backoff;
        assert_eq!(retry_after_ms(&policy, 0), 1_000);
        assert_eq!(retry_after_ms(&policy, 5_000), 5_000);
        assert_eq!(retry_after_ms(&policy, 3_600_000), 600_000);
    }
}
