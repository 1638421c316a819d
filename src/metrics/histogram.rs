//! How long packets waited: counted where they leave the queue, added up in batches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets in microseconds, the last bucket having none: from far below
/// `queue.target` to the longest wait for a session.
pub const BOUNDS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000, 30_000_000,
];

/// How many of each bucket there were, and what all of them add up to.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

/// The waits of one batch, before they are added to the [`Histogram`] that all threads share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    buckets: [u64; BOUNDS.len() + 1],
    microseconds: u64,
    any: bool,
}

impl Batch {
    /// A packet waited so long.
    pub fn waited(&mut self, wait: Duration) {
        let microseconds = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|bound| *bound < microseconds)] += 1;
        self.microseconds = self.microseconds.wrapping_add(microseconds);
        self.any = true;
    }
}

impl Histogram {
    /// Adds a batch, which is empty afterwards.
    pub fn add(&self, batch: &mut Batch) {
        if !batch.any {
            return;
        }
        let Batch { buckets, microseconds, .. } = std::mem::take(batch);
        for (total, more) in self.buckets.iter().zip(buckets) {
            if more > 0 {
                total.fetch_add(more, Relaxed);
            }
        }
        self.microseconds.fetch_add(microseconds, Relaxed);
    }

    /// The upper bound of each bucket in seconds, and how many it has; the last has no bound.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().map(|count| count.load(Relaxed))).collect()
    }

    /// What all waits add up to.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.microseconds.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let (histogram, mut batch) = (Histogram::default(), Batch::default());
        for wait in [0, 100, 101, 5_000, 5_001, 31_000_000] {
            batch.waited(Duration::from_micros(wait));
        }
        histogram.add(&mut batch);
        assert_eq!(batch, Batch::default());
        let filled: Vec<_> =
            histogram.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.0001, 2), (0.00025, 1), (0.005, 1), (0.01, 1), (f64::INFINITY, 1)]);
        assert_eq!(histogram.sum(), Duration::from_micros(31_010_202));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_batched(
            waits in proptest::collection::vec(0_u64..40_000_000, 0..200),
            batch in 1_usize..50,
        ) {
            let histogram = Histogram::default();
            for waits in waits.chunks(batch) {
                let mut batch = Batch::default();
                waits.iter().for_each(|wait| batch.waited(Duration::from_micros(*wait)));
                histogram.add(&mut batch);
            }
            for (index, bound) in BOUNDS.iter().enumerate() {
                let below: u64 = histogram.buckets()[..=index].iter().map(|(_, count)| count).sum();
                prop_assert_eq!(below, waits.iter().filter(|wait| *wait <= bound).count() as u64);
            }
            prop_assert_eq!(histogram.sum(), Duration::from_micros(waits.iter().sum()));
        }
    }
}
