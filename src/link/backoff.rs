//! How long to wait before the next attempt: exponential, with full jitter.

use std::time::Duration;

/// The waiting times between attempts: each drawn evenly from zero to a bound that doubles from
/// `min` up to `max`, so that two ends that lost each other don't meet in step for ever.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    attempt: u32,
    state: u64,
}

impl Backoff {
    /// Waits below `min` first, below `max` in the end. The same seed gives the same times.
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, attempt: 0, state: seed }
    }

    /// How long to wait now.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.min.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX));
        self.attempt = self.attempt.saturating_add(1);
        let bound = u64::try_from(bound.min(self.max).as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random() % bound.saturating_add(1))
    }

    /// From now on waits are below these bounds.
    pub fn set_bounds(&mut self, min: Duration, max: Duration) {
        (self.min, self.max) = (min, max);
    }

    /// Starts over with short times.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): spreads attempts, protects nothing.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(30);

    proptest! {
        #[test]
        fn every_wait_stays_below_its_bound(seed: u64, resets in prop::collection::vec(1u32..40, 1..4)) {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            for attempts in resets {
                for attempt in 0..attempts {
                    let bound = MIN.saturating_mul(2u32.saturating_pow(attempt)).min(MAX);
                    prop_assert!(backoff.next_delay() <= bound);
                }
                backoff.reset();
            }
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let mut backoff = Backoff::new(MAX, MAX, 1);
        let waits: Vec<_> = (0..200).map(|_| backoff.next_delay()).collect();
        assert!(waits.iter().any(|wait| *wait < MAX / 10));
        assert!(waits.iter().any(|wait| *wait > MAX * 9 / 10));
    }
}
