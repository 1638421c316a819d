//! Feeds systemd's watchdog for as long as every worker goes round its loop.
//!
//! The workers are asked four times within what systemd allows, and count as alive for half of it:
//! one answer that comes late costs nothing, and a worker that hangs is found out before one and a
//! half times the limit. Where nobody asked, because the machine slept or the main loop was late,
//! nobody is blamed.

use std::time::Duration;

use crate::time::Time;

/// Whose answers the watchdog waits for.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    next: Time,
    answered: Vec<Time>,
    stalled: Option<usize>,
}

/// What to do about the watchdog. The workers are to be asked anew with either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Tell systemd that all is well.
    Feed,
    /// Tell it nothing, for this worker does not answer.
    Withhold {
        /// The worker's index.
        worker: usize,
        /// Whether that has not been so the last time.
        news: bool,
    },
}

impl Watchdog {
    /// A watchdog that bites after `limit`, with this many workers that have just begun.
    pub fn new(limit: Duration, workers: usize, now: Time) -> Self {
        Self { limit, next: now, answered: vec![now; workers], stalled: None }
    }

    /// When [`Self::poll`] has something to say.
    pub fn due(&self) -> Time {
        self.next
    }

    /// A worker has answered.
    pub fn answered(&mut self, worker: usize, now: Time) {
        self.answered[worker] = now;
    }

    /// What to do now, if anything.
    pub fn poll(&mut self, now: Time) -> Option<Verdict> {
        if now < self.next {
            return None;
        }
        let patience = self.limit / 2;
        // Later than this, patience may have run out since the workers were asked.
        if now - self.next > self.limit / 4 {
            self.answered.fill(now);
        }
        self.next = now + self.limit / 4;
        let late = self.answered.iter().position(|answered| now - *answered > patience);
        let before = std::mem::replace(&mut self.stalled, late);
        Some(match late {
            None => Verdict::Feed,
            Some(worker) => Verdict::Withhold { worker, news: before != late },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Runs two workers for a while, the second of which answers only when `answers` says so.
    /// Gives when the watchdog was fed, in seconds.
    fn fed(answers: impl Fn(u64) -> bool) -> Vec<u64> {
        let start = Time::since_boot(Duration::from_secs(1000));
        let mut watchdog = Watchdog::new(LIMIT, 2, start);
        let mut fed = Vec::new();
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            if let Some(verdict) = watchdog.poll(now) {
                if verdict == Verdict::Feed {
                    fed.push(second);
                }
                watchdog.answered(0, now);
                if answers(second) {
                    watchdog.answered(1, now);
                }
            }
        }
        fed
    }

    #[test]
    fn it_is_fed_four_times_within_the_limit() {
        assert_eq!(fed(|_| true), (0..60).step_by(5).collect::<Vec<_>>());
    }

    #[test]
    fn a_missed_answer_costs_nothing() {
        assert_eq!(fed(|second| second != 20), fed(|_| true));
    }

    #[test]
    fn a_worker_that_hangs_starves_it_within_one_and_a_half_times_the_limit() {
        let fed = fed(|second| second < 20);
        assert_eq!(fed.last(), Some(&25));
        assert!(25 + LIMIT.as_secs() <= 15 + LIMIT.as_secs() * 3 / 2);
    }

    #[test]
    fn a_machine_that_slept_blames_no_worker_but_one_that_hangs_after_it() {
        let start = Time::since_boot(Duration::from_secs(1000));
        let mut watchdog = Watchdog::new(LIMIT, 2, start);
        assert_eq!(watchdog.poll(start), Some(Verdict::Feed));
        let awake = start + Duration::from_secs(3600);
        assert_eq!(watchdog.poll(awake), Some(Verdict::Feed));
        watchdog.answered(0, awake);
        for quarter in 1..=2 {
            let now = awake + LIMIT / 4 * quarter;
            assert_eq!(watchdog.poll(now), Some(Verdict::Feed));
            watchdog.answered(0, now);
        }
        let late = awake + LIMIT / 4 * 3;
        assert_eq!(watchdog.poll(late), Some(Verdict::Withhold { worker: 1, news: true }));
    }

    #[test]
    fn however_long_it_slept_nobody_is_blamed_for_it() {
        let start = Time::since_boot(Duration::from_secs(1000));
        for tenth in 1..=30 {
            let mut watchdog = Watchdog::new(LIMIT, 1, start);
            assert_eq!(watchdog.poll(start), Some(Verdict::Feed));
            watchdog.answered(0, start);
            let awake = start + LIMIT * tenth / 10;
            let blamed = matches!(watchdog.poll(awake), Some(Verdict::Withhold { .. }));
            assert!(!blamed, "after {tenth} tenths of the limit");
        }
    }

    #[test]
    fn a_worker_that_hangs_is_news_once() {
        let start = Time::since_boot(Duration::from_secs(1000));
        let mut watchdog = Watchdog::new(LIMIT, 2, start);
        for quarter in 0..=2 {
            assert_eq!(watchdog.poll(start + LIMIT / 4 * quarter), Some(Verdict::Feed));
        }
        let late = start + LIMIT / 4 * 3;
        watchdog.answered(0, late);
        assert_eq!(watchdog.poll(late), Some(Verdict::Withhold { worker: 1, news: true }));
        assert_eq!(watchdog.poll(late), None, "not before the next quarter");
        let later = late + LIMIT / 4;
        assert_eq!(watchdog.poll(later), Some(Verdict::Withhold { worker: 1, news: false }));
        watchdog.answered(1, later);
        assert_eq!(watchdog.poll(later + LIMIT / 4), Some(Verdict::Feed));
    }
}
