//! What goes up and down is told of each time, unless it flaps.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// Lets changes of one thing's state through, at most so many within an interval.
///
/// What comes on top is only counted. When there is room again, [`Self::settled`] says so: a line
/// is due then on how things are, so that the last word in a log is never out of date.
///
/// The time is passed in.
#[derive(Debug, Clone)]
pub struct Flap {
    interval: Duration,
    changes: usize,
    told: VecDeque<Time>,
    untold: u64,
}

impl Flap {
    /// At most this many `changes` (at least one) are told of within each `interval`.
    pub fn new(interval: Duration, changes: usize) -> Self {
        Self { interval, changes: changes.max(1), told: VecDeque::new(), untold: 0 }
    }

    /// The state has changed. Says whether that is to be told.
    pub fn changed(&mut self, now: Time) -> bool {
        let told = self.untold == 0 && self.has_room(now);
        if told {
            self.told.push_back(now);
        } else {
            self.untold += 1;
        }
        told
    }

    /// When [`Self::settled`] has something to say.
    pub fn due(&self) -> Option<Time> {
        let oldest = self.told.front().filter(|_| self.untold > 0)?;
        Some(*oldest + self.interval)
    }

    /// How many changes were left out since the last line, when a line on how things are is due.
    pub fn settled(&mut self, now: Time) -> Option<u64> {
        if self.untold == 0 || !self.has_room(now) {
            return None;
        }
        self.told.push_back(now);
        Some(std::mem::take(&mut self.untold))
    }

    fn has_room(&mut self, now: Time) -> bool {
        while self.told.front().is_some_and(|told| now - *told >= self.interval) {
            self.told.pop_front();
        }
        self.told.len() < self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Time {
        Time::since_boot(Duration::from_secs(1000 + seconds))
    }

    #[test]
    fn what_changes_now_and_then_is_always_told() {
        let mut flap = Flap::new(MINUTE, 4);
        for n in 0..100 {
            assert!(flap.changed(at(n * 20)));
            assert_eq!((flap.due(), flap.settled(at(n * 20))), (None, None));
        }
    }

    #[test]
    fn what_flaps_is_counted_and_the_last_state_is_told_when_there_is_room() {
        let mut flap = Flap::new(MINUTE, 4);
        let told = (0..30).filter(|second| flap.changed(at(*second))).count();
        assert_eq!(told, 4);
        assert_eq!(flap.settled(at(59)), None);
        assert_eq!(flap.due(), Some(at(60)));
        assert_eq!(flap.settled(at(60)), Some(26));
        assert_eq!((flap.due(), flap.settled(at(60))), (None, None));
    }

    #[test]
    fn lines_are_bounded_however_long_it_flaps() {
        let mut flap = Flap::new(MINUTE, 4);
        let mut lines = 0;
        for tenth in 0..36_000 {
            let now = at(0) + Duration::from_millis(100 * tenth);
            lines += usize::from(flap.settled(now).is_some());
            lines += usize::from(flap.changed(now));
        }
        assert!(lines <= 4 * 61, "{lines} lines in an hour");
    }
}
