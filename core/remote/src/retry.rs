//! How long to wait before a try is repeated.

use std::time::Duration;

/// Waits that double, with jitter from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait, jitter aside.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(30), seed: 1 }
    }
}

impl Backoff {
    /// The wait after failure number `failures` (from 1) of `who`: between half of the doubled wait and all of it, so that
    /// what failed together does not come back together.
    pub fn wait(&self, who: u64, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        let bits = mix(self.seed ^ mix(who ^ mix(u64::from(failures))));
        whole.mul_f64(0.5 + 0.5 * (bits >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// SplitMix64's finaliser.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_double_up_to_the_longest(seed: u64, who: u64, failures in 1u32..100) {
            let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5), seed };
            let whole = Duration::from_millis(100).saturating_mul(1 << (failures - 1).min(20)).min(backoff.longest);
            let wait = backoff.wait(who, failures);
            prop_assert!(wait >= whole / 2 && wait <= whole);
            prop_assert_eq!(wait, backoff.wait(who, failures));
        }
    }

    #[test]
    fn jitter_spreads() {
        let backoff = Backoff::default();
        let waits: std::collections::BTreeSet<Duration> = (0..100).map(|who| backoff.wait(who, 1)).collect();
        assert_eq!(waits.len(), 100);
    }
}
