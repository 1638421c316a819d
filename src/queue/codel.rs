//! CoDel (RFC 8289): lets a queue absorb bursts, and drops from it when the wait stays above a
//! target for a whole interval, ever more often until it no longer does.

use std::time::Duration;

use crate::time::Time;

/// What CoDel is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// The wait that is fine for as long as it takes; 5 ms suits most lines.
    pub target: Duration,
    /// How long the wait may stay above `target`: about the longest round trip; 100 ms suits most.
    pub interval: Duration,
}

/// What is to be done with the packet at the head of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// Drop it and ask about the next one; or mark it, and send it.
    Drop,
}

/// The state of one queue (RFC 8289 section 4.4).
#[derive(Debug, Clone, Default)]
pub struct Codel {
    /// When the wait will have been above target for an interval, if it stays so.
    first_above: Option<Time>,
    /// When to drop next, while dropping.
    drop_next: Option<Time>,
    /// When the last drop was due, to know how long ago dropping ended.
    last_due: Time,
    /// Drops since dropping began.
    count: u32,
    /// The count when dropping began.
    last_count: u32,
}

impl Codel {
    /// Decides about a packet that has waited for `waited` at the head of a queue in which
    /// `standing` says that more than one packet waits.
    pub fn judge(
        &mut self,
        parameters: &Parameters,
        now: Time,
        waited: Duration,
        standing: bool,
    ) -> Verdict {
        let above = self.stays_above(parameters, now, waited, standing);
        match self.drop_next {
            Some(_) if !above => self.drop_next = None,
            Some(due) if now >= due => {
                self.count = self.count.saturating_add(1);
                self.schedule(parameters, due);
                return Verdict::Drop;
            }
            None if above => {
                self.begin(parameters, now);
                return Verdict::Drop;
            }
            Some(_) | None => {}
        }
        Verdict::Send
    }

    /// Whether the wait has been above target for a whole interval.
    fn stays_above(
        &mut self,
        parameters: &Parameters,
        now: Time,
        waited: Duration,
        standing: bool,
    ) -> bool {
        if waited < parameters.target || !standing {
            self.first_above = None;
            return false;
        }
        now >= *self.first_above.get_or_insert(now + parameters.interval)
    }

    /// Starts to drop: where it left off if that was not long ago, for then the load is the same.
    fn begin(&mut self, parameters: &Parameters, now: Time) {
        let since = self.count.saturating_sub(self.last_count);
        let recent = now - self.last_due < parameters.interval * 16;
        self.count = if since > 1 && recent { since } else { 1 };
        self.last_count = self.count;
        self.schedule(parameters, now);
    }

    /// The control law: the n-th drop follows after interval / sqrt(n).
    fn schedule(&mut self, parameters: &Parameters, from: Time) {
        let pause = parameters.interval.div_f64(f64::from(self.count.max(1)).sqrt());
        self.last_due = from + pause;
        self.drop_next = Some(self.last_due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: Parameters =
        Parameters { target: Duration::from_millis(5), interval: Duration::from_millis(100) };

    fn at(milliseconds: u64) -> Time {
        Time::since_boot(Duration::from_secs(9) + Duration::from_millis(milliseconds))
    }

    /// One packet a millisecond, each having waited as long as `wait` says; the times of the drops.
    fn drops(
        codel: &mut Codel,
        times: std::ops::Range<u64>,
        wait: impl Fn(u64) -> u64,
    ) -> Vec<u64> {
        times
            .filter(|time| {
                let waited = Duration::from_millis(wait(*time));
                codel.judge(&PARAMETERS, at(*time), waited, true) == Verdict::Drop
            })
            .collect()
    }

    #[test]
    fn a_wait_below_target_is_never_punished() {
        assert!(drops(&mut Codel::default(), 0..10_000, |_| 4).is_empty());
    }

    #[test]
    fn a_burst_that_drains_within_an_interval_is_let_through() {
        assert!(drops(&mut Codel::default(), 0..1000, |t| (90 - t.min(90)) + 1).is_empty());
    }

    #[test]
    fn a_standing_queue_loses_its_first_packet_after_an_interval_and_then_ever_more_often() {
        let times = drops(&mut Codel::default(), 0..700, |_| 20);
        // interval / sqrt(n): 100, 71, 58, 50, 45 ms after each other (RFC 8289 section 5.3).
        assert_eq!(times[..6], [100, 200, 271, 329, 379, 424]);
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{pauses:?}");
    }

    #[test]
    fn dropping_ends_at_once_when_the_wait_falls_below_target() {
        let mut codel = Codel::default();
        assert!(!drops(&mut codel, 0..300, |_| 20).is_empty());
        assert!(drops(&mut codel, 300..1000, |_| 1).is_empty());
    }

    #[test]
    fn a_load_that_returns_soon_meets_the_rate_it_left() {
        let mut codel = Codel::default();
        let first = drops(&mut codel, 0..2000, |_| 20);
        drops(&mut codel, 2000..2050, |_| 1);
        let again = drops(&mut codel, 2050..2400, |_| 20);
        let fresh = drops(&mut Codel::default(), 2050..2400, |_| 20);
        assert!(again.len() > 2 * fresh.len(), "{} after {first:?}", again.len());
    }

    #[test]
    fn a_load_that_returns_late_begins_anew() {
        let mut codel = Codel::default();
        drops(&mut codel, 0..2000, |_| 20);
        drops(&mut codel, 2000..9000, |_| 1);
        let again = drops(&mut codel, 9000..9400, |_| 20);
        let fresh = drops(&mut Codel::default(), 9000..9400, |_| 20);
        assert_eq!(again, fresh);
    }

    #[test]
    fn the_last_packet_of_a_queue_is_sent_however_long_it_waited() {
        let mut codel = Codel::default();
        let judge = |codel: &mut Codel, time| {
            codel.judge(&PARAMETERS, at(time), Duration::from_secs(9), false)
        };
        assert!((0..1000).all(|time| judge(&mut codel, time) == Verdict::Send));
    }
}
